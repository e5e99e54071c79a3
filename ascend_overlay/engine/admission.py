"""Which of the overlays of an enable() may apply here: versions, vetoes, conditions, conflicts."""

from __future__ import annotations

from collections.abc import Sequence

from ascend_overlay import process
from ascend_overlay.engine import plan
from ascend_overlay.engine.complaints import Complaints
from ascend_overlay.engine.drift import Drift
from ascend_overlay.engine.journal import Journal, logger
from ascend_overlay.engine.patcher import Patcher
from ascend_overlay.engine.plan import Ruling, Unit
from ascend_overlay.engine.state import Enabling, State
from ascend_overlay.errors import RuledOutError, VersionError, some_of
from ascend_overlay.overlay import Overlay
from ascend_overlay.settings import Settings


class Admission:
    """Lets overlays in, or skips them with the reason."""

    def __init__(self, state: State, patcher: Patcher, complaints: Complaints, journal: Journal, drift: Drift) -> None:
        self._state = state
        self._patcher = patcher
        self._complaints = complaints
        self._journal = journal
        self._drift = drift

    def admit(self, unit: Unit, settings: Settings) -> None:
        """Skip the unit, or those of its patches that do not apply here."""
        changed = self._stand(unit)
        if reason := plan.unfit(unit):
            reason += f", and {changed}" if changed else ""
            if unit.name in settings.only and not any(item.patch.vllm for item in unit.items):
                error = VersionError(f"overlay {unit.name!r} ({unit.origin}) does not fit: {reason}.")
                self._complaints.complain(error, unit.name)
            _skip(unit, Ruling("release", reason))
            self._demand(unit, reason)
            return
        if (answer := self._complaints.asked("ascend_overlay_select", overlay=unit.overlay)) and answer.value:
            self._left_out(unit, Ruling("veto", f"vetoed by {answer.origin}: {answer.value}"), settings)
            return
        if remark := plan.overdue(unit.overlay):
            self._journal.note(unit.name, remark)
        for item in unit.items:
            if ruling := plan.patch_unfit(item):
                item.entry.skip(ruling.cause, f"{ruling.reason}, and {changed}" if changed else ruling.reason)
            elif ruling := plan.ruled_out(item, now=False):
                item.entry.skip(*ruling)
        if ruling := self._drift.ruling(unit, settings):
            _skip(unit, ruling)
            self._demand(unit, ruling.reason)
            return
        if ruling := plan.ruled_out_as_a_whole(unit):
            self._left_out(unit, ruling, settings)

    def _stand(self, unit: Unit) -> str:
        """Have a unit taken for one of an older release, if nothing differs that it rests on; else say what differs."""
        standing = self._drift.standing(unit)
        if standing is None:
            return ""
        if standing.changed:
            return f"{some_of(standing.changed, '; ', limit=4)} since vllm {standing.taken_for}"
        unit.taken_for = standing.taken_for
        if plan.unfit(unit) is None:
            self._drift.note_standing(unit, standing)
        return ""

    def _left_out(self, unit: Unit, ruling: Ruling, settings: Settings) -> None:
        """Skip the unit; who asked for it by name does not get less without a word."""
        _skip(unit, ruling)
        self._demand(unit, ruling.reason)
        if unit.name not in settings.only:
            return
        text = f"overlay {unit.name!r} ({unit.origin}) was asked for by name and stays off: {ruling.reason}."
        if process.role() == "main":
            self._complaints.complain(
                RuledOutError(f"{text} Leave it out of {settings.whose('only')}, or see to what it asks for.")
            )
        else:
            # What a condition asks for may be so in the parent alone.
            logger.warning(text)

    def _demand(self, unit: Unit, reason: str) -> None:
        """See that nobody requires a unit that stays off."""
        if self._complaints.requires(unit.name):
            whose = self._complaints.settings.whose("require", unit.name)
            raise RuledOutError(
                f"overlay {unit.name!r} ({unit.origin}) is required by {whose} and stays off: {reason}. See to what it "
                f"asks for, or do not require it."
            )

    def settle_conflicts(self, begun: Enabling, settings: Settings) -> None:
        """Skip the overlays that lose a conflict."""

        def resolve(key: str, overlays: Sequence[Overlay]) -> str | None:
            answer = self._complaints.asked("ascend_overlay_resolve_conflict", target=key, overlays=overlays)
            return None if answer is None else str(answer.value)

        while True:
            try:
                lost = plan.losers(list(self._state.units.values()), settings.prefer, resolve)
                break
            except plan.Dispute as dispute:
                # Without strictness, the overlay that came first keeps a disputed target.
                self._complaints.complain(dispute.error, dispute.newest.name)
                for item in dispute.newest.items:
                    item.entry.become("failed", str(dispute.error))
        for name, reason in lost.items():
            unit = self._state.units[name]
            self._demand(unit, reason)
            if name in begun.names:
                _skip(unit, Ruling("conflict", reason))
            else:
                begun.displaced.append(name)
                self._patcher.revert_quietly(unit.items, "skipped", reason, cause="conflict")


def _skip(unit: Unit, ruling: Ruling) -> None:
    for item in unit.items:
        item.entry.skip(*ruling)
