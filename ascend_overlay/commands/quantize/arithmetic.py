"""The arithmetic of the quantizer. Scales are rounded to the dtype of the model, and used as rounded.

A weight is quantized symmetrically and for each output channel: ``q = clamp(round(w / s_w), -127, 127)`` with
``s_w = max|w| / 127``. An input is quantized asymmetrically, for the whole tensor:
``x_q = clamp(round(x / s_x + o_x), -128, 127)``, over the smallest range that holds zero and what was observed. Then
``y = (x_q @ q.T + quant_bias) * deq_scale`` with ``deq_scale = s_x * s_w`` and
``quant_bias = round(b / deq_scale) - o_x * sum_k q[:, k]``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16}

_LARGEST_BIAS = 2**30
"""What |round(b / deq_scale)| may be; leaves room for the products in the 32-bit sum."""

_WIDER = 1.03
"""How much wider than needed the steps of an input may be for the sake of an exact reciprocal."""


@dataclass(frozen=True)
class Quantized:
    """A weight after quantization.

    Attributes:
        weight: int8, (out, in).
        scale: (out,), in the dtype of the model.
        sums: int64, (out,): the sum of each row of `weight`.
        error: root of the sum of squared errors over that of squared weights.
    """

    weight: Tensor
    scale: Tensor
    sums: Tensor
    error: float


def quantize_rows(blocks: Iterable[Tensor], dtype: torch.dtype, floor: Tensor | None = None) -> Quantized:
    """Quantize a weight that comes in blocks of rows.

    Args:
        blocks: (rows, in), floating point, finite.
        dtype: dtype of the scales.
        floor: (out,), float32: what the scales must not fall below; see `scale_floor`.

    Raises:
        FloatingPointError: a weight is NaN or infinite.
    """
    weights, scales, sums = [], [], []
    wrong = whole = 0.0
    row = 0
    for block in blocks:
        values = block.float()
        largest = values.abs().amax(dim=1) if values.shape[1] else values.new_zeros(values.shape[0])
        if not bool(torch.isfinite(largest).all()):
            raise FloatingPointError
        scale = weight_scales(largest, dtype, None if floor is None else floor[row : row + len(values)])
        steps = scale.float().unsqueeze(1)
        rounded = (values / steps).round_().clamp_(-127, 127)
        whole += float(torch.linalg.vector_norm(values)) ** 2
        weights.append(rounded.to(torch.int8))
        scales.append(scale)
        sums.append(weights[-1].sum(dim=1, dtype=torch.int32).to(torch.int64))
        wrong += float(torch.linalg.vector_norm(rounded.mul_(steps).sub_(values))) ** 2
        row += len(values)
    return Quantized(torch.cat(weights), torch.cat(scales), torch.cat(sums), (wrong / whole) ** 0.5 if whole else 0.0)


def pack_rows(blocks: Iterable[Tensor], dtype: torch.dtype, group: int) -> tuple[Tensor, Tensor, float]:
    """Quantize a weight that comes in blocks of rows to 4 bits, with a scale for each row and group of inputs.

    ``q = clamp(round(w / s), -8, 7)`` with ``s = max|w| / 7`` in the group; stored is q + 8, eight neighbours in an
    int32, the first in the lowest bits.

    Args:
        blocks: (rows, in), floating point, finite.
        dtype: dtype of the scales.
        group: how many inputs have a scale in common.

    Returns:
        (out, in / 8) int32, (out, in / group) of `dtype`, and the root of the sum of squared errors over that of
        squared weights.

    Raises:
        FloatingPointError: a weight is NaN or infinite.
    """
    shifts = torch.arange(0, 32, 4, dtype=torch.int64)
    packed, scales = [], []
    wrong = whole = 0.0
    for block in blocks:
        values = block.float().reshape(len(block), -1, group)
        largest = values.abs().amax(-1)
        if not bool(torch.isfinite(largest).all()):
            raise FloatingPointError
        scale = torch.where(largest > 0, largest / 7, 1.0).to(dtype)
        scale = torch.maximum(scale, _next_after(torch.zeros_like(scale)))
        steps = scale.float().unsqueeze(-1)
        numbers = (values / steps).round_().clamp_(-8, 7)
        bits = (numbers.reshape(len(block), -1, 8).to(torch.int64) + 8) << shifts
        packed.append(bits.sum(-1).to(torch.int32))
        scales.append(scale)
        whole += float(torch.linalg.vector_norm(values)) ** 2
        wrong += float(torch.linalg.vector_norm(numbers.mul_(steps).sub_(values))) ** 2
    return torch.cat(packed), torch.cat(scales), (wrong / whole) ** 0.5 if whole else 0.0


@dataclass(frozen=True)
class Nibbles:
    """A weight after quantization to 4 bits, with a scale for each output.

    Attributes:
        weight: int8, (out / 2, in): see `packed_outputs`.
        scale: (out,), float32.
        bias: (out, parts), float32: 8 times the sum of the weights in each of equal parts of the inputs.
        error: root of the sum of squared errors over that of squared weights.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor
    error: float


def quantize_outputs(blocks: Iterable[Tensor], parts: int) -> Nibbles:
    """Quantize a weight that comes in blocks of rows to 4 bits: ``q = clamp(round(w / s), -8, 7)``, s = max|w| / 7.

    Args:
        blocks: (rows, in), floating point, finite.
        parts: for how many equal parts of the inputs there are sums.

    Raises:
        FloatingPointError: a weight is NaN or infinite.
    """
    weights, scales, sums = [], [], []
    wrong = whole = 0.0
    for block in blocks:
        values = block.float()
        largest = values.abs().amax(dim=1)
        if not bool(torch.isfinite(largest).all()):
            raise FloatingPointError
        scale = torch.where(largest > 0, largest / 7, 1.0).clamp(min=torch.finfo(torch.float32).tiny)
        steps = scale.unsqueeze(1)
        numbers = (values / steps).round_().clamp_(-8, 7)
        weights.append(numbers.to(torch.int8))
        scales.append(scale)
        sums.append(8 * numbers.reshape(len(block), parts, -1).sum(-1) * steps)
        whole += float(torch.linalg.vector_norm(values)) ** 2
        wrong += float(torch.linalg.vector_norm(numbers.mul_(steps).sub_(values))) ** 2
    packed = packed_outputs(torch.cat(weights))
    return Nibbles(packed, torch.cat(scales), torch.cat(sums), (wrong / whole) ** 0.5 if whole else 0.0)


def packed_outputs(numbers: Tensor) -> Tensor:
    """Return numbers of 4 bits, (out, in) int8, as (out / 2, in): two neighbours a byte, the first in the low bits."""
    return (numbers[1::2] << 4) | (numbers[::2] & 15)


def weight_scales(largest: Tensor, dtype: torch.dtype, floor: Tensor | None = None) -> Tensor:
    """Return the scale of each channel in `dtype`, given its largest absolute weight (float32).

    It is the nearest of `largest` / 127 that clips no weight by more than half a step; 1 for a channel of zeros.
    """
    wanted = largest / 127
    if floor is not None:
        wanted = torch.maximum(wanted, floor)
    scale = torch.where(wanted > 0, wanted, 1.0).to(dtype)
    scale = torch.maximum(scale, _next_after(torch.zeros_like(scale)))
    # Scales below the normal numbers of float16 are far apart, and one that was rounded down could clip.
    return torch.where(largest > 127.5 * scale.float(), _next_after(scale), scale)


def scale_floor(bias: Tensor, input_scale: Tensor) -> Tensor:
    """Return how small a channel's scale may be for its bias to fit into the 32-bit sum, as float32.

    It matters only for a channel of almost zero weights that has a bias.
    """
    return bias.float().abs() / (input_scale.float() * _LARGEST_BIAS)


def input_scale_and_offset(smallest: float, largest: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return (s_x, o_x), shapes (1,), dtypes `dtype` and int8, for inputs from `smallest` to `largest`.

    The NPU multiplies by the reciprocal of s_x, rounded to the dtype of the model, which in bfloat16 makes all outputs
    of a layer too large or too small by up to 0.4 %, 0.14 % on average. Of the scales up to 3 % above the smallest
    possible, s_x is the one whose reciprocal is most nearly exact; 0.03 % is left on average.
    """
    low, high = min(smallest, 0.0), max(largest, 0.0)
    if high == low:
        return torch.ones(1, dtype=dtype), torch.zeros(1, dtype=torch.int8)
    step = torch.tensor([max((high - low) / 255, torch.finfo(dtype).smallest_normal)])
    candidate = step.to(dtype)
    if candidate.float() < step:
        candidate = _next_after(candidate)
    candidates = [candidate]
    while (candidate := _next_after(candidate)).float() <= _WIDER * step:
        candidates.append(candidate)
    scale = min(candidates, key=lambda s: float((s.double() * (1 / s).double() - 1).abs()))
    offset = (-128 - low / scale.double()).round().clamp(-128, 127)
    return scale, offset.to(torch.int8)


def dequantization_scale(input_scale: Tensor, weight_scale: Tensor) -> Tensor:
    """Return deq_scale, float32."""
    return input_scale.float() * weight_scale.float()


def quantized_bias(bias: Tensor | None, deq_scale: Tensor, offset: Tensor, sums: Tensor) -> Tensor:
    """Return quant_bias, int32: the bias in units of `deq_scale`, less what the offset of the input adds to the sum."""
    correction = offset.to(torch.int64) * sums
    units = 0 if bias is None else (bias.double() / deq_scale.double()).round().to(torch.int64)
    return (units - correction).to(torch.int32)


def carried(deq_scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Return deq_scale as the NPU wants it: float32, or for a model in float16 its bits in the low word of an int64."""
    return deq_scale if dtype != torch.float16 else deq_scale.view(torch.int32).to(torch.int64)


def _next_after(scale: Tensor) -> Tensor:
    """Return the next larger number of the same dtype, for positive numbers of 16 bits."""
    return (scale.view(torch.int16) + 1).view(scale.dtype)
