"""Whether two runs of a model say the same: greedy tokens, and their log probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

TOLERANCE = 0.1
"""Largest difference of a log probability, in nats, between two correct roundings to bfloat16: 0.04 was seen."""


class Agreement(NamedTuple):
    """How two runs compare.

    Attributes:
        equal: how many sequences have the same tokens.
        sequences: how many there are.
        ties: at how many places the runs part, each taking a token that the other finds as likely as its own, within
            the tolerance. What follows there is about other texts, and is not compared.
        largest: the largest difference of a log probability before.
    """

    equal: int
    sequences: int
    ties: int
    largest: float


def compared(ours: Mapping[str, Any], theirs: Mapping[str, Any], tolerance: float = TOLERANCE) -> Agreement:
    """Return how two runs compare; fail where they disagree by more than `tolerance`."""
    assert "error" not in ours and "error" not in theirs, (ours.get("error"), theirs.get("error"))
    equal, ties, largest = 0, 0, 0.0
    sequences = list(zip(ours["tokens"], theirs["tokens"], ours["likeliest"], theirs["likeliest"], strict=True))
    for mine, other, my_places, other_places in sequences:
        assert len(mine) == len(other)
        for place, (one, two) in enumerate(zip(mine, other, strict=True)):
            here, there = my_places[place], other_places[place]
            assert str(one) in there, f"token {place}: {one}, which is none of {there}"
            largest = max(largest, abs(here[str(one)] - there[str(one)]))
            assert largest < tolerance, f"token {place}: {here}, {there}"
            if one != two:
                assert abs(there[str(one)] - there[str(two)]) < tolerance, f"token {place}: {here}, {there}"
                ties += 1
                break
        else:
            equal += 1
    return Agreement(equal, len(sequences), ties, largest)
