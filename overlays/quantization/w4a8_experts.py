"""Routed experts of the type W4A8_DYNAMIC."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.layers.fused_moe.routed_experts import FusedMoeWeightScaleSupported
from vllm.model_executor.utils import replace_parameter

import ascend_overlay
from ascend_overlay import settings
from ascend_overlay.errors import CheckpointError
from ascend_overlay.npu.moe.layer import is_swiglu
from ascend_overlay.npu.reference.moe_matmul_checks import MOST_INPUTS, PACKED, TILE
from ascend_overlay.overlays.quantization.experts_method import ExpertsMethod, Shape, Stored
from ascend_overlay.overlays.quantization.int4_columns import carried, packed_columns, sums
from ascend_overlay.overlays.quantization.int8_experts import int8_experts
from ascend_overlay.overlays.quantization.numbers import see_scales, see_zero

_COLUMNS = 16
"""Equal parts of the inputs of down_proj, for each of which the checkpoint has the sum of an output's weights."""
_OFF = 2.0**-7
"""By what part of the weights' sizes a sum may be off that was rounded to 16 bits, or added up in another order."""


class W4A8DynamicExperts(ExpertsMethod):
    """Loads and computes experts with weights of 4 bits and inputs of int8; see int8_experts.py for the arithmetic.

    What a processed layer has:

    - w13_weight: (experts, hidden, 2 * intermediate / 8) int32
    - w2_weight: (experts, intermediate, hidden / 8) int32
    - w13_weight_scale, w2_weight_scale: (experts, 1, columns of the weight) int64, with the bits of float32
    - w13_scale_bias, w2_scale_bias: (experts, columns) float32: 8 times the sum of a column's weights
    """

    scheme_type = "W4A8_DYNAMIC"
    words = "experts of 4 bits"
    dtypes = (torch.bfloat16, torch.float16)
    spread = FusedMoeWeightScaleSupported.CHANNEL.value

    def stored(self, layer: Any, part: str, shape: Shape) -> Iterator[Stored]:
        """Yield what the checkpoint has; see `ExpertsMethod`."""
        self._see_channels(layer)
        self._see_sizes(layer, part, shape)
        experts, outputs, inputs = shape
        yield Stored("weight", (experts, outputs // 2, inputs), torch.int8)
        yield Stored("weight_scale", (experts, outputs, 1))
        yield Stored("weight_offset", (experts, outputs, 1), optional=True)
        yield Stored("scale_bias", (experts, outputs, 1), parts=_COLUMNS if part == "w2" else 0)

    def process_weights_after_loading(self, layer: Any) -> None:
        """Say what a setting does not do, beside what all experts need; see `ExpertsMethod`."""
        super().process_weights_after_loading(layer)
        if settings.current().fused_experts:
            ascend_overlay.note(
                "quantization",
                "the products of experts of W4A8_DYNAMIC and their activation stay apart, since what the operator that "
                "computes them takes for weights of 4 bits is not documented",
            )

    def prepare(self, layer: Any, part: str) -> None:
        """Bring one part into the form that the operator takes; see `ExpertsMethod`."""
        self.loaded(layer, part, "weight_offset", see_zero)
        scale = self.loaded(layer, part, "weight_scale", see_scales)
        columns, bias = packed_columns(self.loaded(layer, part, "weight")), self.loaded(layer, part, "scale_bias")
        self._see_bias(part, bias.flatten(1), columns, scale.flatten(1))
        replace_parameter(layer, f"{part}_weight", columns)
        replace_parameter(layer, f"{part}_weight_scale", carried(scale))
        replace_parameter(layer, f"{part}_scale_bias", bias.flatten(1))
        delattr(layer, f"{part}_weight_offset")

    def computed(self, layer: Any, x: Tensor, experts: Tensor, weights: Tensor | None) -> Tensor:
        """Return for each token the weighted sum of its experts; see `ExpertsMethod`."""
        assert self._activation is not None
        return int8_experts(
            x,
            experts,
            weights,
            layer.w13_weight,
            layer.w13_weight_scale,
            layer.w2_weight,
            layer.w2_weight_scale,
            self._activation,
            bias13=layer.w13_scale_bias,
            bias2=layer.w2_scale_bias,
            swiglu=is_swiglu(self.moe),
            expert_map=layer.expert_map,
        )

    def _see_channels(self, layer: Any) -> None:
        """See that the scales are those of outputs alone."""
        description = layer.quant_config.description
        group = description.settings.get("group_size") or 0
        second = next((name for name in description.second_scales if name.startswith(f"{self._name}.")), None)
        if second is None and not group:
            return
        first = second or f"{next(description.below(self._name))[0]}.weight_scale"
        said = "lists it" if second else f"says group_size = {group!r}"
        raise CheckpointError(
            f"{first} belongs to scales for groups of inputs, since {description.source} {said}, and experts of "
            f"W4A8_DYNAMIC have one scale for each output. Quantize the model again by channel (in ModelSlim scope: "
            f"per_channel), with a ModelSlim that writes scale_bias."
        )

    def _see_sizes(self, layer: Any, part: str, shape: Shape) -> None:
        ranks = layer.moe_config.moe_parallel_config.tp_size
        if _COLUMNS % ranks:
            raise CheckpointError(
                f"{self._name}.*.{layer.ckpt_down_proj_name}.scale_bias has {_COLUMNS} columns, which {ranks} ranks "
                f"cannot share. Spread each expert over 1, 2, 4, 8 or 16 ranks, or give each rank whole experts "
                f"(--enable-expert-parallel)."
            )
        _, outputs, inputs = shape
        if inputs % TILE or inputs > MOST_INPUTS or outputs % PACKED:
            raise CheckpointError(
                f"{self._name} has {inputs} inputs and {outputs} outputs in {part} on a rank, and W4A8_DYNAMIC takes "
                f"{TILE} inputs at a time, {MOST_INPUTS} at most, and {PACKED} outputs. Spread the model over another "
                f"number of ranks."
            )

    def _see_bias(self, part: str, bias: Tensor, columns: Tensor, scale: Tensor) -> None:
        """See that the sums of the checkpoint are those of its weights: a result with other ones would be none."""
        total, size = sums(columns)
        wrong = ~((bias - 8 * total * scale).abs() <= 8 * _OFF * size * scale)
        if wrong.any():
            raise CheckpointError(
                f"{self._loading.named(f'{part}_scale_bias')(wrong)} is not 8 times the sum of each output's weights "
                f"in the checkpoint, which the NPU adds to the products of int8 and 4 bits. It belongs to other "
                f"weights: copy the checkpoint again, or quantize the model again."
            )
