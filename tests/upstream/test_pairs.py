"""What is left of a grid has all pairs of values."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pairs import covering


def _pairs(point: dict[str, Any]) -> set[Any]:
    return set(itertools.combinations(sorted(point.items()), 2))


@given(sizes=st.lists(st.integers(1, 4), min_size=2, max_size=4), left_out=st.sets(st.integers(0, 20)))
def test_each_pair_of_values_that_there_is_stays(sizes: list[int], left_out: set[int]) -> None:
    grid = [dict(enumerate(values)) for values in itertools.product(*(range(size) for size in sizes))]
    points = {str(n): {f"p{k}": v for k, v in point.items()} for n, point in enumerate(grid) if n not in left_out}
    kept = covering(points)
    assert kept == [name for name in points if name in kept]
    there = set().union(*(_pairs(point) for point in points.values()))
    assert set().union(*(_pairs(points[name]) for name in kept)) == there


def test_a_grid_becomes_small() -> None:
    points = {str(values): dict(zip("abcde", values, strict=True)) for values in itertools.product(range(3), repeat=5)}
    assert len(points) == 243
    assert 9 <= len(covering(points)) <= 20


def test_one_parameter_and_none() -> None:
    assert covering({"x": {"a": 1}, "y": {"a": 2}, "z": {"a": 1}}) == ["x", "y"]
    assert covering({"x": {}}) == ["x"]
    assert covering({}) == []
