"""Weights of unquantized linear layers in the layout that the setting weight_nz wants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ascend_overlay.npu.layout import cast_weight


def process_weights_after_loading(
    wrapped: Callable[..., None], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Cast the weight of the layer, then let vLLM do what it does on this platform.

    The weight is (out, in), and 2-dimensional in a linear layer; convolutions pass here, too, and stay as they are.
    """
    layer = args[0] if args else kwargs["layer"]
    if layer.weight.dim() == 2:
        layer.weight.data = cast_weight(layer.weight.data)
    wrapped(*args, **kwargs)
