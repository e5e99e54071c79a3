"""npu_quantize, npu_dynamic_quant and npu_trans_quant_param compute what torch_npu and CANN document."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from npu_kit import DTYPES, OPERATORS, assert_checked_by_torch, assert_compiles, tensor, torch

from ascend_overlay.npu.reference.quantization import carried_offset, carried_scale

HALVES = [torch.float16, torch.bfloat16]
_SHAPES = st.lists(st.integers(0, 4), max_size=2).flatmap(
    lambda leading: st.integers(1, 70).map(lambda last: (*leading, last))
)


def _clamped(value: Any, low: int = -128, high: int = 127) -> Any:
    """Return float64 numbers as whole ones; torch.round rounds halves to even."""
    return value.round().clamp(low, high).long()


@given(
    shape=_SHAPES, dtype=st.sampled_from(DTYPES), scale=st.sampled_from([0.1, 20.0, 500.0]), per_channel=st.booleans()
)
def test_quantize_multiplies_rounds_and_saturates(
    shape: tuple[int, ...], dtype: Any, scale: float, per_channel: bool
) -> None:
    x = tensor(1, *shape, dtype=dtype)
    count = shape[-1] if per_channel else 1
    scales, zero = tensor(2, count, dtype=dtype, scale=scale), tensor(3, count, dtype=dtype, scale=20.0)
    got = OPERATORS.npu_quantize(x, scales, zero, torch.qint8, -1, False)
    assert got.dtype == torch.int8
    assert got.shape == x.shape
    # In float32: a product of two halves is exact there, and the sum is what is rounded first.
    exact = x.float() * scales.float() + zero.float()
    assert torch.equal(got.long(), _clamped(exact.double()))
    without = OPERATORS.npu_quantize(x, scales, None, torch.qint8, -1, False)
    assert torch.equal(without.long(), _clamped((x.float() * scales.float()).double()))


@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6)),
    axis=st.integers(-3, 2),
    kind=st.sampled_from([(torch.qint8, -128, 127), (torch.quint8, 0, 255), (torch.int32, -(2**31), 2**31 - 1)]),
    per_channel=st.booleans(),
)
def test_quantize_divides_along_an_axis(shape: Any, axis: int, kind: tuple[Any, int, int], per_channel: bool) -> None:
    x = tensor(1, *shape, dtype=torch.bfloat16)
    count = shape[axis] if per_channel else 1
    scales = tensor(2, count).abs() + 0.01
    zero = torch.arange(count, dtype=torch.int32) - 3
    dtype, low, high = kind
    got = OPERATORS.npu_quantize(x, scales, zero, dtype, axis, True)
    view = [count if place == axis % 3 else 1 for place in range(3)]
    exact = x.float() / scales.reshape(view) + zero.float().reshape(view)
    assert torch.equal(got.long(), _clamped(exact.double(), low, high))


def test_halves_are_rounded_to_even_and_nan_is_zero() -> None:
    x = torch.tensor([0.5, 1.5, -2.5, 126.5, 127.5, -128.5, float("inf"), float("-inf"), float("nan")])
    wanted = torch.tensor([0, 2, -2, 126, 127, -128, 127, -128, 0], dtype=torch.int8)
    assert torch.equal(OPERATORS.npu_quantize(x, torch.ones(1), None, torch.qint8, -1, False), wanted)
    big = OPERATORS.npu_quantize(torch.tensor([3e9, -3e9, 7.0]), torch.ones(1), None, torch.int32, -1, True)
    assert big.tolist() == [2**31 - 1, -(2**31), 7]


def test_quantize_along_the_last_but_one() -> None:
    x, scales = tensor(1, 2, 3, 4), torch.tensor([1.0, 10.0, 100.0])
    wanted = _clamped((x * scales[:, None]).double())
    for form in (scales, scales.reshape(1, 3, 1)):
        assert torch.equal(OPERATORS.npu_quantize(x, form, None, torch.qint8, -2, False).long(), wanted)


@given(shape=_SHAPES.filter(lambda shape: len(shape) > 1), dtype=st.sampled_from(HALVES), smooth=st.booleans())
def test_dynamic_quant_scales_each_row_by_its_largest_element(shape: Any, dtype: Any, smooth: bool) -> None:
    x = tensor(1, *shape, dtype=dtype, scale=3.0)
    factor = tensor(2, shape[-1], dtype=dtype) if smooth else None
    y, scale = OPERATORS.npu_dynamic_quant(x, smooth_scales=factor)
    value = x.float() * (factor.float() if factor is not None else 1.0)
    exact = value.double().abs().amax(-1) / 127
    assert (y.dtype, scale.dtype, y.shape, scale.shape) == (torch.int8, torch.float32, x.shape, x.shape[:-1])
    torch.testing.assert_close(scale.double(), exact, rtol=2**-23, atol=0.0)
    assert torch.equal(y.long(), _clamped((value / scale.unsqueeze(-1)).double()))
    # What is lost is half a step at most.
    off = (y.double() * scale.double().unsqueeze(-1) - value.double()).abs()
    assert (off <= scale.double().unsqueeze(-1) * 0.5001).all()


@pytest.mark.parametrize("dtype", HALVES)
def test_rows_without_a_scale(dtype: Any) -> None:
    x = torch.zeros(4, 6, dtype=dtype)
    x[1, 2] = float("nan")
    x[2, 1], x[2, 3] = float("inf"), 5.0
    x[3, 0] = -2.0
    y, scale = OPERATORS.npu_dynamic_quant(x)
    assert not y[:3].any()
    assert scale[0] == 0
    assert scale[1].isnan()
    assert scale[2].isinf()
    assert y[3].tolist() == [-127, 0, 0, 0, 0, 0]


def test_the_smallest_and_the_largest_numbers_of_float16() -> None:
    x = torch.tensor([[6e-8, -6e-8], [65504.0, -65504.0]], dtype=torch.float16)
    y, scale = OPERATORS.npu_dynamic_quant(x)
    assert y.tolist() == [[127, -127], [127, -127]]
    torch.testing.assert_close(scale * 127, x[:, 0].float())


@given(ends=st.lists(st.integers(0, 9), min_size=1, max_size=4), shape=st.sampled_from([(9, 8), (3, 3, 8)]))
def test_each_group_of_rows_has_its_smoothing(ends: list[int], shape: tuple[int, ...]) -> None:
    ends = [*sorted(ends), 9]
    x, smooth = tensor(1, *shape, dtype=torch.float16), tensor(2, len(ends), 8, dtype=torch.float16)
    y, scale = OPERATORS.npu_dynamic_quant(
        x, smooth_scales=smooth, group_index=torch.tensor(ends, dtype=torch.int32), dst_type=torch.int8
    )
    for row in range(9):
        group = next(index for index, end in enumerate(ends) if row < end)
        one_y, one_scale = OPERATORS.npu_dynamic_quant(x.view(9, 1, 8)[row], smooth_scales=smooth[group])
        assert torch.equal(y.view(9, 8)[row], one_y[0])
        assert torch.equal(scale.view(9)[row], one_scale[0])


@given(value=st.floats(width=32, allow_nan=False, allow_infinity=False), offset=st.floats(-400, 400, width=32))
def test_a_scale_is_carried_in_19_bits_beside_the_offset(value: float, offset: float) -> None:
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    scale = torch.tensor([value, 1.0])
    got = OPERATORS.npu_trans_quant_param(scale, torch.tensor([offset]))
    whole = max(min(round(offset), 255), -256)
    assert got[0].item() == (bits & 0xFFFFE000) | (1 << 46) | ((whole & 0x1FF) << 37)
    assert OPERATORS.npu_trans_quant_param(scale)[0].item() == (bits & 0xFFFFE000) | (1 << 46)
    (cut,) = struct.unpack("<f", struct.pack("<I", bits & 0xFFFFE000))
    assert carried_scale(got)[0].item() == cut
    assert carried_offset(got).tolist() == [whole, whole]
    nearest = carried_scale(OPERATORS.npu_trans_quant_param(scale, round_mode=1))[0].item()
    if 1e-30 < abs(value) < 1e38:
        assert abs(nearest - value) <= abs(value) * 2**-11


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("layout", ["contiguous", "slice", "transposed"])
def test_torch_accepts_the_operators(dtype: Any, layout: str) -> None:
    wide = tensor(1, 6, 4, 32, dtype=dtype)
    x = {"contiguous": wide[..., :16].clone(), "slice": wide[..., :16], "transposed": wide.transpose(0, 1)}[layout]
    scales = tensor(2, x.shape[-1], dtype=dtype)
    number = 12  # torch.qint8, as the schema has it
    assert_checked_by_torch(OPERATORS.npu_quantize, x, scales, scales, number, -1, False)
    assert_checked_by_torch(OPERATORS.npu_dynamic_quant, x, smooth_scales=scales)
    assert_checked_by_torch(OPERATORS.npu_trans_quant_param, scales.float(), None, 0)
    assert_compiles(lambda x, s: OPERATORS.npu_quantize(x, s, None, torch.qint8, -1, False), x, scales)
    assert_compiles(lambda x: OPERATORS.npu_dynamic_quant(x), x)
    assert_compiles(lambda s: OPERATORS.npu_trans_quant_param(s.float()), scales)


_X = torch.ones(2, 3, 8, dtype=torch.bfloat16)
_ONE = torch.ones(1, dtype=torch.bfloat16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((_X.double(), _ONE, None, torch.qint8, -1, False), "float64"),
        ((_X, torch.ones(1), None, torch.qint8, -1, False), r"scales is torch\.float32.*that of the input"),
        ((_X, _ONE.half(), None, torch.qint8, 0, True), "takes float32 or bfloat16"),
        ((_X, _ONE.expand(7), None, torch.qint8, -1, False), "one element, or 8 along the dimension 2"),
        ((_X, _ONE, torch.zeros(1), torch.qint8, -1, False), "zero_points"),
        ((_X, _ONE, torch.zeros(2, dtype=torch.bfloat16), torch.qint8, -1, False), "shape of scales"),
        ((_X, _ONE, None, torch.quint8, -1, False), "dtype is torch.quint8"),
        ((_X, _ONE, None, torch.qint8, -3, False), "axis is -3"),
        ((_X, _ONE, None, torch.qint8, 3, True), "axis is 3"),
    ],
)
def test_what_the_npu_does_not_quantize_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        OPERATORS.npu_quantize(*arguments)


@pytest.mark.parametrize(
    ("x", "named", "message"),
    [
        (_X.float(), {}, "float16 or bfloat16"),
        (_X[0, 0], {}, "1 dimensions"),
        (_X, {"smooth_scales": _ONE}, "smooth_scales has the shape"),
        (_X, {"smooth_scales": torch.ones(8)}, "smooth_scales is torch.float32"),
        (_X, {"group_index": torch.ones(1, dtype=torch.int32)}, "there is no smooth_scales"),
        (
            _X,
            {"smooth_scales": _ONE.expand(1, 8), "group_index": torch.ones(1, dtype=torch.int64)},
            "group_index is torch.int64",
        ),
        (_X, {"dst_type": torch.quint4x2}, "dst_type is torch.quint4x2"),
        (_X, {"quant_mode": "pertensor"}, "quant_mode"),
    ],
)
def test_what_the_npu_does_not_quantize_dynamically_is_refused(x: Any, named: Any, message: str) -> None:
    on_meta = {key: value.to("meta") if isinstance(value, torch.Tensor) else value for key, value in named.items()}
    for passed, arguments in ((x, named), (x.to("meta"), on_meta)):
        with pytest.raises(RuntimeError, match=message):
            OPERATORS.npu_dynamic_quant(passed, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.ones(3).half(),), "scale is torch.float16"),
        ((torch.ones(2, 3),), r"takes \(n,\) or \(1, n\)"),
        ((torch.ones(3), torch.ones(2)), "1 or as many"),
        ((torch.ones(1, 3), torch.ones(3)), "takes the same"),
        ((torch.ones(3), None, 2), "round_mode is 2"),
    ],
)
def test_what_cannot_be_carried_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        OPERATORS.npu_trans_quant_param(*arguments)
