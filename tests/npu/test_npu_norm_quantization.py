"""npu_add_rms_norm_dynamic_quant computes what torch_npu and CANN document."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from npu_kit import OPERATORS, assert_checked_by_torch, assert_compiles, tensor, torch

HALVES = [torch.float16, torch.bfloat16]
OPERATOR = OPERATORS.npu_add_rms_norm_dynamic_quant
EPSILON = 1e-5
SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)


def _exact(x1: Any, x2: Any, gamma: Any, beta: Any = None) -> tuple[Any, Any]:
    total = x1.double() + x2.double()
    norm = total / (total.square().mean(-1, keepdim=True) + EPSILON).sqrt() * gamma.double()
    return total, norm if beta is None else norm + beta.double()


def _assert_quantized(y: Any, scale: Any, exact: Any) -> None:
    """See that they are `exact` in int8 by rows; what lies between two whole numbers may be the other one."""
    assert (y.dtype, scale.dtype, y.shape, scale.shape) == (torch.int8, torch.float32, exact.shape, exact.shape[:-1])
    wanted = exact.abs().amax(-1) / 127
    torch.testing.assert_close(scale.double(), wanted, rtol=1e-5, atol=0)
    whole = torch.where(wanted.unsqueeze(-1) > 0, exact / wanted.unsqueeze(-1), 0.0)
    assert (y.double() - whole).abs().le(0.5 + 1e-3).all()


@given(rows=SHAPES, length=st.integers(1, 40), dtype=st.sampled_from(HALVES), biased=st.booleans())
def test_it_is_the_norm_of_the_sum_in_int8(rows: tuple[int, ...], length: int, dtype: Any, biased: bool) -> None:
    x1, x2, gamma = (
        tensor(seed, *shape, dtype=dtype) for seed, shape in enumerate([(*rows, length)] * 2 + [(length,)])
    )
    beta = tensor(4, length, dtype=dtype) if biased else None
    y1, y2, x, scale1, scale2 = OPERATOR(x1, x2, gamma, beta=beta, epsilon=EPSILON, output_mask=[True, False])
    total, norm = _exact(x1, x2, gamma, beta)
    assert x.dtype == dtype and torch.equal(x, total.to(dtype))
    _assert_quantized(y1, scale1, norm)
    assert (y2.shape, y2.dtype, scale2.shape, scale2.dtype) == ((0,), torch.int8, (0,), torch.float32)


def test_the_norm_is_not_rounded_before_it_is_quantized() -> None:
    """What npu_add_rms_norm and npu_dynamic_quant do in two steps may be off by one."""
    x1, x2, gamma = (
        tensor(seed, *shape, dtype=torch.bfloat16) for seed, shape in enumerate([(64, 512)] * 2 + [(512,)])
    )
    y, _, _, scale, _ = OPERATOR(x1, x2, gamma, epsilon=EPSILON)
    norm, _, total = OPERATORS.npu_add_rms_norm(x1, x2, gamma, EPSILON)
    stepwise, _ = OPERATORS.npu_dynamic_quant(norm)
    off = (y.int() - stepwise.int()).abs()
    assert off.max() == 1 and 0 < off.float().mean() < 0.2
    _assert_quantized(y, scale, _exact(x1, x2, gamma)[1])
    assert torch.equal(OPERATOR(x1, x2, gamma, epsilon=EPSILON)[2], total)


@given(length=st.integers(1, 40), dtype=st.sampled_from(HALVES))
def test_it_quantizes_twice(length: int, dtype: Any) -> None:
    x1, x2 = tensor(1, 3, length, dtype=dtype), tensor(2, 3, length, dtype=dtype)
    gamma, first, second = (tensor(seed, length, dtype=dtype) for seed in (3, 4, 5))
    y1, y2, _, scale1, scale2 = OPERATOR(x1, x2, gamma, smooth_scale1=first, smooth_scale2=second, epsilon=EPSILON)
    _, norm = _exact(x1, x2, gamma)
    _assert_quantized(y1, scale1, norm * first.double())
    _assert_quantized(y2, scale2, norm * second.double())


def test_a_row_of_zeros_has_the_scale_zero() -> None:
    zeros = torch.zeros(2, 8, dtype=torch.float16)
    y, _, x, scale, _ = OPERATOR(zeros, zeros, torch.ones(8, dtype=torch.float16))
    assert not y.any() and not x.any() and not scale.any()


ROW = torch.ones(8, dtype=torch.float16)
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another dtype": ({"x1": torch.ones(2, 8)}, "both are float16, or both bfloat16"),
    "two dtypes": ({"x2": torch.ones(2, 8, dtype=torch.bfloat16)}, "both are float16, or both bfloat16"),
    "one dimension": ({"x1": ROW, "x2": ROW}, "2 to 8"),
    "other rows": ({"x2": torch.ones(3, 8, dtype=torch.float16)}, "they are equal, and not empty"),
    "no rows": ({"x1": ROW.new_empty(0, 8), "x2": ROW.new_empty(0, 8)}, "they are equal, and not empty"),
    "another weight": ({"gamma": torch.ones(8)}, r"gamma is \(8,\) of torch.float32"),
    "another bias": ({"beta": ROW[:4]}, r"beta is \(4,\)"),
    "nothing asked for": ({"output_mask": [False, False]}, "of which one is set"),
    "a scale for nothing": ({"smooth_scale2": ROW, "output_mask": [True, False]}, "there is a smooth_scale2"),
    "the second scale alone": ({"smooth_scale2": ROW}, "without smooth_scale1"),
    "another result": ({"y_dtype": torch.quint4x2}, "y_dtype is"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_refuses_what_the_npu_does(what: str) -> None:
    options, text = REFUSED[what]
    given = {"x1": torch.ones(2, 8, dtype=torch.float16), "x2": torch.ones(2, 8, dtype=torch.float16), "gamma": ROW}
    with pytest.raises(RuntimeError, match=text):
        OPERATOR(**{**given, **options})


def test_torch_agrees_with_schema_and_shapes() -> None:
    x1, x2, gamma = tensor(1, 4, 16, dtype=torch.bfloat16), tensor(2, 4, 16, dtype=torch.bfloat16), tensor(3, 16)
    arguments = (x1, x2, gamma.bfloat16())
    for options in ({"output_mask": [True, False]}, {"output_mask": [False, True]}, {}):
        assert_checked_by_torch(OPERATOR, *arguments, **options)
    assert_compiles(lambda *given: OPERATOR(*given, output_mask=[True, False]), *arguments)
