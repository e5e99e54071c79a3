"""Do two runs of the same prompts say the same?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ascend_overlay.commands.demo.watching import Run

LIKELIEST = 20
"""How many of the likeliest tokens are compared at every position."""

TOLERANCE = 0.5
"""Largest difference of a log probability that passes, in nats.

For the demo's model in bfloat16: correct rounding stays below 0.15, and of the mistakes that tests/zoo/mistakes.py
makes on purpose the smallest moves 0.8."""


@dataclass(frozen=True)
class Difference:
    """How the outputs of one prompt differ.

    Attributes:
        prompt: the prompt.
        text: what the other run generated.
        tokens: number of greedy tokens of the stock run.
        agreeing: how many of them the other run generated, too, before the first that differs.
        tie: for the first token that differs: how much likelier, at least, the stock run found its own choice, in
            nats; None where there is no such token.
        compared: number of log probabilities compared; those after a differing token have another past and are left
            out.
        not_finite: how many of them are infinite or not a number in either run.
        largest: largest difference among the others, in nats.
    """

    prompt: str
    text: str
    tokens: int
    agreeing: int
    tie: float | None
    compared: int
    not_finite: int
    largest: float

    @property
    def acceptable(self) -> bool:
        """Whether the difference is one that rounding explains."""
        same = self.agreeing == self.tokens > 0 or (self.tie is not None and self.tie <= TOLERANCE)
        return same and self.compared > 0 and self.not_finite == 0 and self.largest <= TOLERANCE

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {**asdict(self), "acceptable": self.acceptable}


def compare(stock: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> list[Difference]:
    """Compare the outputs of two runs, prompt by prompt.

    Args:
        stock: outputs as the worker script reports them.
        other: the same for the other run; the prompts must be the same.
    """
    return [_difference(theirs, ours) for theirs, ours in zip(stock, other, strict=True)]


def of_runs(stock: Run, other: Run | None) -> list[Difference]:
    """Compare what two runs reported; nothing where one of them is not there or did not get so far."""
    if other is None or not stock.result or not other.result:
        return []
    return compare(stock.result["outputs"], other.result["outputs"])


def _difference(stock: Mapping[str, Any], overlaid: Mapping[str, Any]) -> Difference:
    theirs, ours = stock["tokens"], overlaid["tokens"]
    pairs = enumerate(zip(theirs, ours, strict=False))
    shorter = min(len(theirs), len(ours))
    agreeing = next((position for position, (left, right) in pairs if left != right), shorter)
    # The first token that differs was predicted from a common past, so its position still counts.
    positions = [
        *zip(stock["prompt_logprobs"], overlaid["prompt_logprobs"], strict=True),
        *zip(stock["logprobs"][: agreeing + 1], overlaid["logprobs"][: agreeing + 1], strict=False),
    ]
    differences = [difference for left, right in positions for difference in _at_position(left, right)]
    finite = [difference for difference in differences if math.isfinite(difference)]
    tie = None
    if agreeing < shorter:
        likeliest = stock["logprobs"][agreeing]
        tie = likeliest[str(theirs[agreeing])] - likeliest.get(str(ours[agreeing]), _last_of_the_likeliest(likeliest))
    return Difference(
        prompt=stock["prompt"],
        text=overlaid["text"],
        tokens=len(theirs),
        agreeing=agreeing,
        tie=tie,
        compared=len(differences),
        not_finite=len(differences) - len(finite),
        largest=max(finite, default=0.0),
    )


def _at_position(left: Mapping[str, float], right: Mapping[str, float]) -> list[float]:
    """Return the differences of the likeliest tokens of both.

    A token that only one of them lists is in the other at most as likely as the last of the likeliest there, so its
    difference is at least the distance to that.
    """
    found = [abs(left[token] - right[token]) for token in left.keys() & right.keys()]
    for one, other in ((left, right), (right, left)):
        last = _last_of_the_likeliest(other)
        found += [max(0.0, one[token] - last) for token in one.keys() - other.keys()]
    return found


def _last_of_the_likeliest(listed: Mapping[str, float]) -> float:
    # A list is longer by one where the token that really came is not among the likeliest.
    return sorted(listed.values(), reverse=True)[:LIKELIEST][-1]
