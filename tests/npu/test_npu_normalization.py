"""npu_rms_norm, npu_add_rms_norm and npu_gemma_rms_norm compute what torch_npu documents."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from npu_kit import DTYPES, OPERATORS, assert_checked_by_torch, assert_compiles, assert_rounded_once, tensor, torch

_SHAPES = st.lists(st.integers(1, 5), min_size=0, max_size=3).flatmap(
    lambda leading: st.integers(1, 200).map(lambda last: (*leading, last))
)


def _exact(x: Any, gamma: Any, epsilon: float, dims: int) -> tuple[Any, Any]:
    x = x.double()
    axes = tuple(range(-dims, 0))
    rstd = 1 / ((x * x).mean(axes, keepdim=True) + epsilon) ** 0.5
    return x * rstd * gamma.double(), rstd


@given(shape=_SHAPES, dtype=st.sampled_from(DTYPES), mixed=st.booleans(), scale=st.sampled_from([1e-3, 1.0, 30.0]))
def test_rms_norm_is_the_formula_rounded_once(shape: tuple[int, ...], dtype: Any, mixed: bool, scale: float) -> None:
    x = tensor(1, *shape, dtype=dtype, scale=scale)
    gamma = tensor(2, shape[-1], dtype=torch.float32 if mixed else dtype)
    y, rstd = OPERATORS.npu_rms_norm(x, gamma, 1e-5)
    exact_y, exact_rstd = _exact(x, gamma, 1e-5, 1)
    assert y.dtype == dtype
    assert rstd.dtype == torch.float32
    assert rstd.shape == (*shape[:-1], 1)
    assert_rounded_once(y, exact_y)
    assert_rounded_once(rstd, exact_rstd)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rms_norm_over_two_dimensions(dtype: Any) -> None:
    x, gamma = tensor(1, 2, 3, 4, 8, dtype=dtype), tensor(2, 4, 8, dtype=dtype)
    y, rstd = OPERATORS.npu_rms_norm(x, gamma)
    exact_y, exact_rstd = _exact(x, gamma, 1e-6, 2)
    assert rstd.shape == (2, 3, 1, 1)
    assert_rounded_once(y, exact_y)
    assert_rounded_once(rstd, exact_rstd)


@given(shape=_SHAPES, dtype=st.sampled_from(DTYPES))
def test_add_rms_norm_is_the_formula_rounded_once(shape: tuple[int, ...], dtype: Any) -> None:
    x1, x2, gamma = tensor(1, *shape, dtype=dtype), tensor(2, *shape, dtype=dtype), tensor(3, shape[-1], dtype=dtype)
    before = x1.clone(), x2.clone()
    y, rstd, x = OPERATORS.npu_add_rms_norm(x1, x2, gamma, 1e-5)
    total = x1.double() + x2.double()
    exact_y, exact_rstd = _exact(total, gamma, 1e-5, 1)
    # Of a sum that nearly cancels, the last bits are those of the terms.
    size = (x1.double().abs() + x2.double().abs()) * exact_rstd * gamma.double().abs()
    assert (y.dtype, rstd.dtype, x.dtype) == (dtype, torch.float32, dtype)
    assert_rounded_once(y, exact_y, size + exact_y.abs())
    assert_rounded_once(rstd, exact_rstd)
    assert_rounded_once(x, total, x1.double().abs() + x2.double().abs())
    assert torch.equal(x1, before[0])
    assert torch.equal(x2, before[1])


def test_no_tokens() -> None:
    y, rstd = OPERATORS.npu_rms_norm(torch.empty(0, 8), torch.ones(8))
    assert (y.shape, rstd.shape) == ((0, 8), (0, 1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["contiguous", "slice", "transposed"])
def test_torch_accepts_the_operators(dtype: Any, layout: str) -> None:
    wide = tensor(1, 6, 4, 32, dtype=dtype)
    x = {"contiguous": wide[..., :16].clone(), "slice": wide[..., :16], "transposed": wide.transpose(0, 1)}[layout]
    gamma = tensor(2, x.shape[-1], dtype=dtype)
    assert_checked_by_torch(OPERATORS.npu_rms_norm, x, gamma, 1e-6)
    assert_checked_by_torch(OPERATORS.npu_add_rms_norm, x, x.clone(), gamma, 1e-6)
    assert_compiles(lambda x, g: OPERATORS.npu_rms_norm(x, g, 1e-6), x, gamma)
    assert_compiles(lambda x, g: OPERATORS.npu_add_rms_norm(x, x * 2, g, 1e-6), x, gamma)


@pytest.mark.parametrize(
    ("x", "gamma", "message"),
    [
        (torch.ones(2, 8), torch.ones(7), "trailing dimensions"),
        (torch.ones(2, 8), torch.ones(1, 2, 8), "trailing dimensions"),
        (torch.ones(2, 8, dtype=torch.float64), torch.ones(8), "float64"),
        (torch.ones(2, 8, dtype=torch.bfloat16), torch.ones(8, dtype=torch.float16), "float32"),
        (torch.ones([1] * 8 + [4]), torch.ones(4), "9 dimensions"),
    ],
)
def test_what_the_npu_refuses_is_refused(x: Any, gamma: Any, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        OPERATORS.npu_rms_norm(x, gamma)


def test_add_rms_norm_takes_one_dtype_and_one_shape() -> None:
    x = torch.ones(2, 8, dtype=torch.bfloat16)
    with pytest.raises(RuntimeError, match=r"one dtype.*gamma torch\.float32"):
        OPERATORS.npu_add_rms_norm(x, x, torch.ones(8))
    with pytest.raises(RuntimeError, match="must be equal"):
        OPERATORS.npu_add_rms_norm(x, x[:1], torch.ones(8, dtype=torch.bfloat16))


@given(shape=_SHAPES, dtype=st.sampled_from(DTYPES), scale=st.sampled_from([1e-3, 1.0, 30.0]))
def test_gemma_rms_norm_is_the_formula_rounded_once(shape: tuple[int, ...], dtype: Any, scale: float) -> None:
    x, gamma = tensor(1, *shape, dtype=dtype, scale=scale), tensor(2, shape[-1], dtype=dtype)
    y, rstd = OPERATORS.npu_gemma_rms_norm(x, gamma, 1e-5)
    exact_y, exact_rstd = _exact(x, 1 + gamma.double(), 1e-5, 1)
    assert (y.dtype, rstd.dtype, rstd.shape) == (dtype, torch.float32, (*shape[:-1], 1))
    assert_rounded_once(y, exact_y, exact_y.abs() + x.double().abs() * exact_rstd)
    assert_rounded_once(rstd, exact_rstd)


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_accepts_gemma_rms_norm(dtype: Any) -> None:
    x, gamma = tensor(1, 6, 4, 32, dtype=dtype), tensor(2, 32, dtype=dtype)
    assert_checked_by_torch(OPERATORS.npu_gemma_rms_norm, x, gamma, 1e-6)
    assert_compiles(lambda x, g: OPERATORS.npu_gemma_rms_norm(x, g, 1e-6), x, gamma)


@pytest.mark.parametrize(
    ("x", "gamma", "message"),
    [
        (torch.ones(2, 8), torch.ones(7), "trailing dimensions"),
        (torch.ones(2, 8, dtype=torch.bfloat16), torch.ones(8), "one dtype"),
        (torch.ones(0, 8), torch.ones(8), "without an element"),
    ],
)
def test_what_the_npu_refuses_of_gemma_rms_norm_is_refused(x: Any, gamma: Any, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        OPERATORS.npu_gemma_rms_norm(x, gamma)
