"""What the schemes share: the weight as the NPU's products take it, and tensors that must say nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from ascend_overlay.errors import CheckpointError
from ascend_overlay.quantization import CheckpointTensor, Linear

LONGEST = 65535
"""A weight of the NPU's quantized products has at most so many columns."""


def weight(linear: Linear) -> CheckpointTensor:
    """Return the int8 weight: (outputs, inputs)."""
    shape = (sum(linear.outputs), linear.inputs)
    return CheckpointTensor(name="weight", shape=shape, dtype=torch.int8, output_dim=0, input_dim=1)


def per_channel(linear: Linear, name: str, *, optional: bool = False) -> CheckpointTensor:
    """Return a tensor with a float32 number for each output: (outputs, 1)."""
    return CheckpointTensor(
        name=name,
        shape=(sum(linear.outputs), 1),
        dtype=torch.float32,
        output_dim=0,
        accepts=(torch.int8, torch.int32),
        optional=optional,
    )


def put(layer: Any, name: str, value: Tensor) -> None:
    """Put a tensor of the processed layer in the place of a loaded one."""
    setattr(layer, name, Parameter(value, requires_grad=False))


def put_weight(layer: Any, arrange: Callable[[Tensor], Tensor]) -> None:
    """Replace the loaded weight, (outputs, inputs), by what `arrange` makes of it, in parts that the NPU takes.

    Args:
        layer: the layer.
        arrange: takes some rows of the weight, and returns them as (inputs, rows).
    """
    rows: Tensor = layer.weight.data
    count = -(-rows.shape[0] // LONGEST)
    for number, part in enumerate(rows.tensor_split(count) if count > 1 else [rows]):
        put(layer, _part(number), arrange(part))


def products(layer: Any, outputs: int, multiply: Callable[[Tensor, slice], Tensor]) -> Tensor:
    """Return the outputs of the layer.

    Args:
        layer: a layer whose weight `put_weight` has put.
        outputs: how many it has.
        multiply: takes a part of the weight and the place of its outputs, and returns these.
    """
    if outputs <= LONGEST:
        return multiply(layer.weight, slice(None))
    results = []
    number = start = 0
    while start < outputs:
        part = getattr(layer, _part(number))
        results.append(multiply(part, slice(start, start + part.shape[1])))
        number, start = number + 1, start + part.shape[1]
    return torch.cat(results, -1)


def see_symmetric(layer: Any, linear: Linear) -> None:
    """See that weight_offset says nothing, and drop it.

    Raises:
        CheckpointError: it is not zero.
    """
    if layer.weight_offset.data.any() and "weight_offset" not in linear.absent:
        names = " and ".join(f"{name}.weight_offset" for name in linear.projections)
        raise CheckpointError(
            f"{names} is not zero everywhere in the checkpoint. The NPU multiplies int8 weights without an offset; "
            f"quantize the model with symmetric weights."
        )
    del layer.weight_offset


def see_scales(name: str, scales: Tensor, linear: Linear, *, smallest: float = 0.0) -> None:
    """See that scales are numbers, and none is below `smallest`. A channel without weights may have the scale 0.

    Raises:
        CheckpointError: not so.
    """
    wrong = ~((scales >= smallest) & scales.isfinite())
    if wrong.any():
        raise CheckpointError(
            f"{name} of {' and '.join(linear.projections)} holds {scales[wrong][0].item()} in the checkpoint, which "
            f"is no scale. Quantize the model again."
        )


def _part(number: int) -> str:
    return f"weight_{number}" if number else "weight"
