"""W8A8_MIX: W8A8 where an engine only decodes what another one has prefilled, W8A8_DYNAMIC everywhere else.

The checkpoint holds what W8A8 needs, of which weight and weight_scale are what W8A8_DYNAMIC needs.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

from ascend_overlay.overlays.quantization.schemes.w8a8 import W8A8
from ascend_overlay.overlays.quantization.schemes.w8a8_dynamic import W8A8Dynamic
from ascend_overlay.quantization import CheckpointTensor, Linear, LinearScheme

_STATIC = W8A8()
_DYNAMIC = W8A8Dynamic()


class W8A8Mix(LinearScheme):
    """One of two schemes, by the part that the engine has in a disaggregated deployment.

    What a processed layer has is that of the one or the other, and `scheme`, which of them.
    """

    type = "W8A8_MIX"

    def tensors(self, linear: Linear) -> list[CheckpointTensor]:
        """Return those of W8A8. Where W8A8_DYNAMIC computes, it needs what it takes, and no other."""
        if only_decodes():
            return _STATIC.tensors(linear)
        needed = {tensor.name for tensor in _DYNAMIC.tensors(linear) if not tensor.optional}
        return [dataclasses.replace(tensor, optional=tensor.name not in needed) for tensor in _STATIC.tensors(linear)]

    def process(self, layer: Any, linear: Linear) -> None:
        """Drop what the chosen scheme has no use for, and have it do the rest."""
        layer.scheme = _STATIC if only_decodes() else _DYNAMIC
        if layer.scheme is _DYNAMIC:
            kept = {tensor.name for tensor in _DYNAMIC.tensors(linear)}
            for tensor in _STATIC.tensors(linear):
                if tensor.name not in kept:
                    delattr(layer, tensor.name)
        layer.scheme.process(layer, linear)

    def apply(self, layer: Any, x: Tensor, bias: Tensor | None) -> Tensor:
        """Return the outputs."""
        result: Tensor = layer.scheme.apply(layer, x, bias)
        return result


def only_decodes() -> bool:
    """Tell whether this engine takes the keys and values of another one, and makes none for others (kv_consumer)."""
    from vllm.config import get_current_vllm_config_or_none

    config = get_current_vllm_config_or_none()
    transfer = config and config.kv_transfer_config
    return bool(transfer and transfer.is_kv_consumer and not transfer.is_kv_producer)
