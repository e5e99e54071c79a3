"""What is said about one use or patch on one release."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ascend_overlay.couplings.changes import Change
from ascend_overlay.couplings.uses import Use

Weight = Literal["breaking", "behavioural", "additive", "none", "unknown"]
Sureness = Literal["certain", "likely"]

WEIGHTS: tuple[Weight, ...] = ("breaking", "behavioural", "unknown", "additive", "none")
"""The worst first."""


@dataclass(frozen=True)
class Finding:
    """What became of one thing that a package takes from another.

    Attributes:
        weight: breaking: it fails, or is not met any more; behavioural: what it leads to does something else; additive:
            it has more than before; none; unknown: source does not tell.
        sure: whether the source says so, or it was concluded from annotations and names.
        why: a sentence.
        target: what it is about.
        change: what became of that.
        use: who takes it, and how; None of a patch.
    """

    weight: Weight
    sure: Sureness
    why: str
    target: str
    change: Change
    use: Use | None = None

    @property
    def rank(self) -> tuple[int, bool]:
        """What to sort by, the worst first."""
        return WEIGHTS.index(self.weight), self.sure != "certain"


def worst(findings: list[Finding]) -> Weight:
    """Return the worst weight among findings."""
    return min((finding.weight for finding in findings), key=WEIGHTS.index, default="none")
