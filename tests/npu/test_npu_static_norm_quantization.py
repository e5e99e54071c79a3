"""npu_add_rms_norm_quant computes what torch_npu and CANN document."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from npu_kit import OPERATORS, assert_checked_by_torch, assert_compiles, tensor, torch

OPERATOR = OPERATORS.npu_add_rms_norm_quant
EPSILON = 1e-5
SHAPES = st.lists(st.integers(1, 5), min_size=0, max_size=3).map(tuple)


def _row(length: int, dtype: Any, offset: int = 3) -> tuple[Any, Any]:
    """Return scales and zero points for activations of a dtype."""
    scales = 0.02 + tensor(7, length).abs() / 50
    zeros = torch.full((length,), offset)
    return (scales.float(), zeros.int()) if dtype == torch.float16 else (scales.to(dtype), zeros.to(dtype))


@given(rows=SHAPES, length=st.integers(1, 40), biased=st.booleans(), centred=st.booleans())
def test_it_is_the_norm_of_the_sum_in_int8(rows: tuple[int, ...], length: int, biased: bool, centred: bool) -> None:
    dtype = torch.bfloat16
    x1, x2, gamma = (
        tensor(seed, *shape, dtype=dtype) for seed, shape in enumerate([(*rows, length)] * 2 + [(length,)])
    )
    beta = tensor(4, length, dtype=dtype) if biased else None
    scales, zeros = _row(length, dtype)
    y, _, x = OPERATOR(x1, x2, gamma, scales, None if centred else zeros, beta, epsilon=EPSILON)
    total = x1.double() + x2.double()
    assert x.dtype == dtype and torch.equal(x, total.to(dtype))
    if biased:
        total = x.double()
    norm = total / (total.square().mean(-1, keepdim=True) + EPSILON).sqrt() * gamma.double()
    exact = (norm if beta is None else norm + beta.double()) / scales.double() + (0 if centred else 3)
    assert (y.dtype, y.shape) == (torch.int8, x1.shape)
    # What lies between two whole numbers may be the other one.
    assert (y.double() - exact.clamp(-128, 127)).abs().le(0.5 + 1e-3).all()


def test_in_float16_it_rounds_as_the_steps_do() -> None:
    """npu_add_rms_norm does not, and neither does this operator in bfloat16."""
    for dtype in (torch.float16, torch.bfloat16):
        x1, x2, gamma = (tensor(seed, *shape, dtype=dtype) for seed, shape in enumerate([(64, 512)] * 2 + [(512,)]))
        scales, zeros = _row(512, dtype)
        y, _, x = OPERATOR(x1, x2, gamma, scales, zeros, epsilon=EPSILON)
        total = x.float() if dtype == torch.float16 else x1.float() + x2
        norm = total * (total.square().mean(-1, keepdim=True) + EPSILON).rsqrt()
        norm = norm.half() * gamma if dtype == torch.float16 else norm * gamma
        assert torch.equal(y.float(), (norm.float() / scales + zeros).round().clamp(-128, 127))


ROW, ZEROS = torch.ones(8, dtype=torch.float16), torch.zeros(8, dtype=torch.int32)
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another dtype": ({"x1": torch.ones(2, 8)}, "both are float16, or both bfloat16"),
    "two dtypes": ({"x2": torch.ones(2, 8, dtype=torch.bfloat16)}, "both are float16, or both bfloat16"),
    "other rows": ({"x2": torch.ones(3, 8, dtype=torch.float16)}, "they are equal, and not empty"),
    "no rows": ({"x1": ROW.new_empty(0, 8), "x2": ROW.new_empty(0, 8)}, "they are equal, and not empty"),
    "another weight": ({"gamma": torch.ones(8)}, r"gamma is \(8,\) of torch.float32"),
    "another bias": ({"beta": ROW[:4]}, r"beta is \(4,\)"),
    "one scale": ({"scales1": torch.ones(1)}, r"scales1 is \(1,\)"),
    "scales of halves": ({"scales1": ROW}, "scales1 is .* it takes .* of torch.float32"),
    "another zero": ({"zero_points1": ROW}, "zero_points1 is .* it takes .* of torch.int32"),
    "scales for a second": ({"scales2": torch.ones(8)}, "no second scales"),
    "zeros for a second": ({"zero_points2": ZEROS}, "no second scales"),
    "another axis": ({"axis": 0}, "axis is 0"),
    "a product": ({"div_mode": False}, "div_mode False"),
    "another result": ({"dst_type": torch.quint4x2}, "dst_type is"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_refuses_what_the_npu_does(what: str) -> None:
    options, text = REFUSED[what]
    rows = {"x1": torch.ones(2, 8, dtype=torch.float16), "x2": torch.ones(2, 8, dtype=torch.float16)}
    given = {**rows, "gamma": ROW, "scales1": torch.ones(8), "zero_points1": ZEROS}
    with pytest.raises(RuntimeError, match=text):
        OPERATOR(**{**given, **options})


def test_torch_agrees_with_schema_and_shapes() -> None:
    x1, x2, gamma = (tensor(seed, *shape, dtype=torch.bfloat16) for seed, shape in enumerate([(4, 16)] * 2 + [(16,)]))
    arguments = (x1, x2, gamma, *_row(16, torch.bfloat16))
    assert_checked_by_torch(OPERATOR, *arguments)
    assert_compiles(lambda *given: OPERATOR(*given)[::2], *arguments)
