"""W8A16: int8 weights by channel, inputs as they are.

y = x @ ((W + o_w) * s_w) + b
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ascend_overlay import npu
from ascend_overlay.overlays.quantization.numbers import see_scales
from ascend_overlay.overlays.quantization.schemes import parts
from ascend_overlay.quantization import CheckpointTensor, Linear, LinearScheme

npu.load("npu_weight_quant_batchmatmul")


class W8A16(LinearScheme):
    """Quantization of weights only; see the module for the arithmetic.

    The weight stays in ND, and the transposition of what was loaded: torch_npu documents that as the faster form, and
    FRACTAL_NZ as one that this operator takes in graph mode only.

    What a processed layer has:

    - outputs: how many there are
    - weight: (inputs, outputs) int8
    - weight_scale: (outputs,), in the dtype of the activations, as the operator demands
    - weight_offset: the same, or None if all are zero
    """

    type = "W8A16"

    def tensors(self, linear: Linear) -> list[CheckpointTensor]:
        """Return weight, weight_scale and weight_offset."""
        return [
            parts.weight(linear),
            parts.per_channel(linear, "weight_scale"),
            parts.per_channel(linear, "weight_offset", optional=True),
        ]

    def process(self, layer: Any, linear: Linear) -> None:
        """Bring the parameters into the form of the operator."""
        see_scales(layer.weight_scale.data, parts.named("weight_scale", linear))
        parts.put_weight(layer, lambda rows: rows.t())
        parts.put_channels(layer, "weight_scale", layer.weight_scale.data.flatten().to(linear.dtype))
        offset = layer.weight_offset.data.flatten()
        none = "weight_offset" in linear.absent or not offset.any()
        parts.put_channels(layer, "weight_offset", None if none else offset.to(linear.dtype))

    def apply(self, layer: Any, x: Tensor, bias: Tensor | None) -> Tensor:
        """Return the outputs."""
        rows = x.reshape(-1, x.shape[-1])
        if bias is not None and x.dtype == torch.bfloat16:
            bias = bias.float()  # the operator's rule

        def multiply(part: parts.Part) -> Tensor:
            product: Tensor = torch.ops.npu.npu_weight_quant_batchmatmul(
                rows,
                part.take("weight"),
                part.take("weight_scale"),
                part.take_if_any("weight_offset"),
                bias=part.cut(bias),
            )
            return product

        return parts.products(layer, multiply).reshape(*x.shape[:-1], layer.outputs)
