"""enable() and disable(): from overlays to patched targets and back."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from multiprocessing import util as multiprocessing_util
from types import ModuleType
from typing import Any

from ascend_overlay import importing, live, plan, process, pydantic_models, records, versions
from ascend_overlay import settings as settings_module
from ascend_overlay.bindings import Swap, loaded_since, rebind_everywhere, rebind_in_modules
from ascend_overlay.errors import ActivationError, OverlayError, PluginError, VersionError
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
        self._slots = Slots()
        self._stand_ins: dict[int, type] = {}
        self._watched: set[str] = set()
        self._propagation = process.Propagation()
        self._process = records.describe_process()
        self._folder: LedgerFolder | None = None
        self._hooked_exit = False
        self._snapshots = itertools.count(1)
        self._writing = threading.RLock()
        self._written = 0

    # --- switching on -------------------------------------------------------------------------------------------

    def acquire(self, *, timeout: float) -> bool:
        """Reserve enable() and disable() for this thread; return whether that succeeded in `timeout` seconds."""
        return self._serial.acquire(timeout=timeout)

    def release(self) -> None:
        """Give back what `acquire` reserved."""
        self._serial.release()

    def enable(self, settings: Settings, *, propagate: bool = True) -> list[str]:
        """Enable what `settings` ask for and is not enabled yet; return the names of what is new."""
        with self._serial:
            return self._enable(settings, propagate)

    def _enable(self, settings: Settings, propagate: bool) -> list[str]:
        self._prepare_ledger(settings)
        self.plugins.load(settings)
        self._collect_overlays()
        self._report_plugins(settings)
        overlays = {name: overlay for name, (overlay, _) in self._overlays.items()}
        names = [name for name in plan.select(overlays, settings) if name not in self._units]
        ranks = plan.ranks(overlays)
        settings_module.use(settings)
        units = [plan.unit_of(*self._overlays[name], ranks[name]) for name in names]
        plan.check_vllm(units, default=settings.only)
        if problem := plan.unimportable_torch(units):
            self._complain(ActivationError(problem), settings)
        with self._state:
            self._extra = [entry for entry in self._extra if entry.overlay not in names]
            self._units.update({unit.name: unit for unit in units})
        try:
            for unit in units:
                self._admit(unit, settings)
            self._settle_conflicts(settings, names)
            self._start([unit for unit in units if unit.name in self._units], settings)
        except BaseException:
            self._withdraw(names)
            raise
        if propagate:
            self._propagation.start(settings.to_env())
        self._hook_exit()
        self._write()
        return names

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
        for origin, answer in self.plugins.each("ascend_overlay_overlays"):
            if isinstance(answer, Failure):
                self._remember_problem(origin, answer.error)
                continue
            for overlay in answer or ():
                if not isinstance(overlay, Overlay):
                    text = f"{origin} contributes {overlay!r}, which is not an Overlay."
                    self._remember_problem(origin, PluginError(text))
                    continue
                known = self._overlays.get(overlay.name)
                if known is not None and known[0] is not overlay:
                    text = f"{origin} and {known[1]} both contribute an overlay named {overlay.name!r}; rename one."
                    self._remember_problem(origin, PluginError(text))
                    continue
                self._overlays[overlay.name] = (overlay, origin)

    def _remember_problem(self, origin: Origin, error: PluginError) -> None:
        if all(str(error) != str(known) for _, known in self.plugins.problems):
            self.plugins.problems.append((origin, error))

    def _report_plugins(self, settings: Settings) -> None:
        for origin, reason in self.plugins.not_asked:
            self._extra_entry("", origin, origin.plugin, "plugin", "skipped", reason)
        for origin, error in self.plugins.problems:
            if self._extra_entry("", origin, origin.plugin, "plugin", "failed", str(error)) or settings.strict:
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
            if reason := plan.patch_unfit(item) or self._condition(item):
                item.entry.state, item.entry.reason = "skipped", reason

    def _condition(self, item: Item) -> str | None:
        for condition in (item.unit.overlay.when, item.patch.when):
            if condition is not None and (reason := condition.why_not()):
                return reason
        return None

    def _settle_conflicts(self, settings: Settings, new: Sequence[str]) -> None:
        def resolve(key: str, overlays: Sequence[Overlay]) -> str | None:
            answer = self._ask("ascend_overlay_resolve_conflict", settings, target=key, overlays=overlays)
            return None if answer is None else str(answer)

        units = list(self._units.values())
        try:
            lost = plan.losers(units, settings.prefer, resolve)
        except OverlayError as error:
            if settings.strict:
                raise
            self._give_up_newest(units, settings, error)
            return
        for name, reason in lost.items():
            if name in new:
                self._skip_unit(self._units[name], reason)
            else:
                self._revert_unit(self._units[name], "skipped", reason)

    def _give_up_newest(self, units: list[Unit], settings: Settings, error: OverlayError) -> None:
        """Without strictness, the overlay that came first keeps a disputed target."""
        seen: dict[str, str] = {}
        for unit in units:
            keys = [item.patch.key for item in unit.items if item.patch.decides and item.entry.state != "skipped"]
            if any(seen.get(key, unit.name) != unit.name for key in keys):
                self._complain(error, settings)
                self._skip_unit(unit, str(error), state="failed")
            else:
                seen.update(dict.fromkeys(keys, unit.name))

    def _start(self, units: Sequence[Unit], settings: Settings) -> None:
        """Check the targets statically, apply what is loaded already, and wait for the imports of the rest."""
        for unit in units:
            self._check_statically(unit, settings)
        late = [item for unit in units for item in unit.items if self._is_due(item)]
        self._apply(late, settings, everywhere=True)
        for unit in units:
            for item in unit.items:
                if item.entry.state == "pending":
                    self._watch(item.patch.module)

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

    def _watch(self, module: str) -> None:
        with self._state:
            if module in self._watched:
                return
            self._watched.add(module)
        importing.when_imported(module, self._on_import)

    # --- applying -----------------------------------------------------------------------------------------------

    def _on_import(self, module: ModuleType) -> None:
        name = module.__name__
        with self._state:
            self._watched.discard(name)
            due = [item for unit in self._units.values() for item in unit.items]
            due = [item for item in due if item.entry.state == "pending" and item.patch.module == name]
        if not due:
            return
        settings = settings_module.current()
        try:
            self._apply(due, settings, everywhere=False)
        except BaseException:
            # The import fails with this error; whoever catches it and tries again must find the patches applied.
            self._back_to_pending(due, name)
            raise
        finally:
            self._write()

    def _apply(self, items: Sequence[Item], settings: Settings, *, everywhere: bool) -> None:
        """Apply `items` of loaded modules and re-bind the copies of what they replaced."""
        swapped: list[tuple[Item, Swap, ModuleType]] = []
        applied: list[Item] = []
        for item in sorted(items, key=lambda item: (item.patch.phase, item.unit.rank)):
            if item.entry.state != "pending":
                continue
            started = time.perf_counter()
            try:
                if reason := self._condition(item):
                    item.entry.state, item.entry.reason = "skipped", reason
                    continue
                implementation = item.patch.load()
                with self._state:
                    module = sys.modules.get(item.patch.module, sys.modules[__name__])
                    if item.entry.state != "pending":
                        continue
                    context = Context(self._slots, item.unit.rank, self._stand_ins)
                    result = item.patch.apply(module, implementation, context)
                    item.applied, item.entry.state = result, "applied"
                    item.entry.seam, item.entry.notes = result.seam, result.notes
                    item.entry.copies = result.copies
                    if rebuilt := pydantic_models.rebuild(_members([result])):
                        item.entry.notes.append(f"pydantic validators rebuilt: {', '.join(rebuilt)}")
                swapped.extend((item, swap, module) for swap in result.swaps)
                applied.append(item)
            except OverlayError as error:
                self._fail(item, error, settings)
            except Exception as error:
                unexpected = OverlayError(f"the target {item.entry.target}: {type(error).__name__}: {error}")
                unexpected.__cause__ = error
                self._fail(item, unexpected, settings)
            finally:
                item.entry.seconds += time.perf_counter() - started
        with self._state:
            live_swaps = [(item, swap, module) for item, swap, module in swapped if item.entry.state == "applied"]
            self._rebind(live_swaps, everywhere=everywhere)
        for item in applied:
            if item.entry.state == "applied":
                self._tell("ascend_overlay_applied", settings, entry=item.entry)

    def _rebind(self, swapped: Sequence[tuple[Item, Swap, ModuleType]], *, everywhere: bool) -> None:
        if not swapped:
            return
        started = time.perf_counter()
        _follow([swap for _, swap, _ in swapped])
        if everywhere:
            rebind_everywhere([swap for _, swap, _ in swapped])
        else:
            for _, swap, module in swapped:
                definer = getattr(swap.old, "__module__", None)
                rebind_in_modules([swap], loaded_since(module, definer))
        share = (time.perf_counter() - started) / len(swapped)
        for item, swap, _ in swapped:
            item.entry.copies.extend(swap.copies)
            item.entry.stale.extend(swap.stale)
            item.entry.seconds += share

    # --- taking back --------------------------------------------------------------------------------------------

    def disable(self, names: Iterable[str] | None = None, *, force: bool = False) -> None:
        """Take back the overlays `names` (None: all)."""
        with self._serial:
            chosen = [name for name in (self._units if names is None else names) if name in self._units]
            if chosen and not force and (engines := live.live_engines()):
                raise ActivationError(
                    f"a vLLM engine is alive in this process ({', '.join(engines)}): its objects and its worker "
                    f"processes keep what the overlays gave them, so disabling now would leave a mixture. Shut the "
                    f"engine down first (del llm; or llm.llm_engine.engine_core.shutdown()), or pass force=True."
                )
            self._revert([item for name in chosen for item in self._units[name].items], "reverted", "disabled")
            with self._state:
                for name in chosen:
                    unit = self._units.pop(name)
                    self._extra = [*self._extra, *(item.entry for item in unit.items)]
            if not self._units:
                self._propagation.stop()
                settings_module.use(None)
            self._write()

    def _revert(self, items: Sequence[Item], state: str, reason: str) -> None:
        reverted: list[Item] = []
        with self._state:
            swaps: list[Swap] = []
            members: list[pydantic_models.Member] = []
            for item in reversed(items):
                if item.applied is not None:
                    members.extend(_members([item.applied]))
                    swaps.extend(item.applied.revert(self._slots))
                    item.applied = None
                    reverted.append(item)
                if item.entry.state in ("applied", "pending"):
                    item.entry.state, item.entry.reason = state, reason
            for swap in swaps:
                swap.restoring = True
            _follow(swaps)
            rebind_everywhere(swaps)
            pydantic_models.restore(members)
        for item in reverted:
            self._tell("ascend_overlay_reverted", settings_module.current(), entry=item.entry)

    def _revert_unit(self, unit: Unit, state: str, reason: str) -> None:
        self._revert(unit.items, state, reason)

    def _skip_unit(self, unit: Unit, reason: str, *, state: str = "skipped") -> None:
        for item in unit.items:
            item.entry.state, item.entry.reason = state, reason

    def _withdraw(self, names: Sequence[str]) -> None:
        """Leave no trace of overlays whose enabling failed."""
        units = [self._units[name] for name in names if name in self._units]
        self._revert([item for unit in units for item in unit.items], "reverted", "enable() failed")
        with self._state:
            for unit in units:
                del self._units[unit.name]
                self._extra.extend(item.entry for item in unit.items)
        self._write()

    def _back_to_pending(self, items: Sequence[Item], module: str) -> None:
        others = [item for item in items if item.entry.state == "applied"]
        reasons = [item.entry.reason for item in others]
        self._revert(others, "pending", "")
        for item, reason in zip(others, reasons, strict=True):
            item.entry.reason = reason
            item.entry.copies, item.entry.stale, item.entry.notes = [], [], []
        if others:
            with self._state:
                self._watched.add(module)
            importing.watch_again(module, self._on_import)

    def _fail(self, item: Item, error: OverlayError, settings: Settings) -> None:
        """Take the whole overlay back, note it, and raise or warn."""
        unit = item.unit
        found = versions.installed("vllm")
        described = type(error)(f"overlay {unit.name!r} ({unit.origin}) does not apply to vLLM {found}: {error}")
        described.__cause__ = error.__cause__
        self._revert(
            [other for other in unit.items if other is not item], "reverted", f"taken back: {item.entry.target} failed"
        )
        item.entry.state, item.entry.reason = "failed", str(error)
        self._tell("ascend_overlay_failed", settings, entry=item.entry, error=described)
        self._complain(described, settings)

    # --- roles --------------------------------------------------------------------------------------------------

    def enter_role(self, name: str) -> None:
        """Note that this process plays a further role, and apply what was waiting for it."""
        if process.enter(name):
            self._reconsider_roles()

    def _reconsider_roles(self) -> None:
        with self._serial:
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
                        self._revert([item], "skipped", reason)
                    elif not reason and item.entry.state == "skipped" and not plan.patch_unfit(item):
                        item.entry.state, item.entry.reason = "pending", item.patch.reason or unit.overlay.reason
                        revived.append(unit)
            if revived:
                self._start(revived, settings)
            self._write()

    def after_fork(self) -> None:
        """Start this child's own part: fresh locks, a ledger of its own, its own roles."""
        self._serial, self._state, self._writing = threading.RLock(), threading.RLock(), threading.RLock()
        self._process = records.describe_process()

    def after_fork_with_role(self) -> None:
        """The second half, once multiprocessing has given the child its name."""
        process.forget_entered()
        self._process = records.describe_process()
        if self._units:
            self._reconsider_roles()

    # --- telling ------------------------------------------------------------------------------------------------

    def ledger(self) -> Ledger:
        """Return what happened so far."""
        importing.sweep()
        with self._state:
            entries = [*(item.entry for unit in self._units.values() for item in unit.items), *self._extra]
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
        # Not under the lock: taking the snapshot may import, and whoever imports may be waiting to write.
        number, ledger = next(self._snapshots), self.ledger()
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

    def _extra_entry(self, overlay: str, origin: Origin, target: str, kind: str, state: str, reason: str) -> bool:
        entry = plan.entry_for(overlay, origin, target, kind)
        entry.state, entry.reason = state, reason
        if entry in self._extra:
            return False
        self._extra.append(entry)
        return True

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
        warnings.warn(str(error), RuntimeWarning, stacklevel=4)


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


_engine = Engine()


def enable(
    *,
    only: Iterable[str] | None = None,
    exclude: Iterable[str] | None = None,
    strict: bool | None = None,
    plugins: Iterable[str] | None = None,
    load: Iterable[str] | None = None,
    prefer: Mapping[str, str] | None = None,
    ledger: str | os.PathLike[str] | None = None,
    trace: bool | None = None,
    propagate: bool = True,
) -> None:
    """Enable overlays in this process and in those that it will start.

    May be called before or after vLLM was imported, from any thread, any number of times: what is enabled already stays
    as it is. What is not given is taken from the environment (docs/configuration.md).

    Args:
        only: names of the overlays to enable; default: all that fit this environment.
        exclude: names of overlays to leave out.
        strict: False turns errors of overlays and plugins into warnings and ledger entries.
        plugins: allow-list of third-party plugins.
        load: modules to register as plugins.
        prefer: target -> overlay that wins a conflict on it.
        ledger: folder for one ledger file per process.
        trace: count the calls of NPU operators.
        propagate: False leaves os.environ alone, so that child processes run without overlays.

    Raises:
        OverlayError: an overlay, plugin or setting cannot be used; nothing of this call stays behind.
    """
    settings = settings_module.current().updated(
        only=only,
        exclude=exclude,
        strict=strict,
        plugins=plugins,
        load=load,
        prefer=prefer,
        ledger=ledger,
        trace=trace,
    )
    _engine.enable(settings, propagate=propagate)


def enable_from_environment() -> None:
    """Enable what the environment asks for; the one door of all automatic ways in.

    Called inside the import of vLLM. If another thread is in enable() at that moment, it may itself be waiting for that
    import: waiting for it in turn would never end, and it patches modules late just as well.
    """
    if _engine.acquire(timeout=_PATIENCE):
        try:
            _engine.enable(settings_module.current())
        finally:
            _engine.release()


def enable_for_listing(settings: Settings) -> None:
    """Enable without warning other processes, to show what would happen."""
    _engine.enable(settings, propagate=False)


def disable(*, only: Iterable[str] | None = None, force: bool = False) -> None:
    """Take overlays back: what they touched is again the very object that was there before.

    Args:
        only: names of the overlays to take back; default: all.
        force: do so even while a vLLM engine is alive in this process.

    Raises:
        ActivationError: a vLLM engine is alive.
    """
    _engine.disable(only, force=force)


@contextlib.contextmanager
def enabled(**arguments: Any) -> Iterator[None]:
    """Enable overlays for the length of a with-block; takes the arguments of enable().

    What was enabled before the block stays enabled after it.
    """
    before = settings_module._current
    settings = settings_module.current().updated(
        **{name: value for name, value in arguments.items() if name != "propagate"}
    )
    names = _engine.enable(settings, propagate=arguments.get("propagate", True))
    try:
        yield
    finally:
        _engine.disable(names, force=True)
        settings_module.use(before)


def ledger() -> Ledger:
    """Return the ledger of this process: iterable, printable as a table, convertible to JSON."""
    return _engine.ledger()


def write_ledger() -> None:
    """Write the ledger file of this process now, if there is a ledger folder."""
    _engine.write()


def reference_kernels() -> Iterator[tuple[str, Any]]:
    """Ask all plugins for their reference kernels; yield each with the words that name its contributor.

    Raises:
        PluginError: a plugin raises.
    """
    for origin, answer in _engine.plugins.each("ascend_overlay_kernels"):
        if isinstance(answer, Failure):
            raise answer.error
        for kernel in answer or ():
            yield str(origin), kernel


def note(overlay: str, text: str) -> None:
    """Add a remark to the ledger of this process, on behalf of the overlay named `overlay`."""
    _engine.note(overlay, text)


def register(plugin: object, name: str | None = None) -> None:
    """Register a plugin object in this process only.

    Child processes do not get it; a plugin that must reach them is installed with an entry point, or is an importable
    module named by `load=`.

    Raises:
        PluginError: it does not fit the hooks.
    """
    origin = _engine.plugins.register(plugin, name)
    _engine.note("", f"{origin} was registered by hand, so processes started from here do not have it")


def enter_role(name: str) -> None:
    """Note that this process plays a further role of vLLM (see ascend_overlay.process.ROLES)."""
    _engine.enter_role(name)
