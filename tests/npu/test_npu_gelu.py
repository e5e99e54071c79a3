"""npu_gelu, npu_fast_gelu and npu_geglu compute what torch_npu and CANN document."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from npu_kit import DTYPES, OPERATORS, assert_checked_by_torch, assert_compiles, assert_rounded_once, tensor, torch

_SHAPES = st.lists(st.integers(0, 6), min_size=1, max_size=4)


def _gelu(x: Any, approximate: str) -> Any:
    x = x.double()
    if approximate == "none":
        return x * (1 + torch.erf(x / math.sqrt(2))) / 2
    return x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


@given(
    shape=_SHAPES,
    dtype=st.sampled_from(DTYPES),
    scale=st.sampled_from([1e-3, 1.0, 8.0, 100.0]),
    approximate=st.sampled_from(["none", "tanh"]),
)
def test_gelu_is_the_formula_rounded_once(shape: list[int], dtype: Any, scale: float, approximate: str) -> None:
    x = tensor(1, *shape, dtype=dtype, scale=scale)
    y = OPERATORS.npu_gelu(x, approximate=approximate)
    assert y.dtype == dtype
    # Far to the left, 1 + erf(x) keeps few bits of its own in float32.
    assert_rounded_once(y, _gelu(x, approximate), _gelu(x, approximate).abs() + 0.05 * x.double().abs().clamp(max=6))


@given(shape=_SHAPES, dtype=st.sampled_from(DTYPES), scale=st.sampled_from([1e-3, 1.0, 8.0]))
def test_fast_gelu_is_the_formula_rounded_once(shape: list[int], dtype: Any, scale: float) -> None:
    x = tensor(1, *shape, dtype=dtype, scale=scale)
    y = OPERATORS.npu_fast_gelu(x)
    exact = x.double() / (1 + (-1.702 * x.double()).exp())
    assert y.dtype == dtype
    # The exponent 1.702 * x is rounded, too: its last bit counts x times.
    assert_rounded_once(y, exact, exact.abs() * (1 + x.double().abs()))


@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    half=st.integers(1, 40),
    dtype=st.sampled_from(DTYPES),
    approximate=st.sampled_from([0, 1]),
    left=st.booleans(),
    data=st.data(),
)
def test_geglu_is_the_formula_rounded_once(
    shape: list[int], half: int, dtype: Any, approximate: int, left: bool, data: Any
) -> None:
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    shape[dim] = 2 * half
    x = tensor(1, *shape, dtype=dtype)
    product, gelu = OPERATORS.npu_geglu(x, dim, approximate, left)
    parts = x.narrow(dim, 0, half), x.narrow(dim, half, half)
    activated, other = parts if left else parts[::-1]
    exact = _gelu(activated, ("none", "tanh")[approximate])
    size = exact.abs() + 0.05 * activated.double().abs()
    assert (product.dtype, gelu.dtype) == (dtype, dtype)
    assert_rounded_once(gelu, exact, size)
    assert_rounded_once(product, exact * other.double(), size * other.double().abs())


def test_what_the_numbers_are_where_they_are_known() -> None:
    x = torch.tensor([0.0, -0.0, math.nan, 1.0])
    for y in (OPERATORS.npu_gelu(x), OPERATORS.npu_gelu(x, approximate="tanh"), OPERATORS.npu_fast_gelu(x)):
        assert y[:2].tolist() == [0.0, 0.0]
        assert y[2].isnan()
    assert OPERATORS.npu_gelu(x)[3].item() == pytest.approx(0.8413447)
    assert OPERATORS.npu_gelu(x, approximate="tanh")[3].item() == pytest.approx(0.8411920)
    assert OPERATORS.npu_fast_gelu(x)[3].item() == pytest.approx(0.8457957)


def test_the_second_half_is_activated_by_default() -> None:
    product, gelu = OPERATORS.npu_geglu(torch.tensor([[3.0, 1.0]]))
    assert gelu.item() == pytest.approx(0.8411920)
    assert product.item() == pytest.approx(3 * 0.8411920)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_result_shares_no_memory_with_the_argument(dtype: Any) -> None:
    x = tensor(1, 4, dtype=dtype)
    before = x.clone()
    for y in (OPERATORS.npu_gelu(x), OPERATORS.npu_fast_gelu(x), *OPERATORS.npu_geglu(x)):
        y.zero_()
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_accepts_the_operators(dtype: Any) -> None:
    x = tensor(1, 6, 24, dtype=dtype)
    for layout in (x, x[:, ::2], x.t()):
        assert_checked_by_torch(OPERATORS.npu_gelu, layout, approximate="tanh")
        assert_checked_by_torch(OPERATORS.npu_fast_gelu, layout)
        assert_checked_by_torch(OPERATORS.npu_geglu, layout, -1, 0, True)
    assert_compiles(lambda x: OPERATORS.npu_gelu(x), x)
    assert_compiles(lambda x: OPERATORS.npu_fast_gelu(x), x.t())
    assert_compiles(lambda x: OPERATORS.npu_geglu(x, 0), x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: OPERATORS.npu_gelu(torch.ones(2), approximate="erf"), "'none' or 'tanh'"),
        (lambda: OPERATORS.npu_gelu(torch.ones(2, dtype=torch.float64)), "float64"),
        (lambda: OPERATORS.npu_fast_gelu(torch.ones([1] * 9)), "9 dimensions"),
        (lambda: OPERATORS.npu_geglu(torch.ones(2, 7)), "even number"),
        (lambda: OPERATORS.npu_geglu(torch.ones(2, 8), 2), "dim is 2"),
        (lambda: OPERATORS.npu_geglu(torch.ones(2, 8), -1, 2), "hyperbolic tangent"),
    ],
)
def test_what_the_npu_refuses_is_refused(call: Any, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        call()
