"""Taking overlays back: with disable(), and where an enable() failed or was interrupted."""

from __future__ import annotations

from collections.abc import Sequence

from ascend_overlay import settings
from ascend_overlay.engine.admission import Admission
from ascend_overlay.engine.arrivals import Arrivals
from ascend_overlay.engine.catalogue import Catalogue
from ascend_overlay.engine.children import Children
from ascend_overlay.engine.complaints import Complaints
from ascend_overlay.engine.journal import Journal
from ascend_overlay.engine.patcher import Patcher
from ascend_overlay.engine.plan import Unit
from ascend_overlay.engine.propagation import Propagation
from ascend_overlay.engine.review import Review
from ascend_overlay.engine.state import Disabling, Enabling, State
from ascend_overlay.ledgers import LedgerFolder


class Undoing:
    """Leaves no trace of overlays. Whatever it is interrupted in, it goes on with when it is called again.

    The caller holds the lock that lets a single enable() or disable() run at a time.
    """

    def __init__(
        self,
        state: State,
        catalogue: Catalogue,
        admission: Admission,
        arrivals: Arrivals,
        patcher: Patcher,
        review: Review,
        complaints: Complaints,
        journal: Journal,
        propagation: Propagation,
        children: Children,
    ) -> None:
        self._state = state
        self._catalogue = catalogue
        self._admission = admission
        self._arrivals = arrivals
        self._patcher = patcher
        self._review = review
        self._complaints = complaints
        self._journal = journal
        self._propagation = propagation
        self._children = children

    def finish(self) -> None:
        """Finish what an earlier call was interrupted in: an enable() is taken back, a disable() goes on."""
        if self._state.begun is not None:
            self.roll_back(self._state.begun)
        if self._state.leaving is not None:
            self.leave(self._state.leaving)

    def leave(self, leaving: Disabling) -> list[Exception]:
        """Take overlays back; return what refused, and what the plugins that were told of it raised."""
        self._review.mend()
        units = [self._state.units[name] for name in leaving.names if name in self._state.units]
        errors = self._patcher.revert([item for unit in units for item in unit.items], "reverted", "disabled")
        gone = [unit.name for unit in units if not any(item.done for item in unit.items)]
        self._drop(gone)
        left = leaving.settings or settings.current().without(gone)
        self._journal.write()
        if not self._state.units:
            self._children.tell_nothing()
            self._journal.folder = None
            settings.use(None)
        elif gone or leaving.settings is not None:
            settings.use(left)
            self._journal.folder = LedgerFolder(left.ledger) if left.ledger else None
            if self._propagation.active:
                self._children.tell(left)
        self._catalogue.forget_given(self._state.units)
        self._state.leaving = None
        return errors

    def roll_back(self, begun: Enabling) -> None:
        """Leave no trace of an enable() that failed."""
        self._complaints.use(None)
        units = [self._state.units[name] for name in begun.names if name in self._state.units]
        items = [item for unit in units for item in unit.items]
        self._patcher.revert_quietly(items, "reverted", "enable() failed")
        self._drop([unit.name for unit in units])
        settings.use(begun.settings)
        if self._propagation.active and not begun.propagating:
            self._propagation.stop()
        elif self._propagation.active and begun.settings is not None:
            self._children.tell(begun.settings)
        self._revive([self._state.units[name] for name in begun.displaced if name in self._state.units])
        self._journal.write()
        self._journal.folder = begun.folder
        self._catalogue.forget_given(self._state.units)
        self._state.begun = None

    def _drop(self, names: Sequence[str]) -> None:
        """Forget overlays that are taken back, and stop watching for what no other waits for."""
        with self._state.lock.held():
            for name in names:
                if (unit := self._state.units.get(name)) is None:
                    continue
                self._state.past = [*self._state.past, *(item.entry for item in unit.items)]
                unit.overlay.watch(None)
                del self._state.units[name]
            self._arrivals.forget_unneeded()

    def _revive(self, units: Sequence[Unit]) -> None:
        """Have overlays apply again that lost a conflict to what is taken back."""
        if not units:
            return
        for unit in units:
            for item in unit.items:
                if not item.done:
                    item.entry.become("pending", item.patch.reason or unit.overlay.reason)
            self._admission.admit(unit, self._complaints.settings)
        self._arrivals.start(units)
