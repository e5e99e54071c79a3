"""enable() and disable(): from overlays to patched targets and back."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import itertools
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing import util as multiprocessing_util
from types import ModuleType
from typing import Any

from ascend_overlay import importing, live, plan, process, pydantic_models, records, versions
from ascend_overlay import settings as settings_module
from ascend_overlay.bindings import Swap, names_used, rebind_everywhere
from ascend_overlay.errors import ActivationError, ConfigError, OverlayError, PluginError, VersionError
from ascend_overlay.hooks.manager import Failure, Origin, Plugins
from ascend_overlay.overlay import Overlay
from ascend_overlay.patches import Applied, Context
from ascend_overlay.plan import Item, Unit
from ascend_overlay.records import Entry, Ledger, LedgerFolder
from ascend_overlay.settings import Settings
from ascend_overlay.slots import Attribute, Slots
from ascend_overlay.target import locate

logger = logging.getLogger("ascend_overlay")

_PATIENCE = 5.0
"""Seconds that the import of vLLM waits for an enable() in another thread."""
_LAST_PATIENCE = 120.0
"""Seconds that an enable() waits for one in another thread before it says that they block each other."""


class _BusyError(ActivationError):
    """Another thread is in enable() or disable()."""


class Engine:
    """All state of one process. There is one instance; the functions below are its public face.

    Two locks: `_serial` lets one enable() or disable() run at a time; `_state` guards the patched places for the short
    time of applying or reverting. No import happens under `_state`: another thread may hold an import lock and be
    waiting, in a post-import callback, for `_state`.
    """

    def __init__(self) -> None:
        self._serial = threading.RLock()
        self._state = threading.RLock()
        self.plugins = Plugins()
        self._overlays: dict[str, tuple[Overlay, Origin]] = {}
        self._units: dict[str, Unit] = {}
        self._extra: list[Entry] = []
        self._notes: list[tuple[str, str]] = []
        self._asked: set[Origin] = set()
        self._slots = Slots()
        self._stand_ins: dict[int, type] = {}
        self._watched: set[str] = set()
        self._propagation = process.Propagation()
        self._switched_off = False
        self._process = records.describe_process()
        self._folder: LedgerFolder | None = None
        self._hooked_exit = False
        self._snapshots = itertools.count(1)
        self._writing = threading.RLock()
        self._written = 0

    # --- switching on -------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _alone(self, patience: float = _LAST_PATIENCE) -> Iterator[None]:
        """Let one enable() or disable() run at a time.

        Raises:
            ActivationError: another thread does not get done.
        """
        if not self._serial.acquire(timeout=patience):
            raise _BusyError(
                f"another thread has been in enable() or disable() for {patience:.0f} s. It may be waiting for a "
                f"module that this thread is importing: call enable() before you start threads that import vLLM, or "
                f"not inside a module that is being imported."
            )
        try:
            yield
        finally:
            self._serial.release()

    @property
    def overlays(self) -> dict[str, Overlay]:
        """The overlays that were contributed, by name."""
        return {name: overlay for name, (overlay, _) in self._overlays.items()}

    def settings(self, **arguments: Any) -> Settings:
        """Return the settings of the environment, as it was before any enable(), with `arguments` over them."""
        return Settings.from_env(self._propagation.original()).updated(**arguments)

    def enable(self, settings: Settings, *, propagate: bool = True, patience: float = _LAST_PATIENCE) -> list[str]:
        """Enable what `settings` ask for and is not enabled yet; return the names of what is new."""
        with self._alone(patience):
            names, unfinished = self._enable(settings, propagate)
        # Not under the lock: another thread that imports one of these may be waiting to enter enable() itself.
        try:
            for module in unfinished:
                importing.when_imported(module, functools.partial(self._on_import, module))
        except BaseException:
            self.disable(names, force=True)
            raise
        return names

    def _enable(self, settings: Settings, propagate: bool) -> tuple[list[str], list[str]]:
        earlier, folder = settings_module.in_force(), self._folder
        joined = settings.joined(earlier) if earlier is not None else settings
        try:
            self._prepare_ledger(joined)
            names = self._select(settings)
            settings_module.use(joined)
            unfinished = self._enable_new(names, settings)
        except BaseException:
            settings_module.use(earlier)
            self._write()
            self._folder = folder
            raise
        self._switched_off = False
        if propagate:
            self._propagation.start(joined.to_env())
        self._hook_exit()
        self._write()
        return names, unfinished

    def enable_automatically(self) -> None:
        """Enable what is in force or in the environment, unless the user switched everything off or is about to act."""
        if self._switched_off:
            return
        with contextlib.suppress(_BusyError):
            self.enable(settings_module.current(), patience=_PATIENCE)

    def check(self, settings: Settings) -> None:
        """See that the ledger can be written, the plugins load and the overlays that `settings` name exist.

        Raises:
            OverlayError: not so.
        """
        self._prepare_ledger(settings)
        self._folder = None
        self._select(settings)

    def _select(self, settings: Settings) -> list[str]:
        """Load the plugins; return the names of the overlays to enable that are not enabled yet."""
        self.plugins.load(settings)
        self._collect_overlays()
        self._report_plugins(settings)
        return [name for name in plan.select(self.overlays, settings) if name not in self._units]

    def _enable_new(self, names: list[str], settings: Settings) -> list[str]:
        ranks = plan.ranks(self.overlays)
        units = [plan.unit_of(*self._overlays[name], ranks[name]) for name in names]
        if problem := plan.missing_vllm(units):
            self._complain(VersionError(problem), settings)
        if problem := plan.unimportable_torch(units):
            self._complain(ActivationError(problem), settings)
        with self._state:
            self._extra = [entry for entry in self._extra if entry.overlay not in names]
            self._units.update({unit.name: unit for unit in units})
            for unit in self._units.values():
                self._give_rank(unit, ranks[unit.name])
        displaced: list[Unit] = []
        try:
            for unit in units:
                self._admit(unit, settings)
            displaced.extend(self._settle_conflicts(settings, names))
            return self._start(units, settings)
        except BaseException:
            self._withdraw(names)
            self._revive(displaced, settings)
            raise

    def _give_rank(self, unit: Unit, rank: int) -> None:
        unit.rank = rank
        for item in unit.items:
            for _, change in item.applied.changed if item.applied is not None else ():
                change.rank = rank

    def _prepare_ledger(self, settings: Settings) -> None:
        self._folder = LedgerFolder(settings.ledger) if settings.ledger else None
        if self._folder is None:
            return
        try:
            self._folder.check()
        except OverlayError as error:
            self._folder = None
            self._complain(error, settings)

    def _collect_overlays(self) -> None:
        # pluggy asks the last registered first; overlays count in the order of registration, the built-in ones first.
        for origin, answer in reversed(list(self.plugins.each("ascend_overlay_overlays", leave_out=self._asked))):
            try:
                overlays = _overlays_in(answer, origin)
            except PluginError as error:
                self.plugins.problems.append((origin, error))
                continue
            self._asked.add(origin)
            for overlay in overlays:
                known = self._overlays.get(overlay.name)
                if known is not None and known[0] is not overlay:
                    text = f"{origin} and {known[1]} both contribute an overlay named {overlay.name!r}; rename one."
                    self.plugins.problems.append((origin, PluginError(text)))
                    self._asked.discard(origin)
                    continue
                self._overlays[overlay.name] = (overlay, origin)

    def _report_plugins(self, settings: Settings) -> None:
        with self._state:
            self._extra = [entry for entry in self._extra if entry.kind != "plugin"]
            for origin, reason in self.plugins.not_asked:
                self._extra.append(plan.entry_for("", origin, origin.plugin, "plugin", "skipped", reason))
            for origin, error in self.plugins.problems:
                self._extra.append(plan.entry_for("", origin, origin.plugin, "plugin", "failed", str(error)))
        for _, error in self.plugins.problems:
            self._complain(error, settings)

    def _admit(self, unit: Unit, settings: Settings) -> None:
        """Skip the unit, or those of its patches that do not apply here."""
        if reason := plan.unfit(unit.overlay):
            if unit.name in settings.only and not any(item.patch.vllm for item in unit.items):
                error = VersionError(f"overlay {unit.name!r} ({unit.origin}) does not fit: {reason}.")
                self._complain(error, settings)
            self._skip_unit(unit, reason)
            return
        veto = self._ask("ascend_overlay_select", settings, overlay=unit.overlay)
        if veto:
            self._skip_unit(unit, str(veto))
            return
        for item in unit.items:
            if reason := plan.patch_unfit(item) or self._condition(item, now=False):
                item.entry.state, item.entry.reason = "skipped", reason

    def _condition(self, item: Item, *, now: bool = True) -> str | None:
        """Return why the conditions rule the patch out; without `now`, those that only hold once vLLM runs can wait."""
        for condition in (item.unit.overlay.when, item.patch.when):
            if condition is None or (condition.late and not now):
                continue
            try:
                reason = condition.why_not()
            except Exception as error:
                raise ConfigError(
                    f"the condition {condition.text!r} of overlay {item.unit.name!r} ({item.unit.origin}) cannot be "
                    f"evaluated for {item.entry.target}: {type(error).__name__}: {error}"
                ) from error
            if reason:
                return reason
        return None

    def _settle_conflicts(self, settings: Settings, new: Sequence[str]) -> list[Unit]:
        """Skip the overlays that lose a conflict; return those that had been enabled before."""

        def resolve(key: str, overlays: Sequence[Overlay]) -> str | None:
            answer = self._ask("ascend_overlay_resolve_conflict", settings, target=key, overlays=overlays)
            return None if answer is None else str(answer)

        while True:
            try:
                lost = plan.losers(list(self._units.values()), settings.prefer, resolve)
                break
            except plan.Dispute as dispute:
                # Without strictness, the overlay that came first keeps a disputed target.
                self._complain(dispute.error, settings)
                self._skip_unit(dispute.newest, str(dispute.error), state="failed")
        displaced: list[Unit] = []
        for name, reason in lost.items():
            if name in new:
                self._skip_unit(self._units[name], reason)
            else:
                displaced.append(self._units[name])
                self._revert_quietly(self._units[name].items, "skipped", reason)
        return displaced

    def _revive(self, units: Sequence[Unit], settings: Settings) -> None:
        for unit in units:
            for item in unit.items:
                item.entry.state, item.entry.reason = "pending", item.patch.reason or unit.overlay.reason
            self._admit(unit, settings)
        self._start(units, settings)

    def _start(self, units: Sequence[Unit], settings: Settings) -> list[str]:
        """Check the targets statically, apply what is loaded already, and have the imports of the rest watched.

        Returns the modules that are being imported right now.
        """
        for unit in units:
            self._check_statically(unit, settings)
        late = [item for unit in units for item in unit.items if self._is_due(item)]
        self._apply(late, settings, late=True)
        modules = [item.patch.module for unit in units for item in unit.items if item.entry.state == "pending"]
        return [module for module in dict.fromkeys(modules) if not self._watch(module)]

    def _check_statically(self, unit: Unit, settings: Settings) -> None:
        for item in unit.items:
            if item.entry.state != "pending":
                continue
            try:
                if item.patch.module:
                    locate(item.patch.module)
                item.patch.check()
            except OverlayError as error:
                self._fail(item, error, settings)
                return

    def _is_due(self, item: Item) -> bool:
        module = item.patch.module
        return item.entry.state == "pending" and (not module or importing.is_complete(module))

    def _watch(self, module: str) -> bool:
        """See that the import of `module` is noticed; return whether that could be done without waiting for it."""
        with self._state:
            if module in self._watched:
                return True
            if module in sys.modules:
                return False
            self._watched.add(module)
        importing.when_imported(module, functools.partial(self._on_import, module))
        return True

    # --- applying -----------------------------------------------------------------------------------------------

    def _on_import(self, name: str, module: ModuleType) -> None:
        # By the name that it was imported by: a module may call itself something else.
        with self._state:
            self._watched.discard(name)
            due = [item for unit in self._units.values() for item in unit.items]
            due = [item for item in due if item.entry.state == "pending" and item.patch.module == name]
        if not due:
            return
        settings = settings_module.current()
        try:
            self._apply(due, settings, late=False)
        except BaseException:
            # The import fails with this error; whoever catches it and tries again must find the patches applied.
            self._back_to_pending(due, name)
            raise
        finally:
            self._write()

    def _apply(self, items: Sequence[Item], settings: Settings, *, late: bool) -> None:
        """Apply `items` of loaded modules and re-bind the copies of what they replaced.

        Args:
            items: what to apply, where it is still pending.
            settings: those of enable().
            late: the modules were imported some time ago, rather than just now.
        """
        applied: list[Item] = []
        todo = sorted(items, key=_turn)
        while todo:
            item = todo.pop(0)
            if item.entry.state != "pending":
                continue
            started = time.perf_counter()
            try:
                moved = self._apply_one(item)
                applied.append(item)
                todo = sorted([*todo, *moved], key=_turn)
            except OverlayError as error:
                self._fail(item, error, settings)
            except Exception as error:
                unexpected = OverlayError(f"the target {item.entry.target}: {type(error).__name__}: {error}")
                unexpected.__cause__ = error
                self._fail(item, unexpected, settings)
            finally:
                item.entry.seconds += time.perf_counter() - started
        applied = [item for item in applied if item.applied is not None]
        with self._state:
            self._rebind(applied, late=late)
        for item in applied:
            self._tell("ascend_overlay_applied", settings, entry=item.entry)

    def _apply_one(self, item: Item) -> list[Item]:
        """Apply one patch; return those that were taken back because they must now go elsewhere."""
        if reason := self._condition(item):
            item.entry.state, item.entry.reason = "skipped", reason
            return []
        implementation = item.patch.load()
        with self._state:
            if item.entry.state != "pending":
                return []
            module = sys.modules.get(item.patch.module, sys.modules[__name__])
            whose = f"overlay {item.unit.name!r} ({item.unit.origin})"
            replaced = set(self._stand_ins)
            result = item.patch.apply(
                module, implementation, Context(self._slots, item.unit.rank, whose, self._stand_ins)
            )
            for swap in result.swaps:
                swap.kept = names_used(implementation)
            item.applied, item.entry.state = result, "applied"
            item.entry.seam, item.entry.notes = result.seam, result.notes
            item.entry.copies, item.entry.stale = result.copies, result.stale
            if rebuilt := pydantic_models.rebuild(_members([result])):
                item.entry.notes.append(f"pydantic validators rebuilt: {', '.join(rebuilt)}")
            moved = self._patched_on(set(self._stand_ins) - replaced)
        # Members of a class that has just been replaced are patched on what stands for it now.
        self._back(moved)
        return moved

    def _rebind(self, items: Sequence[Item], *, late: bool) -> None:
        started = time.perf_counter()
        swapped = [(item, swap) for item in items for swap in (item.applied.swaps if item.applied is not None else ())]
        # Nobody has a copy of what was made a moment ago.
        fresh = {id(swap.new) for _, swap in swapped}
        _follow([swap for _, swap in swapped])
        # A module that was imported just now has seldom given anything away, and looking for it takes a while.
        rebind_everywhere([swap for _, swap in swapped if late or (swap.shared and id(swap.old) not in fresh)])
        for item, swap in swapped:
            item.entry.copies.extend(swap.copies)
            item.entry.stale.extend(swap.stale)
            item.entry.notes.extend(swap.notes)
            item.entry.seconds += (time.perf_counter() - started) / len(swapped)

    # --- taking back --------------------------------------------------------------------------------------------

    def switch_off(self, names: Iterable[str] | None, *, force: bool) -> None:
        """Disable at the wish of the user: the automatic ways in must not enable everything again."""
        wanted = None if names is None else list(names)
        for name in wanted or ():
            if name not in self._overlays:
                raise ConfigError(plan.no_such_overlay(name, self._overlays))
        self.disable(wanted, force=force)
        self._switched_off = not self._units

    def disable(
        self, names: Iterable[str] | None = None, *, force: bool = False, settings: Settings | None = None
    ) -> None:
        """Take back the overlays `names` (None: all), and put `settings` in force for the rest."""
        with self._alone():
            chosen = [name for name in (self._units if names is None else names) if name in self._units]
            if chosen and not force and (engines := live.live_engines()):
                raise ActivationError(
                    f"a vLLM engine is alive in this process ({', '.join(engines)}): its objects and its worker "
                    f"processes keep what the overlays gave them, so disabling now would leave a mixture. Shut the "
                    f"engine down first (del llm; or llm.llm_engine.engine_core.shutdown()), or pass force=True."
                )
            asked = settings_module.current()
            errors = self._revert([item for name in chosen for item in self._units[name].items], "reverted", "disabled")
            with self._state:
                for name in chosen:
                    unit = self._units.pop(name)
                    self._extra = [*self._extra, *(item.entry for item in unit.items)]
            self._write()
            left = settings or settings_module.current().without(chosen)
            if not self._units:
                self._propagation.stop()
                self._folder = None
                settings_module.use(None)
            elif chosen or settings is not None:
                settings_module.use(left)
                self._folder = LedgerFolder(left.ledger) if left.ledger else None
                if self._propagation.active:
                    self._propagation.start(left.to_env())
        for error in errors:
            self._complain(error, asked)

    def _revert(self, items: Sequence[Item], state: str, reason: str) -> list[PluginError]:
        """Take `items` back; return what the plugins that were told of it raised."""
        reverted: list[Item] = []
        with self._state:
            # By id: a set of the classes would be a holder like any other, and be re-bound.
            before = {id(stand_in) for stand_in in self._stand_ins.values()}
            swapped: list[tuple[Item, Swap]] = []
            members: list[pydantic_models.Member] = []
            for item in reversed(items):
                if item.applied is not None:
                    members.extend(_members([item.applied]))
                    swapped.extend((item, swap) for swap in item.applied.revert(self._slots))
                    item.entry.copies, item.entry.stale, item.entry.notes = [], [], []
                    item.applied = None
                    reverted.append(item)
                if item.entry.state in ("applied", "pending"):
                    item.entry.state, item.entry.reason = state, reason
            swaps = [swap for _, swap in swapped]
            _follow(swaps)
            rebind_everywhere(swaps)
            pydantic_models.restore(members)
            for item, swap in swapped:
                item.entry.stale.extend(swap.stale)
            moved = self._patched_on(before - {id(stand_in) for stand_in in self._stand_ins.values()})
        told = [
            answer for item in reverted for _, answer in self.plugins.each("ascend_overlay_reverted", entry=item.entry)
        ]
        if moved:
            self._back(moved)
            self._apply(moved, settings_module.current(), late=True)
        return [answer.error for answer in told if isinstance(answer, Failure)]

    def _revert_quietly(self, items: Sequence[Item], state: str, reason: str) -> None:
        """Take `items` back because of an error, which no plugin's error may hide."""
        for error in self._revert(items, state, reason):
            _warn(error)

    def _patched_on(self, classes: set[int]) -> list[Item]:
        """Return the patches of members of certain classes, given by id."""
        return [
            item
            for unit in self._units.values()
            for item in unit.items
            if item.applied is not None and any(id(owner) in classes for owner, _ in _members([item.applied]))
        ]

    def _back(self, items: Sequence[Item]) -> None:
        """Take `items` back so that they can be applied again."""
        reasons = [item.entry.reason for item in items]
        self._revert_quietly(items, "pending", "")
        for item, reason in zip(items, reasons, strict=True):
            item.entry.reason = reason

    def _skip_unit(self, unit: Unit, reason: str, *, state: str = "skipped") -> None:
        for item in unit.items:
            item.entry.state, item.entry.reason = state, reason

    def _withdraw(self, names: Sequence[str]) -> None:
        """Leave no trace of overlays whose enabling failed."""
        units = [self._units[name] for name in names if name in self._units]
        self._revert_quietly([item for unit in units for item in unit.items], "reverted", "enable() failed")
        with self._state:
            for unit in units:
                del self._units[unit.name]
                self._extra.extend(item.entry for item in unit.items)
        self._write()

    def _back_to_pending(self, items: Sequence[Item], module: str) -> None:
        self._back([item for item in items if item.entry.state == "applied"])
        if any(item.entry.state == "pending" for item in items):
            with self._state:
                self._watched.add(module)
            importing.watch_again(module, functools.partial(self._on_import, module))

    def _fail(self, item: Item, error: OverlayError, settings: Settings) -> None:
        """Take the whole overlay back, note it, and raise or warn."""
        unit = item.unit
        found = versions.installed("vllm")
        described = type(error)(f"overlay {unit.name!r} ({unit.origin}) does not apply to vLLM {found}: {error}")
        described.__cause__ = error.__cause__
        self._revert_quietly(unit.items, "reverted", f"taken back: {item.entry.target} failed")
        item.entry.state, item.entry.reason = "failed", str(error)
        self._tell("ascend_overlay_failed", settings, entry=item.entry, error=described)
        self._complain(described, settings)

    # --- roles --------------------------------------------------------------------------------------------------

    def enter_role(self, name: str) -> None:
        """Note that this process plays a further role, and apply what was waiting for it."""
        if process.enter(name):
            self._reconsider_roles()

    def _reconsider_roles(self) -> None:
        with self._alone():
            self._process["roles"] = sorted(process.roles())
            settings = settings_module.current()
            revived: list[Unit] = []
            for unit in self._units.values():
                for item in unit.items:
                    conditions = [c for c in (unit.overlay.when, item.patch.when) if c is not None and c.by_role]
                    if not conditions:
                        continue
                    reason = self._condition(item)
                    if reason and item.entry.state in ("applied", "pending"):
                        self._revert_quietly([item], "skipped", reason)
                    elif not reason and item.entry.state == "skipped" and not plan.patch_unfit(item):
                        item.entry.state, item.entry.reason = "pending", item.patch.reason or unit.overlay.reason
                        revived.append(unit)
            unfinished = self._start(revived, settings) if revived else []
            self._write()
        for module in unfinished:
            importing.when_imported(module, functools.partial(self._on_import, module))

    def after_fork(self) -> None:
        """Start this child's own part: fresh locks, a ledger of its own, its own roles."""
        self._serial, self._state, self._writing = threading.RLock(), threading.RLock(), threading.RLock()
        self._process = records.describe_process()

    def after_fork_with_role(self) -> None:
        """The second half, once multiprocessing has given the child its name."""
        process.forget_entered()
        # multiprocessing has just dropped what was to run at the end of the parent process.
        multiprocessing_util.Finalize(None, self._write, exitpriority=0)
        self._process = records.describe_process()
        if self._units:
            self._reconsider_roles()

    # --- telling ------------------------------------------------------------------------------------------------

    def ledger(self) -> Ledger:
        """Return what happened so far."""
        importing.sweep()
        for name in [name for name in list(self._watched) if importing.is_complete(name)]:
            # Two threads that look for one module at the same moment can hide its import from wrapt's hook.
            self._on_import(name, sys.modules[name])
        return self._snapshot()

    def _snapshot(self) -> Ledger:
        with self._state:
            entries = [_copy_of(item) for unit in self._units.values() for item in unit.items]
            entries.extend(dataclasses.replace(entry) for entry in self._extra)
            return Ledger(dict(self._process), tuple(entries), tuple(self._notes), _operator_counts())

    def note(self, overlay: str, text: str) -> None:
        """Add a remark to the ledger, once."""
        with self._state:
            if (overlay, text) in self._notes:
                return
            self._notes.append((overlay, text))
        self._write()

    def write(self) -> None:
        """Write the ledger file of this process, if there is a ledger folder."""
        self._write()

    def _write(self) -> None:
        if self._folder is None:
            return
        number, ledger = next(self._snapshots), self._snapshot()
        with self._writing:
            if self._folder is None or number < self._written:
                return
            self._written = number
            try:
                self._folder.write(ledger)
            except OSError as error:
                self._folder = None
                logger.warning("the ledger of this process cannot be written any more: %s", error)

    def _hook_exit(self) -> None:
        if self._hooked_exit:
            return
        self._hooked_exit = True
        # multiprocessing children leave by os._exit() after running Finalizers, so atexit alone is not enough.
        atexit.register(self._write)
        multiprocessing_util.Finalize(None, self._write, exitpriority=0)
        os.register_at_fork(after_in_child=self.after_fork)
        multiprocessing_util.register_after_fork(self, Engine.after_fork_with_role)

    def _ask(self, hook: str, settings: Settings, **arguments: Any) -> Any:
        try:
            return self.plugins.first(hook, **arguments)
        except PluginError as error:
            self._complain(error, settings)
            return None

    def _tell(self, hook: str, settings: Settings, **arguments: Any) -> None:
        for _, answer in self.plugins.each(hook, **arguments):
            if isinstance(answer, Failure):
                self._complain(answer.error, settings)

    def _complain(self, error: OverlayError, settings: Settings) -> None:
        if settings.strict:
            raise error
        _warn(error)


def _warn(error: OverlayError) -> None:
    warnings.warn(str(error), RuntimeWarning, stacklevel=5)


def _overlays_in(answer: Any, origin: Origin) -> list[Overlay]:
    if isinstance(answer, Failure):
        raise answer.error
    try:
        overlays = list(answer or ())
    except TypeError:
        overlays = [answer]
        if isinstance(answer, Overlay):
            return overlays
    except Exception as error:
        raise PluginError(
            f"{origin} raised in its hook ascend_overlay_overlays: {type(error).__name__}: {error}"
        ) from error
    for overlay in overlays:
        if not isinstance(overlay, Overlay):
            raise PluginError(f"{origin} contributes {overlay!r}, which is not an Overlay.")
    return overlays


def _copy_of(item: Item) -> Entry:
    """Return the entry as it is now, with the place of a wrapper among the others of its target."""
    entry = dataclasses.replace(
        item.entry, copies=[*item.entry.copies], stale=[*item.entry.stale], notes=[*item.entry.notes]
    )
    for slot, change in item.applied.changed if item.applied is not None else ():
        wrappers = slot.wrappers
        if change not in wrappers or len(wrappers) < 2:
            continue
        index = wrappers.index(change)
        if index:
            entry.notes.append(f"around {wrappers[index - 1].whose}")
        if index + 1 < len(wrappers):
            entry.notes.append(f"inside {wrappers[index + 1].whose}")
    return entry


def _turn(item: Item) -> tuple[int, int]:
    return item.patch.phase, item.unit.rank


def _members(results: Iterable[Applied]) -> list[pydantic_models.Member]:
    storages = [slot.storage for result in results for slot, _ in result.changed]
    return [(storage.owner, storage.name) for storage in storages if isinstance(storage, Attribute)]


def _follow(swaps: Sequence[Swap]) -> None:
    """Let each swap lead to the object that is in place after all of them."""
    final = {id(swap.old): swap for swap in swaps}
    for swap in swaps:
        seen = {id(swap)}
        while (further := final.get(id(swap.new))) is not None and id(further) not in seen:
            seen.add(id(further))
            swap.new = further.new


def _operator_counts() -> dict[str, int]:
    tracing = sys.modules.get("ascend_overlay.npu.tracing")
    return dict(tracing.counts()) if tracing is not None else {}
