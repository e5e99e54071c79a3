"""W8A8: int8 weights by channel, int8 inputs with one scale and offset per layer, found by calibration.

    x_q = clamp(round(x / s_x) + o_x, -128, 127)
    y = (x_q @ W + quant_bias) * deq_scale,  deq_scale = s_x * s_w,  quant_bias = round(b / deq_scale) - o_x * sum_k W

The layer's own bias b is in quant_bias already.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ascend_overlay import npu
from ascend_overlay.errors import CheckpointError
from ascend_overlay.npu.layout import cast_weight
from ascend_overlay.overlays.quantization.numbers import see_scales
from ascend_overlay.overlays.quantization.quantized_rows import QuantizedRows
from ascend_overlay.overlays.quantization.schemes import parts
from ascend_overlay.quantization import CheckpointTensor, Linear, LinearScheme

npu.load("npu_quantize", "npu_quant_matmul", "npu_trans_quant_param")

_IN_A_NORM = {torch.float16: (torch.float32, torch.int32), torch.bfloat16: (torch.bfloat16, torch.bfloat16)}
"""Dtype of the activations -> those of the scale and the offset that npu_add_rms_norm_quant takes."""


class W8A8(LinearScheme):
    """Static quantization; see the module for the arithmetic.

    What a processed layer has:

    - outputs: how many there are
    - weight: (inputs, outputs) int8
    - input_scale_reciprocal, input_offset: (1,), in the dtype of the activations, as npu_quantize demands
    - deq_scale: (outputs,); float32, and for float16 the int64 of npu_trans_quant_param
    - quant_bias: (outputs,) int32, or None where another rank adds it
    - norm_scale, norm_offset: (inputs,), where the norm before quantizes its inputs, as npu_add_rms_norm_quant demands
    """

    type = "W8A8"

    def tensors(self, linear: Linear) -> list[CheckpointTensor]:
        """Return weight, input_scale, input_offset, and what can be computed of each other."""
        if _is_absorbed(linear):
            raise CheckpointError(
                f"{linear.projections[0]} is quantized with a static scale, and multi-head latent attention takes its "
                f"weights apart by asking it for the outputs of unit vectors, which that scale does not hold. Leave it "
                f"in float when you quantize the model, as ModelSlim does."
            )
        outputs = (sum(linear.outputs),)
        return [
            parts.weight(linear),
            CheckpointTensor(name="input_scale", shape=(1,), dtype=torch.float32),
            CheckpointTensor(
                name="input_offset",
                shape=(1,),
                dtype=torch.int8,
                accepts=(torch.int32, torch.float32, torch.bfloat16, torch.float16),
                read=_whole,
            ),
            CheckpointTensor(
                name="deq_scale",
                shape=outputs,
                # The one that ModelSlim writes for a model of this dtype: vLLM warns of another.
                dtype=torch.int64 if linear.dtype == torch.float16 else torch.float32,
                output_dim=0,
                accepts=(torch.int64, torch.float32),
                read=_carried if linear.dtype == torch.float16 else _read_off,
                optional=True,
            ),
            CheckpointTensor(name="quant_bias", shape=outputs, dtype=torch.int32, output_dim=0, optional=True),
            parts.per_channel(linear, "weight_scale", optional=True),
            parts.per_channel(linear, "weight_offset", optional=True),
        ]

    def process(self, layer: Any, linear: Linear) -> None:
        """Compute what the checkpoint does not have, and lay out what it has."""
        parts.see_symmetric(layer, linear)
        scale = _common(layer, "input_scale", linear)
        offset = _common(layer, "input_offset", linear)
        see_scales(scale, parts.named("input_scale", linear), smallest=torch.finfo(torch.bfloat16).tiny)
        deq_scale = self._deq_scale(layer, linear, scale)
        see_scales(deq_scale, parts.named("deq_scale", linear))
        bias = self._bias(layer, linear, offset, deq_scale)
        if getattr(layer, "skip_bias_add", False) and getattr(layer, "bias", None) is not None:
            # Whoever gets the bias from the layer, to add it later, would add it twice.
            layer.bias.data.zero_()
        parts.put_weight(layer, lambda rows: cast_weight(rows.t().contiguous()))
        parts.put(layer, "input_scale_reciprocal", _reciprocal(scale, linear))
        parts.put(layer, "input_offset", offset.to(linear.dtype))
        if getattr(layer, "norm_quantizes", False):
            of_scale, of_offset = _IN_A_NORM[linear.dtype]
            parts.put(layer, "norm_scale", scale.to(of_scale).repeat(linear.inputs))
            parts.put(layer, "norm_offset", offset.to(of_offset).repeat(linear.inputs))
        if linear.dtype == torch.float16:
            deq_scale = torch.ops.npu.npu_trans_quant_param(deq_scale)
        parts.put_channels(layer, "deq_scale", deq_scale)
        parts.put_channels(layer, "quant_bias", bias)
        del layer.input_scale, layer.weight_scale

    def apply(self, layer: Any, x: Tensor | QuantizedRows, bias: Tensor | None) -> Tensor:
        """Return the outputs; of rows that are quantized already, too. `bias` is in quant_bias already."""
        if isinstance(x, QuantizedRows):
            quantized = x.numbers
        else:
            quantized = torch.ops.npu.npu_quantize(
                x, layer.input_scale_reciprocal, layer.input_offset, torch.qint8, -1, False
            )

        def multiply(part: parts.Part) -> Tensor:
            product: Tensor = torch.ops.npu.npu_quant_matmul(
                quantized,
                part.take("weight"),
                part.take("deq_scale"),
                bias=part.take_if_any("quant_bias"),
                output_dtype=x.dtype,
            )
            return product

        return parts.products(layer, multiply)

    def _deq_scale(self, layer: Any, linear: Linear, scale: Tensor) -> Tensor:
        if "deq_scale" not in linear.absent:
            loaded: Tensor = layer.deq_scale.data
            return loaded if loaded.dtype == torch.float32 else _read_off(loaded)
        if "weight_scale" in linear.absent:
            name = linear.projections[0]
            raise CheckpointError(
                f"the checkpoint has neither {name}.deq_scale nor {name}.weight_scale, of which the other could be "
                f"computed. Its safetensors files are incomplete; copy or download them again."
            )
        computed: Tensor = scale * layer.weight_scale.data.flatten()
        return computed

    def _bias(self, layer: Any, linear: Linear, offset: Tensor, deq_scale: Tensor) -> Tensor | None:
        if "quant_bias" not in linear.absent:
            loaded: Tensor = layer.quant_bias.data
            return loaded if linear.adds_bias else None
        # What the offset adds is taken away again by each rank for its own inputs, which together is the same.
        added: Tensor = offset.int() * layer.weight.data.sum(1, dtype=torch.int32)
        own = getattr(layer, "bias", None)
        if own is None or not linear.adds_bias:
            return -added
        # A channel without weights may have the scale 0, and then has no bias in units of it.
        # On the CPU, since the NPU has no float64.
        units: Tensor = (own.data.cpu().double() / deq_scale.cpu().double()).nan_to_num(0.0, 0.0, 0.0).round()
        return units.clamp(-(2**30), 2**30).int().to(added.device) - added


def _is_absorbed(linear: Linear) -> bool:
    from vllm.config import get_current_vllm_config_or_none

    config = get_current_vllm_config_or_none()
    return linear.name.endswith("kv_b_proj") and bool(getattr(config and config.model_config, "use_mla", False))


def _reciprocal(scale: Tensor, linear: Linear) -> Tensor:
    """Return what the inputs are multiplied with.

    Raises:
        CheckpointError: the dtype of the activations does not hold it; float16 ends at 65504.
    """
    reciprocal: Tensor = (1 / scale).to(linear.dtype)
    if not (reciprocal.isfinite() & (reciprocal > 0)).all():
        raise CheckpointError(
            f"input_scale of {' and '.join(linear.projections)} is {scale.item():g}, and the NPU multiplies the inputs "
            f"by its reciprocal, which {linear.dtype} does not hold. Serve the model in bfloat16, or quantize it again."
        )
    return reciprocal


def _whole(offset: Tensor) -> Tensor:
    """Return an offset that is of another dtype as int8."""
    if (offset != offset.round().clamp(-128, 127)).any():
        raise ValueError(f"is {offset.flatten()[0].item()} in the checkpoint, and no whole number from -128 to 127")
    return offset.to(torch.int8)


def _carried(scale: Tensor) -> Tensor:
    """Return float32 numbers as ModelSlim carries them in int64, with their bits in the low half."""
    return scale.view(torch.int32).long() & 0xFFFFFFFF


def _read_off(scale: Tensor) -> Tensor:
    """Return the float32 numbers that `_carried` carries."""
    low = scale & 0xFFFFFFFF
    return torch.where(low >= 2**31, low - 2**32, low).int().view(torch.float32)


def _common(layer: Any, name: str, linear: Linear) -> Tensor:
    """Return the one value (1,) that all projections of a layer have.

    Raises:
        CheckpointError: they have different ones.
    """
    values: Tensor = getattr(layer, name).data
    if (values != values[0]).any():
        listed = ", ".join(
            f"{module}.{name} = {value:g}" for module, value in zip(linear.projections, values.tolist(), strict=False)
        )
        raise CheckpointError(
            f"vLLM computes {linear.name} in one product with one {name}, and the checkpoint has different ones "
            f"({listed}). Calibrate them together."
        )
    return values[:1].clone()
