"""Which of the overlays of an enable() may apply here: versions, vetoes, conditions, conflicts."""

from __future__ import annotations

from collections.abc import Sequence

from ascend_overlay import process
from ascend_overlay.engine import plan
from ascend_overlay.engine.complaints import Complaints
from ascend_overlay.engine.journal import Journal, logger
from ascend_overlay.engine.patcher import Patcher
from ascend_overlay.engine.plan import Unit
from ascend_overlay.engine.state import Enabling, State
from ascend_overlay.errors import RuledOutError, VersionError
from ascend_overlay.overlay import Overlay
from ascend_overlay.settings import Settings


class Admission:
    """Lets overlays in, or skips them with the reason."""

    def __init__(self, state: State, patcher: Patcher, complaints: Complaints, journal: Journal) -> None:
        self._state = state
        self._patcher = patcher
        self._complaints = complaints
        self._journal = journal

    def admit(self, unit: Unit, settings: Settings) -> None:
        """Skip the unit, or those of its patches that do not apply here."""
        if reason := plan.unfit(unit.overlay):
            if unit.name in settings.only and not any(item.patch.vllm for item in unit.items):
                error = VersionError(f"overlay {unit.name!r} ({unit.origin}) does not fit: {reason}.")
                self._complaints.complain(error)
            _skip(unit, reason)
            return
        veto = self._complaints.ask("ascend_overlay_select", overlay=unit.overlay)
        if veto:
            self._left_out(unit, str(veto), settings)
            return
        if remark := plan.overdue(unit.overlay):
            self._journal.note(unit.name, remark)
        for item in unit.items:
            if reason := plan.patch_unfit(item) or plan.ruled_out(item, now=False):
                item.entry.state, item.entry.reason = "skipped", reason
        if reason := plan.ruled_out_as_a_whole(unit):
            self._left_out(unit, reason, settings)

    def _left_out(self, unit: Unit, reason: str, settings: Settings) -> None:
        """Skip the unit; who asked for it by name does not get less without a word."""
        _skip(unit, reason)
        if unit.name not in settings.only:
            return
        text = f"overlay {unit.name!r} ({unit.origin}) was asked for by name and stays off: {reason}."
        if process.role() == "main":
            self._complaints.complain(RuledOutError(f"{text} Leave it out of only=, or see to what it asks for."))
        else:
            # What a condition asks for may be so in the parent alone.
            logger.warning(text)

    def settle_conflicts(self, begun: Enabling, settings: Settings) -> None:
        """Skip the overlays that lose a conflict."""

        def resolve(key: str, overlays: Sequence[Overlay]) -> str | None:
            answer = self._complaints.ask("ascend_overlay_resolve_conflict", target=key, overlays=overlays)
            return None if answer is None else str(answer)

        while True:
            try:
                lost = plan.losers(list(self._state.units.values()), settings.prefer, resolve)
                break
            except plan.Dispute as dispute:
                # Without strictness, the overlay that came first keeps a disputed target.
                self._complaints.complain(dispute.error)
                _skip(dispute.newest, str(dispute.error), state="failed")
        for name, reason in lost.items():
            unit = self._state.units[name]
            if name in begun.names:
                _skip(unit, reason)
            else:
                begun.displaced.append(name)
                self._patcher.revert_quietly(unit.items, "skipped", reason)


def _skip(unit: Unit, reason: str, *, state: str = "skipped") -> None:
    for item in unit.items:
        item.entry.state, item.entry.reason = state, reason
