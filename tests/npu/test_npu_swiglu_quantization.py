"""npu_dequant_swiglu_quant computes what torch_npu and CANN document."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from npu_kit import OPERATORS, assert_checked_by_torch, assert_compiles, tensor, torch

HALVES = [torch.float16, torch.bfloat16]
OPERATOR = OPERATORS.npu_dequant_swiglu_quant


def _exact(value: Any, left: bool) -> Any:
    first, second = value.double().chunk(2, -1)
    a, b = (first, second) if left else (second, first)
    return a / (1 + (-a).exp()) * b


def _assert_quantized(got: tuple[Any, Any], exact: Any) -> None:
    """See that `got` is `exact` in int8 by rows; what lies between two whole numbers may be the other one."""
    y, scale = got
    assert (y.dtype, scale.dtype, y.shape, scale.shape) == (torch.int8, torch.float32, exact.shape, exact.shape[:1])
    wanted = exact.abs().amax(-1) / 127
    torch.testing.assert_close(scale.double(), wanted, rtol=1e-5, atol=0)
    whole = torch.where(wanted.unsqueeze(-1) > 0, exact / wanted.unsqueeze(-1), 0.0)
    assert (y.double() - whole).abs().le(0.5 + 1e-3).all()


@given(rows=st.integers(0, 6), half=st.integers(1, 40), dtype=st.sampled_from(HALVES), left=st.booleans())
def test_of_floats_it_is_the_gated_activation_in_int8(rows: int, half: int, dtype: Any, left: bool) -> None:
    x = tensor(1, rows, 2 * half, dtype=dtype, scale=3.0)
    _assert_quantized(OPERATOR(x, activate_left=left, quant_mode=1), _exact(x, left))


@given(
    counts=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    more=st.integers(0, 3),
    left=st.booleans(),
    column=st.booleans(),
)
def test_sums_are_scaled_by_group_and_row_before(counts: list[int], more: int, left: bool, column: bool) -> None:
    rows = sum(counts)
    x = (tensor(1, rows + more, 128) * 1000).int()
    weight, activation = tensor(2, len(counts), 128).abs() * 1e-2, tensor(3, rows + more).abs() * 0.1
    y, scale = OPERATOR(
        x,
        weight_scale=weight,
        activation_scale=activation.unsqueeze(1) if column else activation,
        group_index=torch.tensor(counts),
        activate_left=left,
        quant_mode=1,
    )
    by_row = weight.double().repeat_interleave(torch.tensor(counts), 0)
    value = x[:rows].double() * by_row * activation[:rows].double().unsqueeze(1)
    _assert_quantized((y[:rows], scale[:rows]), _exact(value, left))
    assert not y[rows:].any() and not scale[rows:].any()


def test_a_row_of_zeros_has_the_scale_0() -> None:
    y, scale = OPERATOR(torch.zeros(2, 8, dtype=torch.bfloat16), quant_mode=1)
    assert not y.any() and not scale.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quant_mode": 0}, "quantizes dynamically"),
        ({"bias": torch.zeros(64)}, "without bias and scales"),
        ({"swiglu_mode": 1}, "quantizes dynamically"),
        ({"x": torch.zeros(2, 63, dtype=torch.bfloat16)}, "63 elements; it takes an even number"),
        ({"x": torch.zeros(2, 64)}, "x is torch.float32"),
        ({"x": torch.zeros(2, 3, 64, dtype=torch.bfloat16)}, "x has 3 dimensions"),
        ({"x": torch.zeros(64, 2, dtype=torch.bfloat16).t()}, "x is not contiguous"),
        ({"x": torch.zeros(2, 9832, dtype=torch.bfloat16)}, "CANN has no room"),
        ({"x": torch.zeros(2, 64, dtype=torch.int32)}, "go with int32"),
        ({"weight_scale": torch.zeros(64)}, "go with int32"),
        ({"group_index": torch.tensor([2])}, "multiple of 64"),
        ({"group_index": torch.tensor([2], dtype=torch.int32)}, "group_index is torch.int32"),
    ],
)
def test_what_the_npu_refuses_is_refused(changes: dict[str, Any], message: str) -> None:
    arguments = {"x": torch.zeros(2, 64, dtype=torch.bfloat16), "quant_mode": 1} | changes
    with pytest.raises(RuntimeError, match=message):
        OPERATOR(arguments.pop("x"), **arguments)


def test_scales_of_a_wrong_shape_are_refused() -> None:
    x, weight, activation = torch.zeros(2, 64, dtype=torch.int32), torch.zeros(64), torch.zeros(2)
    for scales, message in (
        ((weight[:32], activation), "weight_scale is"),
        ((weight.double(), activation), "weight_scale is"),
        ((weight, activation[:1]), "activation_scale is"),
    ):
        with pytest.raises(RuntimeError, match=message):
            OPERATOR(x, weight_scale=scales[0], activation_scale=scales[1], quant_mode=1)


def test_torch_accepts_it() -> None:
    x = tensor(1, 5, 64, dtype=torch.bfloat16)
    assert_checked_by_torch(OPERATOR, x, activate_left=True, quant_mode=1)
    assert_compiles(lambda x: OPERATOR(x, activate_left=True, quant_mode=1), x)
