"""What is to be done about each name that overlays change or lean on, after one release became another."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ascend_overlay import versions
from ascend_overlay.commands.check.judgement import Judged
from ascend_overlay.couplings.changes import WORDS, Change, calls, unified
from ascend_overlay.couplings.comparison import Comparison
from ascend_overlay.couplings.findings import Finding
from ascend_overlay.couplings.overlays import OverlayFinding, PatchFinding
from ascend_overlay.source.atlas import Thing

Todo = Literal["drop", "adapt", "review", "nothing"]

TODOS: dict[Todo, str] = {
    "drop": "what is no longer needed, or has lost its target",
    "adapt": "what fails, or is not met any more",
    "review": "what leads to something else than before, and may need the same change",
    "nothing": "what is as it was, or has more than before",
}
"""What can be to be done -> about what; the most urgent first."""

_BROUGHT = ("add", "module alias")
"""Kinds of patch that bring something, and have no more to do once it is there."""


@dataclass(frozen=True)
class By:
    """Who takes a name, and how.

    Attributes:
        overlay: the name of the overlay.
        how: the kinds of its patches, and how its implementation takes it: "wrap", "override, super call".
        where: the places, "module:Class.method, line 9"; none for patches.
        reasons: why, as the patches give it.
    """

    overlay: str
    how: str
    where: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    """One name, or one overlay as a whole, and what is to be done about it.

    Attributes:
        todo: what is to be done.
        target: the name; of an overlay as a whole, "overlay NAME".
        what: what became of it, in words; "" for an overlay as a whole.
        finding: the worst that was found about it; None for an overlay as a whole.
        why: a sentence.
        was, now: of a function whose signature changed, how it was and is called.
        diff: the unified diff of its source; of a name that is gone, against its best candidate, or all that it was.
        by: who takes it.
    """

    todo: Todo
    target: str
    what: str
    why: str
    finding: Finding | None = None
    was: str = ""
    now: str = ""
    diff: str = ""
    by: tuple[By, ...] = ()

    @property
    def sort_key(self) -> tuple[object, ...]:
        """The most urgent first, overlays before names."""
        rank = self.finding.rank if self.finding is not None else (-1, False)
        return list(TODOS).index(self.todo), rank, self.target, self.why


def items(judged: Judged, overlays: Sequence[OverlayFinding] | None = None, *, ranges: bool = True) -> list[Item]:
    """Return what is to be done, the most urgent first; each name, with what is said of it, once.

    What a finding refers to must still be there, as it is until the next release is judged.

    Args:
        judged: overlays on one release.
        overlays: those of them that are looked at; default: all.
        ranges: nothing is to be done for an overlay whose range has neither of the two releases.
    """
    grouped: dict[tuple[Todo, str, str], list[_Taken]] = {}
    wholes: list[Item] = []
    for found in judged.overlays if overlays is None else overlays:
        whole, all_are = _whole(found, judged, ranges=ranges)
        wholes += whole
        for taken in _taken(found, judged):
            # What goes with its overlay need not be adapted, and what stays away on both releases not looked at.
            todo = all_are if all_are is not None and taken.todo != "nothing" else taken.todo
            grouped.setdefault((todo, taken.finding.target, taken.why), []).append(taken)
    named = [_item(todo, why, group, judged.compared) for (todo, _, why), group in grouped.items()]
    return sorted([*wholes, *named], key=lambda item: item.sort_key)


@dataclass(frozen=True)
class _Taken:
    overlay: str
    how: str
    finding: Finding
    todo: Todo
    why: str
    where: str = ""
    reason: str = ""


def _whole(found: OverlayFinding, judged: Judged, *, ranges: bool) -> tuple[list[Item], Todo | None]:
    """Return what is to be done about an overlay as a whole, and what that makes of all else about it."""
    target, by = f"overlay {found.overlay.name}", (By(found.overlay.name, "overlay", (), (found.overlay.reason,)),)
    if found.remarks:
        return [Item("drop", target, "", "; ".join(found.remarks), by=by)], "drop"
    doubts = [Item("review", target, "", said, by=by) for said in found.doubts]
    if found.ruled_out is None:
        return doubts, None
    text = found.overlay.ranges[judged.release.package]
    before = judged.base.version if judged.base is not None else ""
    if ranges and before and not versions.in_range(text, before, whose=target):
        return [Item("nothing", target, "", f"it is for neither release: {found.ruled_out}", by=by)], "nothing"
    why = f"left out: {found.ruled_out}; widen that once the rest is done"
    return [*doubts, Item("review", target, "", why, by=by)], None


def _taken(found: OverlayFinding, judged: Judged) -> Iterator[_Taken]:
    name = found.overlay.name
    for each in found.patches:
        todo, why = _of_patch(each, judged)
        yield _Taken(name, each.patch.kind, each.finding, todo, why, reason=each.patch.reason or "")
    for finding in found.leans:
        assert finding.use is not None
        where = f"{finding.use.by}, line {finding.use.line}"
        yield _Taken(name, finding.use.kind, finding, _of_weight(finding), finding.why, where)


def _of_patch(found: PatchFinding, judged: Judged) -> tuple[Todo, str]:
    finding = found.finding
    if not found.in_range:
        return "nothing", f"the patch is not for {judged.name}, but for {found.patch.vllm}"
    if finding.weight != "breaking":
        return _of_weight(finding), finding.why
    if found.patch.kind in _BROUGHT:
        return "drop", finding.why
    lost = finding.change.what == "gone" and not finding.change.candidates and finding.sure == "certain"
    return ("drop" if lost else "adapt"), finding.why


def _of_weight(finding: Finding) -> Todo:
    if finding.weight in ("behavioural", "unknown"):
        return "review"
    return "adapt" if finding.weight == "breaking" else "nothing"


def _item(todo: Todo, why: str, group: Sequence[_Taken], compared: Comparison) -> Item:
    worst = min(group, key=lambda taken: taken.finding.rank).finding
    change = worst.change
    was, now = (calls(thing) if thing is not None else "" for thing in (change.old, change.new))
    differ = bool(was and now and was != now)
    overlays = dict.fromkeys(sorted(taken.overlay for taken in group))
    return Item(
        todo,
        worst.target,
        WORDS[change.what],
        why,
        worst,
        was if differ else "",
        now if differ else "",
        diff(change, compared),
        tuple(_by(name, [taken for taken in group if taken.overlay == name]) for name in overlays),
    )


def _by(name: str, group: Iterable[_Taken]) -> By:
    group = list(group)
    how, where, reasons = (
        tuple(dict.fromkeys(text for text in texts if text))
        for texts in zip(*((taken.how, taken.where, taken.reason) for taken in group), strict=True)
    )
    return By(name, ", ".join(how), where, reasons)


def diff(change: Change, compared: Comparison) -> str:
    """Return how the source of a name differs between the two states, "" where that cannot be told.

    Of a name that is gone it is told against the best candidate for what it became; without one, all of it is gone. A
    module as a whole is not told.
    """
    if change.what != "gone":
        return change.diff
    if change.old is None or change.old.kind == "module":
        return ""
    if change.candidates:
        candidate = compared.new.look(change.candidates[0].label)
        if isinstance(candidate, Thing):
            return unified(change.old, candidate)
    lines = textwrap.dedent(change.old.text).splitlines()
    return "\n".join(difflib.unified_diff(lines, [], change.old.home, "/dev/null", lineterm=""))
