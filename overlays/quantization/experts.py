"""Routed experts of the type W8A8_DYNAMIC."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from vllm.model_executor.layers.fused_moe.config import FusedMoEQuantConfig
from vllm.model_executor.layers.fused_moe.fused_moe_method_base import FusedMoEMethodBase
from vllm.model_executor.layers.fused_moe.routed_experts import FusedMoeWeightScaleSupported
from vllm.model_executor.utils import replace_parameter

from ascend_overlay.errors import CheckpointError
from ascend_overlay.npu.moe.layer import activation_of, columns, is_swiglu, refusal, weighted_input
from ascend_overlay.overlays.quantization.experts_loading import ExpertsLoading
from ascend_overlay.overlays.quantization.int8_experts import int8_experts
from ascend_overlay.overlays.quantization.numbers import see_scales, see_zero

_PARTS = ("w13", "w2")
# The dtype of a scale with which npu_grouped_matmul writes the dtype of the activations.
_SCALES = {torch.bfloat16: torch.bfloat16, torch.float16: torch.float32}


class W8A8DynamicExperts(FusedMoEMethodBase):  # type: ignore[misc, unused-ignore]
    """Loads and computes int8 experts; see int8_experts.py for the arithmetic.

    What a processed layer has:

    - w13_weight: (experts, hidden, 2 * intermediate) int8
    - w2_weight: (experts, intermediate, hidden) int8
    - w13_weight_scale, w2_weight_scale: (experts, columns of the weight); bfloat16 with bfloat16, else float32

    Args:
        layer: the layer of vLLM.
        prefix: its name.

    Raises:
        CheckpointError: the layer is one that the operators of torch_npu do not compute.
    """

    scheme_type = "W8A8_DYNAMIC"

    def __init__(self, layer: Any, prefix: str) -> None:
        moe = layer.moe_config
        super().__init__(moe)
        self._activation = activation_of(moe)
        self._name = prefix.removesuffix(".routed_experts")
        self._loading: ExpertsLoading
        reason = refusal(moe) or ("biases" if moe.has_bias else None)
        if reason is None and moe.in_dtype not in _SCALES:
            reason = f"activations of {moe.in_dtype}"
        if reason is not None:
            raise CheckpointError(
                f"{self._name} is of the type W8A8_DYNAMIC, and there are no int8 experts with {reason}. Change that, "
                f"or keep the experts of the model in float when you quantize it."
            )

    def create_weights(
        self,
        layer: Any,
        num_experts: int,
        hidden_size: int,
        intermediate_size_per_partition: int,
        params_dtype: torch.dtype,
        **extra_weight_attrs: Any,
    ) -> None:
        """Give `layer` the parameters that are loaded."""
        gate_and_up = intermediate_size_per_partition * (2 if self.moe.is_act_and_mul else 1)
        shapes = {
            "w13": (num_experts, gate_and_up, hidden_size),
            "w2": (num_experts, hidden_size, intermediate_size_per_partition),
        }
        self._loading = ExpertsLoading(layer, self._name, extra_weight_attrs["weight_loader"])
        for part, shape in shapes.items():
            self._add(layer, f"{part}_weight", torch.zeros(shape, dtype=torch.int8))
            for name in ("weight_scale", "weight_offset"):
                numbers = torch.zeros((*shape[:2], 1), dtype=torch.float32)
                self._add(layer, f"{part}_{name}", numbers, optional=name == "weight_offset")

    def process_weights_after_loading(self, layer: Any) -> None:
        """See that everything was loaded and is usable, and bring it into the form that the operators take.

        Raises:
            CheckpointError: a tensor is missing, or its numbers are not usable.
        """
        self._loading.finish()
        for part in _PARTS:
            for last, see in (("weight_offset", see_zero), ("weight_scale", see_scales)):
                see(getattr(layer, f"{part}_{last}").data, self._loading.named(f"{part}_{last}"))
            replace_parameter(layer, f"{part}_weight", columns(getattr(layer, f"{part}_weight").data))
            scale = getattr(layer, f"{part}_weight_scale").data.flatten(1)
            replace_parameter(layer, f"{part}_weight_scale", scale.to(_SCALES[self.moe.in_dtype]))
            delattr(layer, f"{part}_weight_offset")

    def get_fused_moe_quant_config(self, layer: Any) -> FusedMoEQuantConfig:
        """Return one that says nothing: it is for vLLM's own kernels."""
        return FusedMoEQuantConfig.make()

    def apply(
        self,
        layer: Any,
        x: Tensor,
        topk_weights: Tensor,
        topk_ids: Tensor,
        shared_experts: Any,
        shared_experts_input: Tensor | None,
    ) -> Tensor:
        """Return for each token the weighted sum of its experts on this rank.

        Args:
            layer: vLLM's RoutedExperts, which holds the weights.
            x: (num_tokens, hidden); float16 or bfloat16.
            topk_weights: (num_tokens, top_k), float32.
            topk_ids: (num_tokens, top_k), int: experts, counted over all ranks.
            shared_experts: run by vLLM, before or beside.
            shared_experts_input: what they take.
        """
        assert self._activation is not None
        weights: Tensor | None = topk_weights
        if layer.apply_router_weight_on_input:
            x, weights = weighted_input(x, topk_weights, self._name), None
        return int8_experts(
            x,
            topk_ids.to(torch.int32),
            weights,
            layer.w13_weight,
            layer.w13_weight_scale,
            layer.w2_weight,
            layer.w2_weight_scale,
            self._activation,
            swiglu=is_swiglu(self.moe),
            expert_map=layer.expert_map,
        )

    def _add(self, layer: Any, name: str, data: Tensor, *, optional: bool = False) -> None:
        parameter: Any = Parameter(data, requires_grad=False)
        layer.register_parameter(name, parameter)
        parameter.weight_loader = self._loading.loader(name, optional=optional)
        # How vLLM's loader spreads a scale over ranks.
        parameter.quant_method = FusedMoeWeightScaleSupported.CHANNEL.value
