"""The comparison sees what is wrong, and nothing else."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from ascend_overlay.commands.verify.numbers import compare, same  # noqa: E402

NAN, INF = math.nan, math.inf


def _compare(got: Any, wanted: Any, *, rtol: float = 0.1, atol: float = 0.01, dtype: Any = torch.float32) -> Any:
    return compare([torch.tensor(got, dtype=dtype)], [torch.tensor(wanted)], rtol=rtol, atol=atol)


def test_errors_and_how_much_of_the_tolerance_they_use() -> None:
    found = _compare([1.05, -2.0, 0.005], [1.0, -2.0, 0.0])
    assert found.problem == ""
    assert found.elements == 3
    assert found.largest == pytest.approx(0.05, rel=1e-5)
    assert found.mean == pytest.approx(0.055 / 3, rel=1e-5)
    # 0.05 of 0.11, and 0.005 of 0.01.
    assert found.used == pytest.approx(0.5, rel=1e-5)


def test_the_worst_number_is_shown_with_its_place() -> None:
    found = _compare([[1.0, 1.3], [5.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]])
    assert found.problem == "2 of 4 numbers off, most at [1, 0]: 5, not 1"
    assert found.used == pytest.approx(4 / 0.11)


@pytest.mark.parametrize(
    ("got", "wanted", "ok"),
    [
        (NAN, NAN, True),
        (NAN, 1.0, False),
        (1.0, NAN, False),
        (INF, INF, True),
        (INF, -INF, False),
        (1.0, INF, False),
        (INF, 1.0, False),
        (NAN, INF, False),
    ],
)
def test_nan_and_infinity_agree_with_themselves_only(got: float, wanted: float, ok: bool) -> None:
    found = _compare([0.0, got], [0.0, wanted])
    assert (found.problem == "") == ok
    assert (found.largest == 0) == ok
    if not ok:
        assert found.largest == INF and "1 of 2 numbers off, most at [1]" in found.problem


def test_without_any_tolerance_equal_is_equal() -> None:
    assert _compare([1.0, 2.0], [1.0, 2.0], rtol=0.0, atol=0.0).problem == ""
    assert _compare([1.0, 2.0], [1.0, 2.0000002], rtol=0.0, atol=0.0).used == INF


def test_integers_have_no_relative_tolerance() -> None:
    assert _compare([100, 50], [101, 50], rtol=0.5, atol=1.0, dtype=torch.int8).problem == ""
    assert _compare([100, 50], [102, 50], rtol=0.5, atol=1.0, dtype=torch.int8).problem != ""
    assert _compare([2**60], [2**60 + 1], rtol=0.5, atol=0.0, dtype=torch.int64).largest == 1
    assert _compare([True, False], [True, True], rtol=0.5, atol=0.0, dtype=torch.bool).problem != ""


def test_integers_beside_other_numbers_have_a_tolerance_of_their_own() -> None:
    values, scale = torch.tensor([4, 5], dtype=torch.int8), torch.tensor([0.5])
    wanted = [torch.tensor([4, 6]), torch.tensor([0.6])]
    assert "result 1: " in compare([values, wanted[1]], wanted, rtol=0.0, atol=0.0).problem
    assert compare([values, wanted[1]], wanted, rtol=0.0, atol=0.0, units=1).problem == ""
    assert "result 2: " in compare([values, scale], wanted, rtol=0.0, atol=0.0, units=1).problem


def test_an_integer_may_have_a_baseline_in_float64() -> None:
    assert _compare([3], [3.4], rtol=0.0, atol=0.5, dtype=torch.int32).problem == ""


def test_shapes_and_counts() -> None:
    one, two = torch.ones(2, 3), torch.ones(3, 2)
    assert compare([one], [two], rtol=0, atol=0).problem == "shape (2, 3), not (3, 2)"
    assert compare([one, two], [one, one], rtol=0, atol=0).problem == "result 2: shape (3, 2), not (2, 3)"
    assert compare([one], [one, one], rtol=0, atol=0).problem == "1 results, not 2"
    assert compare([None], [one], rtol=0, atol=0).problem == "nothing, not a tensor"
    assert compare([None, one], [None, None], rtol=0, atol=0).problem == ""


def test_what_is_no_tensor() -> None:
    one = torch.ones(2)
    assert compare(["text"], [one], rtol=0, atol=0).problem == "str is not a tensor"
    assert compare([one, one], [one, 0.5], rtol=0, atol=0).problem == "result 2: float is not a tensor"


def test_a_tolerance_that_zeros_would_pass_is_none() -> None:
    small, zero = torch.full((3,), 1e-4), torch.zeros(3)
    assert "zeros would pass" in compare([small], [small], rtol=0.0, atol=1e-3).problem
    assert "zeros would pass" in compare([small], [small], rtol=1.0, atol=0.0).problem
    assert compare([small], [small], rtol=0.0, atol=1e-5).problem == ""
    assert compare([zero], [zero], rtol=0.0, atol=1e-3).problem == ""
    one = torch.ones(3, dtype=torch.int8)
    assert "result 2: zeros would pass" in compare([small, one], [small, one], rtol=0.0, atol=0.0, units=1).problem
    assert compare([one > 0], [one > 0], rtol=0.0, atol=0.0).problem == ""


def test_nothing_is_equal_to_nothing() -> None:
    found = compare([torch.empty(0, 4)], [torch.empty(0, 4)], rtol=0, atol=0)
    assert (found.elements, found.largest, found.mean, found.used, found.problem) == (0, 0.0, 0.0, 0.0, "")


def test_the_mean_is_over_all_results() -> None:
    a, b = torch.zeros(3), torch.ones(1)
    assert compare([a, b], [a, torch.zeros(1)], rtol=0, atol=2).mean == 0.25


def test_same() -> None:
    x = torch.tensor([1.0, NAN])
    assert same(x, x.clone())
    assert not same(x, torch.tensor([NAN, 1.0]))
    assert not same(x, x.double())
    assert not same(x, x[:1])
