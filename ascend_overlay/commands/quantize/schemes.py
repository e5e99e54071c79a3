"""The tensors that a quantized linear layer has in a checkpoint, and their numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ascend_overlay.commands.quantize.checkpoint import SIZES, elements
from ascend_overlay.commands.quantize.linears import module_of
from ascend_overlay.commands.quantize.rules import CALIBRATED, GROUP_SIZE
from ascend_overlay.errors import QuantizeError

if TYPE_CHECKING:
    import torch

    from ascend_overlay.commands.quantize.checkpoint import Entry

_ELEMENTS_AT_ONCE = 1 << 18
"""What fits into the cache of a core with its intermediate results; fifteen times faster than reading all at once."""


_PARTS = 16
"""Equal parts of the inputs of a projection that ranks share: ModelSlim has sums for each, as many as ranks may be."""
_SHARED = ("down_proj", "w2")
"""Last parts of the names of such projections."""


@dataclass(frozen=True)
class Spec:
    """A tensor to be written: its dtype, as safetensors names it, its shape, and the size of its data in bytes."""

    dtype: str
    shape: tuple[int, ...]
    size: int


def specs(kind: str, name: str, shape: tuple[int, ...], dtype: str) -> dict[str, Spec]:
    """Return the tensors of a layer, by the last part of their names.

    Args:
        kind: W8A8, W8A8_MIX, W8A8_DYNAMIC, W8A16, W4A8_DYNAMIC or W4A16.
        name: name of its weight.
        shape: (out, in) of its weight.
        dtype: dtype of the model, BF16 or F16.
    """
    out = shape[0]
    found: dict[str, tuple[str, tuple[int, ...]]]
    if kind == "W4A16":
        found = {
            "weight_packed": ("I32", (out, shape[1] // 8)),
            "weight_scale": (dtype, (out, shape[1] // GROUP_SIZE)),
        }
    elif kind == "W4A8_DYNAMIC":
        found = {
            "weight": ("I8", (out // 2, shape[1])),
            "weight_scale": ("F32", (out, 1)),
            "weight_offset": ("F32", (out, 1)),
            "scale_bias": ("F32", (out, _parts(name))),
        }
    else:
        found = _of_8_bits(kind, shape, dtype)
    return {last: Spec(form, size, elements(size) * SIZES[form]) for last, (form, size) in found.items()}


def _of_8_bits(kind: str, shape: tuple[int, ...], dtype: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    out = shape[0]
    found: dict[str, tuple[str, tuple[int, ...]]]
    found = {"weight": ("I8", shape), "weight_scale": (dtype, (out, 1)), "weight_offset": (dtype, (out, 1))}
    if kind in CALIBRATED:
        found |= {
            "input_scale": (dtype, (1,)),
            "input_offset": ("I8", (1,)),
            "quant_bias": ("I32", (out,)),
            # The NPU takes the bits of float32 in an int64 where the output is float16.
            "deq_scale": ("I64" if dtype == "F16" else "F32", (out,)),
        }
    return found


def _parts(name: str) -> int:
    """Return for how many parts of its inputs a weight of W4A8_DYNAMIC has sums, by its name."""
    return _PARTS if module_of(name).rpartition(".")[2] in _SHARED else 1


def quantize(
    kind: str, weight: Entry, bias: Entry | None, dtype: str, observed: tuple[float, float] | None
) -> tuple[dict[str, torch.Tensor], float]:
    """Return the tensors of a layer as `specs` names them, and the relative error of its weight.

    Args:
        kind: W8A8, W8A8_MIX, W8A8_DYNAMIC, W8A16, W4A8_DYNAMIC or W4A16.
        weight: its weight in float.
        bias: its bias, if it has one.
        dtype: dtype of the model, BF16 or F16.
        observed: smallest and largest input, for W8A8.

    Raises:
        QuantizeError: a weight or bias is NaN or infinite.
    """
    import torch

    from ascend_overlay.commands.quantize import arithmetic

    own = arithmetic.DTYPES[dtype]
    try:
        if kind == "W4A16":
            packed, group_scales, error = arithmetic.pack_rows(_blocks(weight), own, GROUP_SIZE)
            return {"weight_packed": packed, "weight_scale": group_scales}, error
        if kind == "W4A8_DYNAMIC":
            made = arithmetic.quantize_outputs(_blocks(weight), _parts(weight.name))
            scales = made.scale.unsqueeze(1)
            found = {"weight": made.weight, "weight_scale": scales, "weight_offset": torch.zeros_like(scales)}
            return found | {"scale_bias": made.bias}, made.error
    except FloatingPointError as trouble:
        raise _not_finite(weight) from trouble
    loaded_bias = None if kind not in CALIBRATED or bias is None else bias.read()
    if bias is not None and loaded_bias is not None and not bool(torch.isfinite(loaded_bias).all()):
        raise _not_finite(bias)
    floor = input_scale = offset = None
    if kind in CALIBRATED:
        assert observed is not None, weight.name
        input_scale, offset = arithmetic.input_scale_and_offset(*observed, own)
        floor = None if loaded_bias is None else arithmetic.scale_floor(loaded_bias, input_scale)
    try:
        quantized = arithmetic.quantize_rows(_blocks(weight), own, floor)
    except FloatingPointError as error:
        raise _not_finite(weight) from error
    scale = quantized.scale.unsqueeze(1)
    found = {"weight": quantized.weight, "weight_scale": scale, "weight_offset": torch.zeros_like(scale)}
    if input_scale is not None and offset is not None:
        deq_scale = arithmetic.dequantization_scale(input_scale, quantized.scale)
        found |= {
            "input_scale": input_scale,
            "input_offset": offset,
            "quant_bias": arithmetic.quantized_bias(loaded_bias, deq_scale, offset, quantized.sums),
            "deq_scale": arithmetic.carried(deq_scale, own),
        }
    return found, quantized.error


def _blocks(weight: Entry) -> Iterator[torch.Tensor]:
    rows = max(1, _ELEMENTS_AT_ONCE // max(1, weight.shape[1]))
    for first in range(0, weight.shape[0], rows):
        yield weight.read(first, first + rows)


def _not_finite(entry: Entry) -> QuantizeError:
    return QuantizeError(
        f"the tensor {entry.name!r} in {entry.file} holds NaN or infinite values. "
        "Download or convert the model again, or leave the layer in float with --keep."
    )
