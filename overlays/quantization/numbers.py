"""Numbers of a checkpoint that a layer can or cannot compute with, whether it is linear or experts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ascend_overlay.errors import CheckpointError

Name = Callable[[Tensor], str]
"""Takes which elements of a parameter are wrong, and returns what names them in the checkpoint."""


def see_zero(offsets: Tensor, name: Name) -> None:
    """See that the offsets of weights say nothing.

    Raises:
        CheckpointError: they are not zero.
    """
    if (wrong := offsets != 0).any():
        raise CheckpointError(
            f"{name(wrong)} is not zero everywhere in the checkpoint. The NPU multiplies int8 weights without an "
            f"offset; quantize the model with symmetric weights."
        )


def see_scales(scales: Tensor, name: Name, *, smallest: float = 0.0) -> None:
    """See that scales are numbers, and none is below `smallest`. A channel without weights may have the scale 0.

    Raises:
        CheckpointError: not so.
    """
    if (wrong := ~((scales >= smallest) & scales.isfinite())).any():
        raise CheckpointError(
            f"{name(wrong)} holds {scales[wrong][0].item()} in the checkpoint, which is no scale. Quantize the model "
            f"again."
        )


def see_floating(name: str, found: Tensor, wanted: torch.dtype) -> None:
    """See that a tensor of the checkpoint is floating where the model computes with floating numbers.

    vLLM would copy the bare integers of a quantized one.

    Raises:
        CheckpointError: it is not.
    """
    if wanted.is_floating_point and not found.is_floating_point():
        raise CheckpointError(
            f"{name} is {found.dtype} in the checkpoint, and the model computes with {wanted} there. The description "
            f"or config.json is that of another checkpoint, or the tensor was converted."
        )
