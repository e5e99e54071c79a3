"""Checks that run once for arguments that are alike."""

from __future__ import annotations

from typing import Any

import pytest
from npu_kit import OPERATORS, torch

from ascend_overlay.npu.reference import checks


@pytest.fixture
def counted() -> tuple[Any, list[Any]]:
    """A check that refuses vectors of float64, and the arguments it was run with."""
    seen: list[Any] = []

    @checks.once_for_alike
    def check(x: Any, number: int = 0) -> None:
        seen.append((x, number))
        if x.dtype == torch.float64:
            checks.refuse("npu_nothing", "float64.")

    return check, seen


def test_what_passed_passes_without_a_second_look(counted: tuple[Any, list[Any]]) -> None:
    check, seen = counted
    check(torch.ones(2, 3), 1)
    check(torch.zeros(2, 3), 1)
    assert len(seen) == 1


@pytest.mark.parametrize(
    "other",
    [
        (torch.ones(3, 2), 1),
        (torch.ones(2, 3, dtype=torch.float16), 1),
        (torch.ones(3, 2).t(), 1),
        (torch.ones(2, 3), 2),
    ],
    ids=["shape", "dtype", "contiguity", "number"],
)
def test_what_differs_is_looked_at(counted: tuple[Any, list[Any]], other: tuple[Any, int]) -> None:
    check, seen = counted
    check(torch.ones(2, 3), 1)
    check(*other)
    assert len(seen) == 2


def test_what_is_refused_is_refused_each_time(counted: tuple[Any, list[Any]]) -> None:
    check, seen = counted
    for _ in range(3):
        with pytest.raises(RuntimeError, match="npu::npu_nothing: float64"):
            check(torch.ones(2, dtype=torch.float64))
    assert len(seen) == 3


def test_so_many_signatures_are_remembered_and_no_more(
    counted: tuple[Any, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    check, seen = counted
    monkeypatch.setattr(checks, "_REMEMBERED", 2)
    for number in (1, 2, 1, 2, 3, 1):
        check(torch.ones(2), number)
    assert [number for _, number in seen] == [1, 2, 3, 1]


def test_an_operator_refuses_what_is_not_like_what_it_took() -> None:
    x = torch.ones(2, 8)
    OPERATORS.npu_rms_norm(x, torch.ones(8), 1e-6)
    with pytest.raises(RuntimeError, match="gamma must have the trailing dimensions"):
        OPERATORS.npu_rms_norm(x, torch.ones(4), 1e-6)
