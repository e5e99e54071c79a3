"""W8A8_DYNAMIC: int8 weights by channel, int8 inputs with a scale for each token, found as it comes.

x_q, s_x = round(x / s_x), max|x| / 127
y = (x_q @ W) * s_w * s_x + b
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ascend_overlay import npu
from ascend_overlay.npu.layout import cast_weight
from ascend_overlay.overlays.quantization.numbers import see_scales
from ascend_overlay.overlays.quantization.quantized_rows import QuantizedRows
from ascend_overlay.overlays.quantization.schemes import parts
from ascend_overlay.quantization import CheckpointTensor, Linear, LinearScheme

npu.load("npu_dynamic_quant", "npu_quant_matmul")


class W8A8Dynamic(LinearScheme):
    """Dynamic quantization; see the module for the arithmetic.

    What a processed layer has:

    - outputs: how many there are
    - weight: (inputs, outputs) int8
    - weight_scale: (outputs,) float32
    """

    type = "W8A8_DYNAMIC"

    def tensors(self, linear: Linear) -> list[CheckpointTensor]:
        """Return weight, weight_scale and weight_offset."""
        return [
            parts.weight(linear),
            parts.per_channel(linear, "weight_scale"),
            parts.per_channel(linear, "weight_offset", optional=True),
        ]

    def process(self, layer: Any, linear: Linear) -> None:
        """Lay out the weight."""
        parts.see_symmetric(layer, linear)
        see_scales(layer.weight_scale.data, parts.named("weight_scale", linear))
        parts.put_weight(layer, lambda rows: cast_weight(rows.t().contiguous()))
        parts.put_channels(layer, "weight_scale", layer.weight_scale.data.flatten())

    def apply(self, layer: Any, x: Tensor | QuantizedRows, bias: Tensor | None) -> Tensor:
        """Return the outputs; of rows that are quantized already, too."""
        # The scales of the tokens go along one dimension.
        if isinstance(x, QuantizedRows):
            assert x.scales is not None
            shape, dtype = x.numbers.shape, x.dtype
            quantized, scale = x.numbers.reshape(-1, shape[-1]), x.scales.reshape(-1)
        else:
            shape, dtype = x.shape, x.dtype
            quantized, scale = torch.ops.npu.npu_dynamic_quant(x.reshape(-1, shape[-1]))

        def multiply(part: parts.Part) -> Tensor:
            product: Tensor = torch.ops.npu.npu_quant_matmul(
                quantized,
                part.take("weight"),
                part.take("weight_scale"),
                pertoken_scale=scale,
                bias=part.cut(bias),
                output_dtype=dtype,
            )
            return product

        return parts.products(layer, multiply).reshape(*shape[:-1], layer.outputs)
