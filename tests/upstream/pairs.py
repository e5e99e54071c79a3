"""Fewer of the tests that differ in parameters alone: any two values of two parameters still meet in one of them."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Mapping
from typing import Any


def covering(points: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return names of points, in their order, among which each pair of values occurs that occurs at all.

    Args:
        points: the parameters of each point, by its name; the values are compared by what they look like.
    """
    left = {name: _pairs(parameters) for name, parameters in points.items()}
    wanted = set().union(*left.values())
    kept = set()
    while wanted:
        # The first of the best, so that every process chooses the same.
        best = max(left, key=lambda name: len(left[name] & wanted))
        kept.add(best)
        wanted -= left[best]
    return [name for name in points if name in kept]


def _pairs(parameters: Mapping[str, Any]) -> set[Hashable]:
    values: Iterable[tuple[str, str]] = sorted((name, repr(value)) for name, value in parameters.items())
    # A parameter without another beside it is a pair by itself.
    return set(itertools.combinations(values, 2)) or {("alone", *values)}
