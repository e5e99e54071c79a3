"""The numbers of the quantizer, against the formulas of ModelSlim's format computed in float64 and int64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ascend_overlay.commands.quantize import arithmetic

DTYPES = st.sampled_from([torch.bfloat16, torch.float16])
MAGNITUDES = st.sampled_from([1e-6, 1e-3, 0.05, 1.0, 40.0])


@st.composite
def weights(draw: st.DrawFn) -> torch.Tensor:
    """Weights of odd shapes, whose channels differ in size, some of them zero."""
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(1, 33))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    channel = 10.0 ** torch.randint(-3, 2, (rows, 1), generator=random)
    values = torch.randn(rows, columns, generator=random) * channel * draw(MAGNITUDES)
    values[torch.rand(rows, generator=random) < 0.2] = 0.0
    return values.to(draw(DTYPES))


def in_blocks(weight: torch.Tensor) -> list[torch.Tensor]:
    return list(weight.split(2))


@given(weights())
def test_a_weight_is_at_most_half_a_step_away(weight: torch.Tensor) -> None:
    found = arithmetic.quantize_rows(in_blocks(weight), weight.dtype)
    assert found.weight.dtype == torch.int8 and found.weight.shape == weight.shape
    assert found.scale.dtype == weight.dtype and found.scale.shape == weight.shape[:1]
    assert int(found.weight.min()) >= -127
    steps = found.scale.double().unsqueeze(1)
    assert bool((steps > 0).all())
    error = (found.weight.double() * steps - weight.double()).abs()
    assert bool((error <= steps * 0.5001).all())


@given(weights())
def test_the_largest_weight_of_a_channel_takes_the_whole_range(weight: torch.Tensor) -> None:
    found = arithmetic.quantize_rows(in_blocks(weight), weight.dtype)
    largest = weight.double().abs().amax(dim=1)
    # Scales below the normal numbers have no 8 bits that could be exact.
    usual = largest / 127 > torch.finfo(weight.dtype).smallest_normal
    assert bool((found.weight.abs().amax(dim=1)[usual] >= 126).all())
    assert bool((found.weight[largest == 0] == 0).all())


@given(weights())
def test_sums_and_error_are_those_of_the_whole_weight(weight: torch.Tensor) -> None:
    found = arithmetic.quantize_rows(in_blocks(weight), weight.dtype)
    assert torch.equal(found.sums, found.weight.long().sum(dim=1))
    exact = weight.double()
    away = found.weight.double() * found.scale.double().unsqueeze(1) - exact
    expected = float(away.norm() / exact.norm()) if bool(exact.any()) else 0.0
    assert found.error == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_weights_are_symmetric() -> None:
    # The scale is 255 / 127, rounded to 2, so -255 is halfway between -127 and -128.
    found = arithmetic.quantize_rows([torch.tensor([[-255.0, 255.0]])], torch.bfloat16)
    assert found.weight.tolist() == [[-127, 127]]


@given(weights())
def test_blocks_change_nothing(weight: torch.Tensor) -> None:
    whole = arithmetic.quantize_rows([weight], weight.dtype)
    parts = arithmetic.quantize_rows(in_blocks(weight), weight.dtype)
    assert torch.equal(whole.weight, parts.weight) and torch.equal(whole.scale, parts.scale)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_no_number_is_refused(value: float) -> None:
    weight = torch.ones(5, 4, dtype=torch.bfloat16)
    weight[3, 1] = value
    with pytest.raises(FloatingPointError):
        arithmetic.quantize_rows(in_blocks(weight), torch.bfloat16)


@given(st.floats(-300, 300), st.floats(0, 600), DTYPES)
def test_every_input_in_the_range_is_within_a_step(low: float, width: float, dtype: torch.dtype) -> None:
    scale, offset = arithmetic.input_scale_and_offset(low, low + width, dtype)
    assert scale.shape == offset.shape == (1,) and scale.dtype == dtype and offset.dtype == torch.int8
    x = torch.linspace(min(low, 0.0), max(low + width, 0.0), 1001, dtype=torch.float64)
    # As the NPU does: times the reciprocal, in the dtype of the model.
    reciprocal = (1 / scale).double()
    quantized = (x * reciprocal + offset).round().clamp(-128, 127)
    back = (quantized - offset) * scale.double()
    assert float((back - x).abs().max()) <= float(scale) * 1.01 + 1e-12
    assert float(((0 * reciprocal + offset) - offset).abs()) == 0, "zero is exact"


@given(st.floats(1e-3, 5e4), st.floats(0, 1), DTYPES)
def test_the_reciprocal_of_an_input_scale_is_nearly_exact(width: float, part: float, dtype: torch.dtype) -> None:
    scale, _ = arithmetic.input_scale_and_offset(-width * part, width * (1 - part), dtype)
    step = max(width / 255, torch.finfo(dtype).smallest_normal)
    assert step * (1 - 1e-6) <= float(scale) <= step * 1.03 * (1 + 2**-7)
    # Rounding makes an error of up to 2**-8 in bfloat16, and 2**-11 in float16.
    assert float((scale.double() * (1 / scale).double() - 1).abs()) < (2**-9 if dtype == torch.bfloat16 else 2**-12)


def test_inputs_that_are_all_zero_have_a_scale() -> None:
    scale, offset = arithmetic.input_scale_and_offset(0.0, 0.0, torch.bfloat16)
    assert float(scale) == 1 and int(offset) == 0


@given(weights(), st.floats(-8, 0), st.floats(0.01, 8), st.booleans(), st.integers(0, 2**31))
def test_the_identities_of_the_format(weight: torch.Tensor, low: float, high: float, biased: bool, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    rows, columns = weight.shape
    bias = torch.randn(rows, generator=random).to(weight.dtype) if biased else None
    scale, offset = arithmetic.input_scale_and_offset(low, high, weight.dtype)
    floor = None if bias is None else arithmetic.scale_floor(bias, scale)
    found = arithmetic.quantize_rows(in_blocks(weight), weight.dtype, floor)
    deq_scale = arithmetic.dequantization_scale(scale, found.scale)
    quant_bias = arithmetic.quantized_bias(bias, deq_scale, offset, found.sums)

    assert deq_scale.dtype == torch.float32 and quant_bias.dtype == torch.int32
    assert torch.equal(deq_scale.double(), (scale.double() * found.scale.double()).float().double())
    units = torch.zeros(rows, dtype=torch.float64) if bias is None else (bias.double() / deq_scale.double()).round()
    assert torch.equal(quant_bias.double(), units - offset.double() * found.weight.double().sum(dim=1))

    # What it is for: the integer sum times deq_scale is the float layer on what the quantized values stand for.
    x_q = torch.randint(-128, 128, (4, columns), generator=random)
    ours = (x_q.long() @ found.weight.long().T + quant_bias.long()).double() * deq_scale.double()
    x = (x_q.double() - offset.double()) * scale.double()
    theirs = x @ (found.weight.double() * found.scale.double().unsqueeze(1)).T + (0 if bias is None else bias.double())
    size = (x.abs() @ (found.weight.double() * found.scale.double().unsqueeze(1)).abs().T).amax(dim=0)
    assert bool(((ours - theirs).abs() <= 0.51 * deq_scale.double() + 1e-6 * size).all())


def test_the_bias_of_a_dead_channel_survives() -> None:
    bias = torch.tensor([0.3, 2.0, 0.0], dtype=torch.bfloat16)
    scale, offset = arithmetic.input_scale_and_offset(-1.0, 1.0, torch.bfloat16)
    weight = torch.tensor([[0.0, 0.0], [1e-20, 0.0], [0.0, 0.0]], dtype=torch.bfloat16)
    found = arithmetic.quantize_rows([weight], torch.bfloat16, arithmetic.scale_floor(bias, scale))
    deq_scale = arithmetic.dequantization_scale(scale, found.scale)
    quant_bias = arithmetic.quantized_bias(bias, deq_scale, offset, found.sums)
    torch.testing.assert_close(quant_bias.float() * deq_scale, bias.float(), rtol=1e-6, atol=0)


@given(st.lists(st.floats(2**-40, 2**20, width=32), min_size=1))
def test_a_scale_is_carried_in_the_low_word_for_float16(values: list[float]) -> None:
    deq_scale = torch.tensor(values, dtype=torch.float32)
    carried = arithmetic.carried(deq_scale, torch.float16)
    assert carried.dtype == torch.int64 and bool(((carried >= 0) & (carried < 2**32)).all())
    assert torch.equal(carried.to(torch.int32).view(torch.float32), deq_scale)
    assert arithmetic.carried(deq_scale, torch.bfloat16) is deq_scale
