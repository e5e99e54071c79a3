"""Routed experts of the type W4A16."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.layers.fused_moe.routed_experts import FusedMoeWeightScaleSupported
from vllm.model_executor.utils import replace_parameter

from ascend_overlay.errors import CheckpointError
from ascend_overlay.npu.reference.moe_matmul_checks import PACKED
from ascend_overlay.overlays.quantization.experts_method import ExpertsMethod, Shape, Stored
from ascend_overlay.overlays.quantization.int4_experts import int4_experts, repacked
from ascend_overlay.overlays.quantization.numbers import see_scales

_GROUP_SIZE = 32
"""Inputs that have a scale in common, where the description does not say."""


class W4A16Experts(ExpertsMethod):
    """Loads and computes experts with weights of 4 bits; see int4_experts.py for the arithmetic.

    What a processed layer has:

    - w13_weight_packed: (experts, hidden, 2 * intermediate / 8) int32
    - w2_weight_packed: (experts, intermediate, hidden / 8) int32
    - w13_weight_scale, w13_weight_offset: (experts, hidden / group, 2 * intermediate), in the dtype of the activations
    - w2_weight_scale, w2_weight_offset: (experts, intermediate / group, hidden)
    """

    scheme_type = "W4A16"
    words = "experts of 4 bits"
    dtypes = (torch.bfloat16, torch.float16)
    # With the inputs that they are of.
    spread = FusedMoeWeightScaleSupported.GROUP.value

    def stored(self, layer: Any, part: str, shape: Shape) -> Iterator[Stored]:
        """Yield what the checkpoint has; see `ExpertsMethod`."""
        group = self._group_size(layer)
        experts, outputs, inputs = shape
        if inputs % group or inputs % PACKED or outputs % PACKED:
            raise CheckpointError(
                f"{self._name} has {inputs} inputs and {outputs} outputs in {part} on a rank, and W4A16 takes groups "
                f"of {group} inputs and {PACKED} numbers at a time. Spread the model over fewer ranks."
            )
        yield Stored("weight_packed", (experts, outputs, inputs // PACKED), torch.int32)
        yield Stored("weight_scale", (experts, outputs, inputs // group))
        yield Stored("weight_offset", (experts, outputs, inputs // group), optional=True)
        # Some checkpoints say how large the weights are before they were packed.
        yield Stored("weight_shape", (experts, 2), torch.int32, unused=True)

    def prepare(self, layer: Any, part: str) -> None:
        """Bring one part into the form that the operator takes; see `ExpertsMethod`."""
        delattr(layer, f"{part}_weight_shape")
        numbers = {
            "weight_scale": self.loaded(layer, part, "weight_scale", see_scales),
            "weight_offset": self.loaded(layer, part, "weight_offset"),
        }
        replace_parameter(layer, f"{part}_weight_packed", repacked(self.loaded(layer, part, "weight_packed")))
        for name, data in numbers.items():
            by_group = data.transpose(1, 2).contiguous()
            replace_parameter(layer, f"{part}_{name}", by_group.to(self.moe.in_dtype))

    def computed(self, layer: Any, x: Tensor, experts: Tensor, weights: Tensor | None) -> Tensor:
        """Return for each token the weighted sum of its experts; see `ExpertsMethod`."""
        assert self._activation is not None
        return int4_experts(
            x,
            experts,
            weights,
            (layer.w13_weight_packed, layer.w13_weight_scale, layer.w13_weight_offset),
            (layer.w2_weight_packed, layer.w2_weight_scale, layer.w2_weight_offset),
            self._activation,
            expert_map=layer.expert_map,
        )

    def _group_size(self, layer: Any) -> int:
        description = layer.quant_config.description
        found = description.settings.get("group_size", _GROUP_SIZE) or _GROUP_SIZE
        if type(found) is not int or found < 1:
            raise CheckpointError(f"{description.source} says group_size = {found!r}, which is no number of inputs.")
        return found
