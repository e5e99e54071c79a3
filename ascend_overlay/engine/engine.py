"""enable() and disable(): from overlays to patched targets and back."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing import util as multiprocessing_util
from types import ModuleType
from typing import Any

from ascend_overlay import process
from ascend_overlay import settings as settings_module
from ascend_overlay.engine import plan
from ascend_overlay.engine.catalogue import Catalogue
from ascend_overlay.engine.complaints import ask, complain
from ascend_overlay.engine.journal import Journal, logger
from ascend_overlay.engine.patcher import Patcher
from ascend_overlay.engine.plan import Item, Unit
from ascend_overlay.engine.plugins import Plugins
from ascend_overlay.engine.state import State
from ascend_overlay.errors import ActivationError, ConfigError, OverlayError, VersionError
from ascend_overlay.ledgers.records import Ledger, LedgerFolder
from ascend_overlay.overlay import Overlay
from ascend_overlay.places import importing, live
from ascend_overlay.settings import Settings
from ascend_overlay.source.modules import locate, remembered

_PATIENCE = 5.0
"""Seconds that the import of vLLM waits for an enable() in another thread."""
_LAST_PATIENCE = 120.0
"""Seconds that an enable() waits for one in another thread before it says that they block each other."""


class _BusyError(ActivationError):
    """Another thread is in enable() or disable()."""


class Engine:
    """What enable() and disable() do, in one process. There is one instance; ascend_overlay.api is its public face.

    It decides what is enabled and watches imports; the patcher changes the places, the journal keeps the ledger. Two
    locks: `_serial` lets one enable() or disable() run at a time; that of the state guards the patched places.

    Attributes:
        plugins: the plugins of this process.
        journal: its ledger.
    """

    def __init__(self) -> None:
        self.plugins = Plugins()
        self._serial = threading.RLock()
        self._state = State()
        self._catalogue = Catalogue(self.plugins)
        self._patcher = Patcher(self._state, self.plugins)
        self.journal = Journal(self._state)
        self._watched: set[str] = set()
        self._propagation = process.Propagation()
        self._switched_off = False
        self._hooked_exit = False

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
        return self._catalogue.overlays

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
        earlier, folder = settings_module.in_force(), self.journal.folder
        joined = settings.joined(earlier) if earlier is not None else settings
        try:
            self._prepare_ledger(joined)
            names = self._select(settings)
            settings_module.use(joined)
            unfinished = self._enable_new(names, settings)
        except BaseException:
            settings_module.use(earlier)
            self.journal.write()
            self.journal.folder = folder
            raise
        self._switched_off = False
        if propagate:
            self._propagation.start(joined.to_env())
        self._hook_exit()
        self.journal.write()
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
        self.journal.folder = None
        self._select(settings)

    def _select(self, settings: Settings) -> list[str]:
        """Load the plugins; return the names of the overlays to enable that are not enabled yet."""
        self._catalogue.load(settings)
        with self._state.lock:
            kept = [entry for entry in self._state.past if entry.kind != "plugin"]
            self._state.past = kept + self._catalogue.plugin_entries()
        for _, error in self.plugins.problems:
            complain(error, settings)
        return [name for name in plan.select(self.overlays, settings) if name not in self._state.units]

    def _enable_new(self, names: list[str], settings: Settings) -> list[str]:
        ranks = plan.ranks(self.overlays)
        units = [self._catalogue.unit(name, ranks[name]) for name in names]
        if problem := plan.missing_vllm(units):
            complain(VersionError(problem), settings)
        if problem := plan.unimportable_torch(units):
            complain(ActivationError(problem), settings)
        # The children would say it again; who asked for them by name gets an error.
        if not settings.only and process.role() == "main" and (remark := plan.other_vllm(units)):
            logger.warning(remark)
        with self._state.lock:
            self._state.past = [entry for entry in self._state.past if entry.overlay not in names]
            self._state.units.update({unit.name: unit for unit in units})
            for unit in self._state.units.values():
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
        try:
            self.journal.open(settings.ledger)
        except OverlayError as error:
            complain(error, settings)

    def _admit(self, unit: Unit, settings: Settings) -> None:
        """Skip the unit, or those of its patches that do not apply here."""
        if reason := plan.unfit(unit.overlay):
            if unit.name in settings.only and not any(item.patch.vllm for item in unit.items):
                error = VersionError(f"overlay {unit.name!r} ({unit.origin}) does not fit: {reason}.")
                complain(error, settings)
            self._skip_unit(unit, reason)
            return
        veto = ask(self.plugins, "ascend_overlay_select", settings, overlay=unit.overlay)
        if veto:
            self._skip_unit(unit, str(veto))
            return
        if remark := plan.overdue(unit.overlay):
            self.journal.note(unit.name, remark)
        for item in unit.items:
            if reason := plan.patch_unfit(item) or plan.ruled_out(item, now=False):
                item.entry.state, item.entry.reason = "skipped", reason

    def _settle_conflicts(self, settings: Settings, new: Sequence[str]) -> list[Unit]:
        """Skip the overlays that lose a conflict; return those that had been enabled before."""

        def resolve(key: str, overlays: Sequence[Overlay]) -> str | None:
            answer = ask(self.plugins, "ascend_overlay_resolve_conflict", settings, target=key, overlays=overlays)
            return None if answer is None else str(answer)

        while True:
            try:
                lost = plan.losers(list(self._state.units.values()), settings.prefer, resolve)
                break
            except plan.Dispute as dispute:
                # Without strictness, the overlay that came first keeps a disputed target.
                complain(dispute.error, settings)
                self._skip_unit(dispute.newest, str(dispute.error), state="failed")
        displaced: list[Unit] = []
        for name, reason in lost.items():
            if name in new:
                self._skip_unit(self._state.units[name], reason)
            else:
                displaced.append(self._state.units[name])
                self._patcher.revert_quietly(self._state.units[name].items, "skipped", reason)
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
        with remembered():
            for unit in units:
                self._check_statically(unit, settings)
        late = [item for unit in units for item in unit.items if self._is_due(item)]
        self._patcher.apply(late, settings, late=True)
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
                self._patcher.fail(item, error, settings)
                return

    def _is_due(self, item: Item) -> bool:
        module = item.patch.module
        return item.entry.state == "pending" and (not module or importing.is_complete(module))

    def _watch(self, module: str) -> bool:
        """See that the import of `module` is noticed; return whether that could be done without waiting for it."""
        with self._state.lock:
            if module in self._watched:
                return True
            if module in sys.modules:
                return False
            self._watched.add(module)
        importing.when_imported(module, functools.partial(self._on_import, module))
        return True

    def _on_import(self, name: str, module: ModuleType) -> None:
        # By the name that it was imported by: a module may call itself something else.
        with self._state.lock:
            self._watched.discard(name)
            due = [item for item in self._state.items() if item.entry.state == "pending" and item.patch.module == name]
        if not due:
            return
        settings = settings_module.current()
        try:
            self._patcher.apply(due, settings, late=False)
        except BaseException:
            # The import fails with this error; whoever catches it and tries again must find the patches applied.
            self._back_to_pending(due, name)
            raise
        finally:
            self.journal.write()

    # --- taking back --------------------------------------------------------------------------------------------

    def switch_off(self, names: Iterable[str] | None, *, force: bool) -> None:
        """Disable at the wish of the user: the automatic ways in must not enable everything again."""
        wanted = None if names is None else list(names)
        for name in wanted or ():
            if name not in self.overlays:
                raise ConfigError(plan.no_such_overlay(name, self.overlays))
        self.disable(wanted, force=force)
        self._switched_off = not self._state.units

    def disable(
        self, names: Iterable[str] | None = None, *, force: bool = False, settings: Settings | None = None
    ) -> None:
        """Take back the overlays `names` (None: all), and put `settings` in force for the rest."""
        with self._alone():
            chosen = [name for name in (self._state.units if names is None else names) if name in self._state.units]
            if chosen and not force and (engines := live.live_engines()):
                raise ActivationError(
                    f"a vLLM engine is alive in this process ({', '.join(engines)}): its objects and its worker "
                    f"processes keep what the overlays gave them, so disabling now would leave a mixture. Shut the "
                    f"engine down first (del llm; or llm.llm_engine.engine_core.shutdown()), or pass force=True."
                )
            asked = settings_module.current()
            items = [item for name in chosen for item in self._state.units[name].items]
            errors = self._patcher.revert(items, "reverted", "disabled")
            with self._state.lock:
                for name in chosen:
                    unit = self._state.units.pop(name)
                    self._state.past = [*self._state.past, *(item.entry for item in unit.items)]
            self.journal.write()
            left = settings or settings_module.current().without(chosen)
            if not self._state.units:
                self._propagation.stop()
                self.journal.folder = None
                settings_module.use(None)
            elif chosen or settings is not None:
                settings_module.use(left)
                self.journal.folder = LedgerFolder(left.ledger) if left.ledger else None
                if self._propagation.active:
                    self._propagation.start(left.to_env())
        for error in errors:
            complain(error, asked)

    def _skip_unit(self, unit: Unit, reason: str, *, state: str = "skipped") -> None:
        for item in unit.items:
            item.entry.state, item.entry.reason = state, reason

    def _withdraw(self, names: Sequence[str]) -> None:
        """Leave no trace of overlays whose enabling failed."""
        units = [self._state.units[name] for name in names if name in self._state.units]
        self._patcher.revert_quietly([item for unit in units for item in unit.items], "reverted", "enable() failed")
        with self._state.lock:
            for unit in units:
                del self._state.units[unit.name]
                self._state.past.extend(item.entry for item in unit.items)
        self.journal.write()

    def _back_to_pending(self, items: Sequence[Item], module: str) -> None:
        self._patcher.back([item for item in items if item.entry.state == "applied"])
        if any(item.entry.state == "pending" for item in items):
            with self._state.lock:
                self._watched.add(module)
            importing.watch_again(module, functools.partial(self._on_import, module))

    # --- roles --------------------------------------------------------------------------------------------------

    def enter_role(self, name: str) -> None:
        """Note that this process plays a further role, and apply what was waiting for it."""
        if process.enter(name):
            self._reconsider_roles()

    def _reconsider_roles(self) -> None:
        with self._alone():
            self.journal.note_roles()
            settings = settings_module.current()
            revived: list[Unit] = []
            for unit in self._state.units.values():
                for item in unit.items:
                    conditions = [c for c in (unit.overlay.when, item.patch.when) if c is not None and c.by_role]
                    if not conditions:
                        continue
                    reason = plan.ruled_out(item)
                    if reason and item.entry.state in ("applied", "pending"):
                        self._patcher.revert_quietly([item], "skipped", reason)
                    elif not reason and item.entry.state == "skipped" and not plan.patch_unfit(item):
                        item.entry.state, item.entry.reason = "pending", item.patch.reason or unit.overlay.reason
                        revived.append(unit)
            unfinished = self._start(revived, settings) if revived else []
            self.journal.write()
        for module in unfinished:
            importing.when_imported(module, functools.partial(self._on_import, module))

    def after_fork(self) -> None:
        """Start this child's own part: fresh locks, a ledger of its own, its own roles."""
        self._serial, self._state.lock = threading.RLock(), threading.RLock()
        self.journal.after_fork()

    def after_fork_with_role(self) -> None:
        """The second half, once multiprocessing has given the child its name."""
        process.forget_entered()
        # multiprocessing has just dropped what was to run at the end of the parent process.
        multiprocessing_util.Finalize(None, self.journal.write, exitpriority=0)
        self.journal.describe_process()
        if self._state.units:
            self._reconsider_roles()

    # --- the ledger ---------------------------------------------------------------------------------------------

    def ledger(self) -> Ledger:
        """Return what happened so far."""
        importing.sweep()
        for name in [name for name in list(self._watched) if importing.is_complete(name)]:
            # Two threads that look for one module at the same moment can hide its import from wrapt's hook.
            self._on_import(name, sys.modules[name])
        return self.journal.snapshot()

    def _hook_exit(self) -> None:
        if self._hooked_exit:
            return
        self._hooked_exit = True
        # multiprocessing children leave by os._exit() after running Finalizers, so atexit alone is not enough.
        atexit.register(self.journal.write)
        multiprocessing_util.Finalize(None, self.journal.write, exitpriority=0)
        os.register_at_fork(after_in_child=self.after_fork)
        multiprocessing_util.register_after_fork(self, Engine.after_fork_with_role)
