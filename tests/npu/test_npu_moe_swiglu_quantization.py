"""npu_grouped_matmul_swiglu_quant_v2 computes what torch_npu and CANN document."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from npu_kit import OPERATORS, assert_checked_by_torch, assert_compiles, tensor, torch

OPERATOR = OPERATORS.npu_grouped_matmul_swiglu_quant_v2


def _int8(seed: int, *shape: int) -> Any:
    return torch.randint(-128, 128, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.int8)


def _given(counts: list[int], length: int, half: int, more: int = 0) -> dict[str, Any]:
    rows = sum(counts) + more
    return {
        "x": _int8(1, rows, length),
        "weight": [_int8(2, len(counts), length, 2 * half)],
        "weight_scale": [tensor(3, len(counts), 2 * half).abs() * 1e-3],
        "x_scale": tensor(4, rows).abs() * 0.1,
        "group_list": torch.tensor(counts),
        "group_list_type": 1,
    }


@given(
    counts=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    length=st.integers(1, 40),
    half=st.integers(1, 20),
    more=st.integers(0, 3),
    ends=st.booleans(),
)
def test_it_is_the_formula_and_rows_beyond_are_zero(
    counts: list[int], length: int, half: int, more: int, ends: bool
) -> None:
    given_ = _given(counts, length, half, more)
    groups = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    if ends:
        given_ |= {"group_list": torch.tensor(counts).cumsum(0), "group_list_type": 0}
    y, scale = OPERATOR(**given_)
    rows = sum(counts)
    assert (y.dtype, y.shape, scale.dtype, scale.shape) == (
        torch.int8,
        (rows + more, half),
        torch.float32,
        (rows + more,),
    )
    assert not y[rows:].any() and not scale[rows:].any()
    sums = torch.einsum("rk,rkn->rn", given_["x"][:rows].double(), given_["weight"][0].double()[groups])
    value = sums * given_["weight_scale"][0].double()[groups] * given_["x_scale"][:rows].double().unsqueeze(1)
    a, b = value.chunk(2, -1)
    exact = a / (1 + (-a).exp()) * b
    wanted = exact.abs().amax(-1) / 127
    torch.testing.assert_close(scale[:rows].double(), wanted, rtol=1e-5, atol=1e-30)
    whole = torch.where(wanted.unsqueeze(-1) > 0, exact / wanted.unsqueeze(-1), 0.0)
    assert (y[:rows].double() - whole).abs().le(0.5 + 1e-3).all()


def test_it_is_the_two_operators_but_for_the_rounding_in_between() -> None:
    given_ = _given([20, 0, 13], 64, 64)
    y, scale = OPERATOR(**given_)
    (hidden,) = OPERATORS.npu_grouped_matmul(
        [given_["x"]],
        given_["weight"],
        scale=[given_["weight_scale"][0].bfloat16()],
        per_token_scale=[given_["x_scale"]],
        split_item=2,
        group_type=0,
        group_list=given_["group_list"],
        group_list_type=1,
        output_dtype=torch.bfloat16,
    )
    apart, scales = OPERATORS.npu_dequant_swiglu_quant(hidden, activate_left=True, quant_mode=1)
    torch.testing.assert_close(scale, scales, rtol=0.03, atol=0)
    assert (y.int() - apart.int()).abs().max() <= 3


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "floats": ({"x": torch.ones(5, 8)}, "takes int8 for both"),
    "another length": ({"x": _int8(1, 5, 9)}, "rows as long as a weight"),
    "two weights": ({"weight": [_int8(2, 2, 8, 4)] * 2}, "one of each"),
    "an odd width": ({"weight": [_int8(2, 2, 8, 3)]}, "an even width"),
    "scales of bfloat16": ({"weight_scale": [torch.ones(2, 4, dtype=torch.bfloat16)]}, "weight_scale is"),
    "a scale too few": ({"x_scale": torch.ones(4)}, "x_scale is"),
    "more rows than there are": ({"group_list": torch.tensor([3, 4])}, "no group may be negative or go beyond"),
    "a negative group": ({"group_list": torch.tensor([5, -1])}, "no group may be negative or go beyond"),
    "another list": ({"group_list_type": 2}, "group_list_type is 2"),
    "a bias": ({"bias": torch.ones(2, 4, dtype=torch.int32)}, "computes with int8 alone"),
    "another result": ({"quant_dtype": 23}, "computes with int8 alone"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_refuses_what_the_npu_does(what: str) -> None:
    options, text = REFUSED[what]
    with pytest.raises(RuntimeError, match=text):
        OPERATOR(**{**_given([2, 3], 8, 2), **options})


def test_torch_agrees_with_schema_and_shapes() -> None:
    given_ = _given([2, 3], 16, 8)
    assert_checked_by_torch(OPERATOR, **given_)
    order = ("x", "weight", "weight_scale", "x_scale", "group_list")
    assert_compiles(lambda *given: OPERATOR(*given, group_list_type=1), *(given_[name] for name in order))
