"""Routed experts of the type W4A16."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from vllm.model_executor.layers.fused_moe.routed_experts import FusedMoeWeightScaleSupported
from vllm.model_executor.utils import replace_parameter

from ascend_overlay.errors import CheckpointError
from ascend_overlay.npu.reference.moe_matmul_checks import PACKED
from ascend_overlay.overlays.quantization.experts_loading import ExpertsLoading
from ascend_overlay.overlays.quantization.experts_method import PARTS, ExpertsMethod
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

    def create_weights(
        self,
        layer: Any,
        num_experts: int,
        hidden_size: int,
        intermediate_size_per_partition: int,
        params_dtype: torch.dtype,
        **extra_weight_attrs: Any,
    ) -> None:
        """Give `layer` the parameters that are loaded.

        Raises:
            CheckpointError: groups of inputs do not fit the sizes of the experts on a rank.
        """
        group = self._group_size(layer)
        shapes = self.shapes(num_experts, hidden_size, intermediate_size_per_partition)
        self._loading = ExpertsLoading(layer, self._name, extra_weight_attrs["weight_loader"])
        for part, (experts, outputs, inputs) in shapes.items():
            if inputs % group or inputs % PACKED or outputs % PACKED:
                raise CheckpointError(
                    f"{self._name} has {inputs} inputs and {outputs} outputs in {part} on a rank, and W4A16 takes "
                    f"groups of {group} inputs and {PACKED} numbers at a time. Spread the model over fewer ranks."
                )
            self._add(
                layer, f"{part}_weight_packed", torch.zeros(experts, outputs, inputs // PACKED, dtype=torch.int32)
            )
            for name in ("weight_scale", "weight_offset"):
                numbers = torch.zeros(experts, outputs, inputs // group, dtype=torch.float32)
                self._add(layer, f"{part}_{name}", numbers, optional=name == "weight_offset")
            # Some checkpoints say how large the weights are before they were packed.
            shape: Any = Parameter(torch.zeros(experts, 2, dtype=torch.int32), requires_grad=False)
            shape.weight_loader = _pass_over
            layer.register_parameter(f"{part}_weight_shape", shape)

    def process_weights_after_loading(self, layer: Any) -> None:
        """See that everything was loaded and is usable, and bring it into the form that the operator takes.

        Raises:
            CheckpointError: a tensor is missing, or its numbers are not usable.
        """
        self._loading.finish()
        for part in PARTS:
            delattr(layer, f"{part}_weight_shape")
            see_scales(getattr(layer, f"{part}_weight_scale").data, self._loading.named(f"{part}_weight_scale"))
            replace_parameter(layer, f"{part}_weight_packed", repacked(getattr(layer, f"{part}_weight_packed").data))
            for name in (f"{part}_weight_scale", f"{part}_weight_offset"):
                by_group = getattr(layer, name).data.transpose(1, 2).contiguous()
                replace_parameter(layer, name, by_group.to(self.moe.in_dtype))

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


def _pass_over(*tensors: Tensor, **options: Any) -> bool:
    return True
