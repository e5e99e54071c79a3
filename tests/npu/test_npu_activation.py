"""npu_swiglu and npu_clipped_swiglu compute what torch_npu documents."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from npu_kit import DTYPES, OPERATORS, assert_checked_by_torch, assert_compiles, assert_rounded_once, tensor, torch


@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    half=st.integers(1, 64),
    dtype=st.sampled_from(DTYPES),
    scale=st.sampled_from([1.0, 8.0]),
    data=st.data(),
)
def test_swiglu_is_the_formula_rounded_once(shape: list[int], half: int, dtype: Any, scale: float, data: Any) -> None:
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    shape[dim] = 2 * half
    x = tensor(1, *shape, dtype=dtype, scale=scale)
    y = OPERATORS.npu_swiglu(x, dim)
    a, b = x.double().narrow(dim, 0, half), x.double().narrow(dim, half, half)
    assert y.dtype == dtype
    assert_rounded_once(y, a / (1 + (-a).exp()) * b)


def test_the_last_dimension_is_halved_by_default() -> None:
    assert OPERATORS.npu_swiglu(torch.ones(3, 8)).shape == (3, 4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_accepts_the_operator(dtype: Any) -> None:
    x = tensor(1, 5, 24, dtype=dtype)
    for part, dim in ((x, -1), (x[1:3], 0), (x[0], 0)):
        assert_checked_by_torch(OPERATORS.npu_swiglu, part, dim)
    assert_compiles(lambda x: OPERATORS.npu_swiglu(x), x)


@pytest.mark.parametrize(
    ("x", "dim", "message"),
    [
        (torch.ones(2, 7), -1, "even number"),
        (torch.ones(2, 8), 2, "dim is 2"),
        (torch.ones(2, 8, dtype=torch.int32), -1, "int32"),
    ],
)
def test_what_the_npu_refuses_is_refused(x: Any, dim: int, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        OPERATORS.npu_swiglu(x, dim)


@given(
    shape=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    half=st.integers(1, 40),
    dtype=st.sampled_from(DTYPES),
    alpha=st.sampled_from([1.0, 1.702]),
    limit=st.sampled_from([0.5, 7.0]),
    bias=st.sampled_from([0.0, 1.0]),
    interleaved=st.booleans(),
    data=st.data(),
)
def test_clipped_swiglu_is_the_formula_rounded_once(
    shape: list[int], half: int, dtype: Any, alpha: float, limit: float, bias: float, interleaved: bool, data: Any
) -> None:
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    shape[dim] = 2 * half
    x = tensor(1, *shape, dtype=dtype, scale=4.0)
    y = OPERATORS.npu_clipped_swiglu(x, dim=dim, alpha=alpha, limit=limit, bias=bias, interleaved=interleaved)
    behind = torch.Size(shape[dim % len(shape) :]).numel()
    rows = x.double().reshape(-1, behind)
    a, b = (rows[:, ::2], rows[:, 1::2]) if interleaved else (rows[:, : behind // 2], rows[:, behind // 2 :])
    a, b = (
        torch.minimum(a, torch.tensor(limit)),
        torch.minimum(torch.maximum(b, torch.tensor(-limit)), torch.tensor(limit)),
    )
    shape[dim] = half
    exact = a / (1 + (-alpha * a).exp()) * (b + bias)
    size = a.abs() / (1 + (-alpha * a).exp()) * (b.abs() + bias) * (1 + alpha * a.abs())
    assert y.dtype == dtype
    assert_rounded_once(y, exact.reshape(shape), size.reshape(shape))


def test_clipped_swiglu_stops_after_the_last_group() -> None:
    x, groups = tensor(1, 5, 8), torch.tensor([2, 0, 1])
    y = OPERATORS.npu_clipped_swiglu(x, group_index=groups)
    assert torch.equal(y[:3], OPERATORS.npu_clipped_swiglu(x)[:3])
    assert not y[3:].any()
    assert_checked_by_torch(OPERATORS.npu_clipped_swiglu, x, group_index=groups)


def test_clipped_swiglu_of_no_token() -> None:
    assert OPERATORS.npu_clipped_swiglu(torch.ones(0, 8)).shape == (0, 4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_accepts_clipped_swiglu(dtype: Any) -> None:
    x = tensor(1, 5, 3, 24, dtype=dtype)
    for options in ({}, {"interleaved": False, "alpha": 1.0, "bias": 0.0}, {"dim": -1, "limit": 0.5}):
        assert_checked_by_torch(OPERATORS.npu_clipped_swiglu, x, **options)
    assert_compiles(lambda x: OPERATORS.npu_clipped_swiglu(x, interleaved=False), x)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (torch.ones(2, 7), {}, "even number"),
        (torch.ones(8), {}, "1 dimensions"),
        (torch.ones(2, 8), {"dim": 2}, "dim is 2"),
        (torch.ones(2, 8).t(), {"dim": 0}, "not contiguous"),
        (torch.ones(2, 8, dtype=torch.int32), {}, "int32"),
        (torch.ones(2, 8), {"group_index": torch.ones(1)}, "int64"),
    ],
)
def test_what_the_npu_refuses_of_clipped_swiglu_is_refused(x: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        OPERATORS.npu_clipped_swiglu(x, **options)
