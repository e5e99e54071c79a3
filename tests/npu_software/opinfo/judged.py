"""What was found, held against the reasons that are known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .found import Found
from .reasons import NOT_COMPARED, REASONS, Reason

_NOT_COMPARED = {name: why for why, names in NOT_COMPARED.items() for name in names}


@dataclass(frozen=True)
class Judged:
    """What was found of some operators.

    Attributes:
        found: of each.
        equal: names of those of which every call is as on the CPU.
        not_compared: names of those of which no call returns, neither on the CPU nor on the NPU.
        explained: reasons, with the names of the operators that have nothing else.
        unexpected: a line for each operator with a difference that no reason explains, or with a reason that nothing
            needs.
    """

    found: tuple[Found, ...]
    equal: tuple[str, ...]
    not_compared: tuple[str, ...]
    explained: dict[Reason, tuple[str, ...]]
    unexpected: tuple[str, ...]

    @property
    def calls(self) -> int:
        """How many calls returned and were compared."""
        return sum(one.calls for one in self.found)

    @property
    def refused(self) -> int:
        """How many calls raise on the CPU."""
        return sum(one.refused for one in self.found)


def judge(found: Iterable[Found]) -> Judged:
    """Hold what was found against the reasons."""
    all_found = tuple(found)
    none = tuple(one.name for one in all_found if not one.calls and not one.differences)
    chance = {name for reason in REASONS if reason.by_chance for name in reason.operators}
    equal = tuple(one.name for one in all_found if one.calls and not one.differences and one.name not in chance)
    explained: dict[Reason, tuple[str, ...]] = {}
    for reason in REASONS:
        names = (one.name for one in all_found if _needs(one, reason))
        explained[reason] = tuple(names)
    lines = [line for one in all_found for line in _unexpected(one)]
    return Judged(all_found, equal, none, {why: names for why, names in explained.items() if names}, tuple(lines))


def _needs(found: Found, reason: Reason) -> bool:
    by_chance = reason.by_chance and found.name in reason.operators
    return by_chance or any(reason.explains(found.name, one) for one in found.differences)


def _unexpected(found: Found) -> Sequence[str]:
    new = [one for one in found.differences if not any(reason.explains(found.name, one) for reason in REASONS)]
    lines = [f"{found.name}: {one.kind} ({one.call}): {one.detail}" for one in new]
    for reason in REASONS:
        if found.name in reason.operators and not _needs(found, reason):
            lines.append(
                f"{found.name} has a reason that nothing needs any more; take it out of reasons.py: {reason.why}."
            )
    none = not found.calls and not found.differences
    if none and found.name not in _NOT_COMPARED:
        lines.append(f"{found.name}: no call returned ({found.refused} raised on the CPU); give NOT_COMPARED a reason.")
    if not none and found.name in _NOT_COMPARED:
        lines.append(f"{found.name} is in NOT_COMPARED, and calls of it return: take it out of reasons.py.")
    return lines
