"""npu_swiglu computes what torch_npu documents."""

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
    for layout in (x, x[:, ::2], x.t()):
        assert_checked_by_torch(OPERATORS.npu_swiglu, layout, 1 if layout.shape[1] % 2 == 0 else 0)
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
