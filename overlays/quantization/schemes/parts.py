"""What the schemes share: the weight as the NPU's products take it, and tensors that must say nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from ascend_overlay.overlays.quantization.numbers import see_zero
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

    The layer also gets `outputs`, how many there are.

    Args:
        layer: the layer.
        arrange: takes some rows of the weight, and returns them as (inputs, rows).
    """
    layer.outputs = len(layer.weight)
    for number, rows in enumerate(_split(layer.weight.data)):
        put(layer, _numbered("weight", number), arrange(rows))


def put_channels(layer: Any, name: str, values: Tensor | None) -> None:
    """Put a tensor with an element for each output in the place of a loaded one, in the parts of the weight.

    Args:
        layer: the layer.
        name: name of the tensor.
        values: (outputs,); None: there is none.
    """
    if values is None:
        setattr(layer, name, None)
        return
    for number, part in enumerate(_split(values)):
        put(layer, _numbered(name, number), part)


class Part:
    """The part of a layer that one product computes: nearly always the whole.

    Args:
        layer: the layer.
        number: which part.
        place: where its outputs are.
    """

    def __init__(self, layer: Any, number: int, place: slice) -> None:
        self._layer = layer
        self._number = number
        self._place = place

    def take(self, name: str) -> Tensor:
        """Return a tensor that `put_weight` or `put_channels` has put."""
        found: Tensor = getattr(self._layer, _numbered(name, self._number))
        return found

    def take_if_any(self, name: str) -> Tensor | None:
        """Return a tensor that `put_channels` has put, or None if that was none."""
        return None if getattr(self._layer, name) is None else self.take(name)

    def cut(self, values: Tensor | None) -> Tensor | None:
        """Return what belongs to the part of a tensor with an element for each output."""
        return values if values is None or self._place == slice(None) else values[self._place]


def products(layer: Any, multiply: Callable[[Part], Tensor]) -> Tensor:
    """Return the outputs of the layer.

    Args:
        layer: a layer whose weight `put_weight` has put.
        multiply: computes those of a part.
    """
    if layer.outputs <= LONGEST:
        return multiply(Part(layer, 0, slice(None)))
    results = []
    start = 0
    for number in range(_count(layer.outputs)):
        end = start + getattr(layer, _numbered("weight", number)).shape[1]
        results.append(multiply(Part(layer, number, slice(start, end))))
        start = end
    return torch.cat(results, -1)


def see_symmetric(layer: Any, linear: Linear) -> None:
    """See that weight_offset says nothing, and drop it.

    Raises:
        CheckpointError: it is not zero.
    """
    if "weight_offset" not in linear.absent:
        see_zero(layer.weight_offset.data, named("weight_offset", linear))
    del layer.weight_offset


def named(name: str, linear: Linear) -> Callable[[Tensor], str]:
    """Return what names the tensors of the checkpoint that the parameter `name` was loaded from."""
    return lambda wrong: " and ".join(f"{projection}.{name}" for projection in linear.projections)


def _count(outputs: int) -> int:
    return -(-outputs // LONGEST)


def _split(values: Tensor) -> Sequence[Tensor]:
    return values.tensor_split(_count(len(values))) if len(values) > LONGEST else [values]


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name
