"""enable() and disable(): from overlays to patched targets and back."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
from collections.abc import Collection, Iterable, Sequence
from multiprocessing import util as multiprocessing_util
from typing import Any

from ascend_overlay import process
from ascend_overlay import settings as settings_module
from ascend_overlay.engine import forking, plan
from ascend_overlay.engine.admission import Admission
from ascend_overlay.engine.arrivals import Arrivals
from ascend_overlay.engine.catalogue import Catalogue
from ascend_overlay.engine.children import Children
from ascend_overlay.engine.complaints import Complaints
from ascend_overlay.engine.drift import Drift
from ascend_overlay.engine.journal import Journal, as_it_is, logger
from ascend_overlay.engine.judging import judged
from ascend_overlay.engine.locks import Lock
from ascend_overlay.engine.patcher import Patcher
from ascend_overlay.engine.plan import Unit
from ascend_overlay.engine.plugins import Plugins
from ascend_overlay.engine.propagation import Propagation
from ascend_overlay.engine.review import Review
from ascend_overlay.engine.state import Disabling, Enabling, State
from ascend_overlay.engine.undoing import Undoing
from ascend_overlay.errors import (
    ActivationError,
    ConfigError,
    OverlayError,
    PluginError,
    VersionError,
    told,
    usage,
)
from ascend_overlay.ledgers import Entry, Ledger
from ascend_overlay.overlay import Overlay
from ascend_overlay.patches import Patch
from ascend_overlay.places import importing, live
from ascend_overlay.settings import Settings

_PATIENCE = 5.0
"""Seconds that the import of vLLM waits for an enable() in another thread."""
_LAST_PATIENCE = 120.0
"""Seconds that an enable() waits for one in another thread before it says that they block each other."""


class _BusyError(ActivationError):
    """Another thread is in enable() or disable()."""


class Engine:
    """What enable() and disable() do, in one process. There is one instance; ascend_overlay.api is its public face.

    It says what is done in which order. The admission decides which overlays apply here, the arrivals wait for modules,
    the patcher changes places, the review looks whether they are as they should be, the journal keeps the ledger.
    Two locks: `_serial` lets one enable() or disable() run at a time; that of the state guards the patched places.

    Whatever is begun is noted in the state first. An exception that comes from anywhere, Ctrl-C or MemoryError, can
    interrupt it between any two lines, its own undoing too: the next call finishes it.

    Attributes:
        plugins: the plugins of this process.
        journal: its ledger.
        children: what the processes that it starts are to have.
    """

    def __init__(self) -> None:
        self.plugins = Plugins()
        self._serial = Lock()
        self._state = State()
        self._complaints = Complaints(self.plugins)
        self._catalogue = Catalogue(self.plugins)
        self._patcher = Patcher(self._state, self._complaints)
        self._review = Review(self._state, self._patcher, self._complaints)
        self.journal = Journal(self._state, self._review.look)
        self._patcher.tell = self.journal.write_if_free
        self._drift = Drift(self.plugins, self._complaints, self.journal)
        self._admission = Admission(self._state, self._patcher, self._complaints, self.journal, self._drift)
        self._arrivals = Arrivals(self._state, self._patcher, self.journal)
        self._propagation = Propagation()
        self.children = Children(
            self._state, self._propagation, self._catalogue, self.plugins, self._complaints, self.journal
        )
        self._undoing = Undoing(
            self._state,
            self._catalogue,
            self._admission,
            self._arrivals,
            self._patcher,
            self._review,
            self._complaints,
            self.journal,
            self._propagation,
            self.children,
        )
        self._switched_off = False
        self._hooked_exit = False
        forking.look_after(self)

    @property
    def overlays(self) -> dict[str, Overlay]:
        """The overlays that were contributed, by name."""
        return self._catalogue.overlays

    @property
    def contributed(self) -> dict[str, tuple[Overlay, str]]:
        """The overlays by name, each with who contributed it."""
        return self._catalogue.contributed

    def distributions(self, overlays: Collection[str] = ()) -> dict[str, str]:
        """Return the distributions that brought `overlays`, by default all, each with its version."""
        return self._catalogue.distributions(overlays)

    def enabled_names(self) -> list[str]:
        """Return the names of the overlays that are enabled."""
        with self._state.lock.held():
            return list(self._state.units)

    @property
    def locks(self) -> tuple[Lock, Lock]:
        """The locks, in the order in which they are taken."""
        return self._serial, self._state.lock

    # --- switching on -------------------------------------------------------------------------------------------

    def settings(self, **arguments: Any) -> Settings:
        """Return the settings of the environment, as it was before any enable(), with `arguments` over them."""
        return Settings.from_env(self._propagation.original()).updated(**arguments)

    def enable(
        self,
        settings: Settings,
        *,
        propagate: bool = True,
        patience: float = _LAST_PATIENCE,
        added: list[str] | None = None,
        given: Sequence[Overlay] = (),
    ) -> None:
        """Enable what `settings` ask for and is not enabled yet.

        Args:
            settings: what is asked for.
            propagate: have the processes that are started from here enabled, too.
            patience: seconds to wait for another thread.
            added: filled with the names of what is new.
            given: overlays that `settings` name and that no plugin contributes.
        """
        begun = Enabling()
        inside = self._serial.is_mine()
        try:
            with self._serial.held(patience, _busy(patience)):
                if not inside:
                    self._undoing.finish()
                unfinished = self._enable(begun, settings, propagate, given)
                if added is not None:
                    added.extend(begun.names)
            # Not under the lock: another thread that imports one of these may be waiting to enter enable() itself.
            for module in unfinished:
                importing.when_complete(module, self._arrivals.on_complete)
        except BaseException:
            self._roll_back(begun)
            raise

    def enable_automatically(self) -> bool:
        """Enable what is in force or in the environment, and return whether that is done.

        It is not where the user switched everything off, or another thread is about to act.
        """
        if self._switched_off:
            return False
        try:
            if self._is_settled():
                # One way in comes after another: all that is left to do is to look.
                self.look()
                return True
            self.enable(settings_module.current(), patience=_PATIENCE)
        except _BusyError:
            return False
        return True

    def _is_settled(self) -> bool:
        """Tell whether enable() is done, and no plugin is left that could not be loaded then and may be now."""
        state = self._state
        return bool(state.units) and state.begun is None and state.leaving is None and not self.plugins.problems

    def check(self, settings: Settings) -> None:
        """See that the ledger can be written, the plugins load and the overlays that `settings` name exist.

        Raises:
            OverlayError: not so.
        """
        folder = self.journal.folder
        self._complaints.use(settings)
        try:
            self._prepare_ledger(settings)
            self._select(settings)
        finally:
            self.journal.folder = folder
            self._complaints.use(None)

    def judge(self, settings: Settings) -> Ledger:
        """Return what enable() would make of `settings`, by versions, vetoes, conditions and conflicts alone.

        Nothing is enabled, and no target is looked for: a patch that is "pending" may wait for one that is not there.

        Raises:
            OverlayError: a plugin cannot be loaded, or the settings name what does not exist.
        """
        before = settings_module.in_force()
        self._complaints.use(settings)
        # Conditions ask for those in force.
        settings_module.use(settings)
        try:
            self._catalogue.load(settings)
            return judged(self._catalogue, self.plugins, self._patcher, self._complaints, settings)
        finally:
            settings_module.use(before)
            self._complaints.use(None)

    def _enable(self, begun: Enabling, settings: Settings, propagate: bool, given: Sequence[Overlay]) -> list[str]:
        """Return the modules that are being imported right now."""
        begun.settings, begun.folder = settings_module.in_force(), self.journal.folder
        begun.propagating = self._propagation.active
        joined = settings
        if begun.settings is not None:
            in_use = [unit.origin for unit in self._state.units.values()]
            joined = settings.joined(begun.settings, self.plugins.of_entry_points(in_use))
        settings = dataclasses.replace(settings, plugins=joined.plugins, blocked=joined.blocked)
        self._state.begun = begun
        begun.started = True
        try:
            self._complaints.use(settings)
            self._prepare_ledger(joined)
            for index, overlay in enumerate(given):
                if any(other is not overlay and other.name == overlay.name for other in given[:index]):
                    raise PluginError(f"enable() was given two overlays named {overlay.name!r}; rename one.")
                self._catalogue.give(overlay, enabled=overlay.name in self._state.units)
            begun.names = self._select(settings, joined.exclude)
            self._refuse_grown()
            settings_module.use(joined)
            self._review.mend()
            unfinished = self._enable_new(begun, settings)
            self._catalogue.forget_given(self._state.units)
            if propagate:
                self.children.tell(joined)
            self._hook_exit()
            self._review.demand()
            self.journal.write()
        finally:
            self._complaints.use(None)
        self._switched_off = False
        self._state.begun = None
        return unfinished

    def _refuse_grown(self) -> None:
        """See that nothing was declared in an overlay since it was enabled: nobody would apply it."""
        for unit in self._state.units.values():
            if late := unit.overlay.patches[len(unit.items) :]:
                self._complaints.complain(_grown(unit, late[0]))

    def _refuse_late(self, unit: Unit, patch: Patch) -> None:
        """Complain of a patch that is being declared in an overlay that is enabled."""
        self._complaints.complain(_grown(unit, patch))

    def _select(self, settings: Settings, barred: Sequence[str] = ()) -> list[str]:
        """Load the plugins; return the names of the overlays to enable that are not enabled yet."""
        self._catalogue.load(settings)
        with self._state.lock.held():
            kept = [entry for entry in self._state.past if entry.kind != "plugin"]
            self._state.past = kept + self._catalogue.plugin_entries()
        for _, error in self.plugins.problems:
            self._complaints.complain(error)
        names = plan.select(self.contributed, settings, barred, self.plugins.absent())
        return [name for name in names if name not in self._state.units]

    def _enable_new(self, begun: Enabling, settings: Settings) -> list[str]:
        names, ranks = begun.names, plan.ranks(self.contributed)
        units = [self._catalogue.unit(name, ranks[name]) for name in names]
        if problem := plan.missing_vllm(units):
            self._complaints.complain(VersionError(problem))
        if problem := plan.untold_vllm(units):
            self._complaints.complain(VersionError(problem))
        if problem := plan.unimportable_torch(units):
            self._complaints.complain(ActivationError(problem))
        with self._state.lock.held():
            self._state.past = [entry for entry in self._state.past if entry.overlay not in names]
            self._state.units.update({unit.name: unit for unit in units})
            for unit in units:
                unit.overlay.watch(functools.partial(self._refuse_late, unit))
            for unit in self._state.units.values():
                _give_rank(unit, ranks[unit.name])
        with self._drift.looking(settings):
            for unit in units:
                self._admission.admit(unit, settings)
        # The children would say it again; who asked for them by name gets an error.
        if not settings.only and process.role() == "main" and (remark := plan.other_vllm(units)):
            logger.warning(remark)
        self._admission.settle_conflicts(begun, settings)
        return self._arrivals.start(units)

    def _prepare_ledger(self, settings: Settings) -> None:
        try:
            self.journal.open(settings.ledger, settings.whose("ledger"))
        except OverlayError as error:
            self._complaints.complain(error)

    # --- taking back --------------------------------------------------------------------------------------------

    def switch_off(self, names: Iterable[str] | None, *, force: bool) -> None:
        """Disable at the wish of the user: the automatic ways in must not enable everything again."""
        wanted = None if names is None else list(names)
        for name in wanted or ():
            self.see_known(name)
        self.disable(wanted, force=force)
        self._switched_off = not self._state.units

    def see_known(self, name: str, whose: str = "") -> None:
        """See that a plugin contributes the overlay `name`, which `whose` names.

        Raises:
            ConfigError: none does.
        """
        if name not in self.overlays:
            raise usage(ConfigError(plan.no_such_overlay(name, self.overlays, whose, self.plugins.absent())))

    def disable(
        self, names: Iterable[str] | None = None, *, force: bool = False, settings: Settings | None = None
    ) -> None:
        """Take back the overlays `names` (None: all), and put `settings` in force for the rest."""
        wanted = None if names is None else list(names)
        inside = self._serial.is_mine()
        with self._serial.held(_LAST_PATIENCE, _busy(_LAST_PATIENCE)):
            if not inside:
                self._undoing.finish()
            chosen = [name for name in (self._state.units if wanted is None else wanted) if name in self._state.units]
            rest = [unit for name, unit in self._state.units.items() if name not in chosen]
            if chosen and plan.only_machinery(rest, settings_module.current()):
                chosen += [unit.name for unit in rest]
            if chosen and not force and (engines := live.live_engines(slot.storage for slot in self._patcher.slots)):
                raise ActivationError(
                    f"a vLLM engine is alive in this process ({', '.join(engines)}): its objects and its worker "
                    f"processes keep what the overlays gave them, so disabling now would leave a mixture. Shut the "
                    f"engine down first (del llm; or llm.llm_engine.engine_core.shutdown()), or pass force=True."
                )
            strict = settings_module.current()
            self._state.leaving = Disabling(chosen, settings)
            errors = self._undoing.leave(self._state.leaving)
        self._complaints.use(strict)
        try:
            for error in errors:
                self._complaints.complain(error if isinstance(error, OverlayError) else OverlayError(told(error)))
        finally:
            self._complaints.use(None)

    def _roll_back(self, begun: Enabling) -> None:
        if not begun.started:
            return
        self._state.begun = begun
        with self._serial.held(_LAST_PATIENCE, _busy(_LAST_PATIENCE)):
            self._undoing.roll_back(begun)

    def unregister(self, plugin: object) -> None:
        """Forget a plugin that was registered by hand, and the overlays that it contributed.

        Raises:
            PluginError: it was not registered by hand.
            ActivationError: an overlay of it is enabled.
        """
        with self._serial.held(_LAST_PATIENCE, _busy(_LAST_PATIENCE)):
            origin = self.plugins.by_hand(plugin)
            if names := [unit.name for unit in self._state.units.values() if unit.origin == origin]:
                raise ActivationError(
                    f"{origin} has contributed what is enabled: {', '.join(names)}; disable(only={names}) first."
                )
            self._catalogue.forget(origin)
            self.plugins.forget(origin)

    # --- roles --------------------------------------------------------------------------------------------------

    def enter_role(self, name: str) -> None:
        """Note that this process plays a further role, and apply what was waiting for it."""
        if process.enter(name):
            self._reconsider_roles()
        self.look()

    def look(self) -> None:
        """Look whether everything is in force that should be, where vLLM reaches a point that others use to patch.

        Raises:
            ForeignError: somebody else's change covers a patch, and the setting `foreign` says that this is an error.
        """
        if self._state.units:
            self._review.demand()
            self.journal.write()

    def _reconsider_roles(self) -> None:
        unfinished: list[str] = []
        with self._serial.held(_LAST_PATIENCE, _busy(_LAST_PATIENCE)):
            self.journal.note_roles()
            revived: list[Unit] = []
            for item in list(self._state.items()):
                conditions = [c for c in (item.unit.overlay.when, item.patch.when) if c is not None and c.by_role]
                if not conditions:
                    continue
                ruling = plan.ruled_out(item)
                if ruling and (item.entry.state == "pending" or item.done):
                    self._patcher.revert_quietly([item], "skipped", ruling.reason, cause=ruling.cause)
                elif not ruling and item.entry.state == "skipped" and item.entry.cause in ("role", "condition"):
                    item.entry.become("pending", item.patch.reason or item.unit.overlay.reason)
                    revived.append(item.unit)
            if revived:
                unfinished = self._arrivals.start(list({id(unit): unit for unit in revived}.values()))
            self.journal.write()
        for module in unfinished:
            importing.when_complete(module, self._arrivals.on_complete)

    def after_fork(self) -> None:
        """Start this child's own part: locks that no other thread holds, a ledger of its own."""
        for lock in self.locks:
            lock.reset()
        self.journal.after_fork()
        # A thread that was in enable() does not go on in this process.
        with contextlib.suppress(OverlayError):
            self._undoing.finish()

    def after_fork_with_role(self) -> None:
        """The second half, once multiprocessing has given the child its name."""
        process.forget_entered()
        # multiprocessing has just dropped what was to run at the end of the parent process.
        multiprocessing_util.Finalize(None, self._at_exit, exitpriority=0)
        self.journal.describe_process()
        if self._state.units:
            self._reconsider_roles()

    # --- the ledger ---------------------------------------------------------------------------------------------

    def ledger(self) -> Ledger:
        """Return what happened so far."""
        with contextlib.suppress(_BusyError):
            self._finish_alone()
        importing.sweep()
        self._arrivals.catch_up()
        self._review.mend()
        return self.journal.snapshot()

    def entries_of(self, target: str) -> list[Entry]:
        """Return what the ledger has of a target, as it was when somebody last looked."""
        with self._state.lock.held():
            return [as_it_is(item) for item in self._state.items() if item.patch.target == target]

    def _finish_alone(self) -> None:
        # Whoever is called in the middle of enable() may read the ledger: nothing is interrupted then.
        if self._serial.is_mine():
            return
        if self._state.begun is not None or self._state.leaving is not None:
            with self._serial.held(0, _busy(0)):
                self._undoing.finish()

    def _at_exit(self) -> None:
        """Write the ledger, and say what is not in force that must be: no exception changes the status any more."""
        self.journal.write()
        for unit in list(self._state.units.values()):
            lost = any(item.entry.state in ("displaced", "without effect") for item in unit.items)
            if lost and self._complaints.requires(unit.name):
                logger.error(
                    "overlay %r (%s), which %s requires, is not in force at the end of this process, whose status does "
                    "not say so: `ascend-overlay ledger DIR --check` does, with ASCEND_OVERLAY_LEDGER=DIR",
                    unit.name,
                    unit.origin,
                    self._complaints.settings.whose("require", unit.name),
                )

    def _hook_exit(self) -> None:
        if self._hooked_exit:
            return
        self._hooked_exit = True
        # multiprocessing children leave by os._exit() after running Finalizers, so atexit alone is not enough.
        atexit.register(self._at_exit)
        multiprocessing_util.Finalize(None, self._at_exit, exitpriority=0)
        multiprocessing_util.register_after_fork(self, Engine.after_fork_with_role)


def _busy(patience: float) -> _BusyError:
    return _BusyError(
        f"another thread has been in enable() or disable() for {patience:.0f} s. It may be waiting for a module that "
        f"this thread is importing: call enable() before you start threads that import vLLM, or not inside a module "
        f"that is being imported."
    )


def _grown(unit: Unit, late: Patch) -> ActivationError:
    return ActivationError(
        f"overlay {unit.name!r} ({unit.origin}) has got another patch since it was enabled, {late.kind} of "
        f"{late.target}, which would be left out; declare it before enable(), or disable(only=[{unit.name!r}]) first."
    )


def _give_rank(unit: Unit, rank: int) -> None:
    unit.rank = rank
    for item in unit.items:
        for applied in item.done:
            for _, change in applied.changed:
                change.rank = rank
