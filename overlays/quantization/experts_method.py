"""What the quantized types of routed experts have in common as methods of vLLM's."""

from __future__ import annotations

import abc
from collections.abc import Container
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Parameter
from vllm.model_executor.layers.fused_moe.config import FusedMoEQuantConfig
from vllm.model_executor.layers.fused_moe.fused_moe_method_base import FusedMoEMethodBase

from ascend_overlay.errors import CheckpointError
from ascend_overlay.npu.moe.layer import activation_of, refusal, weighted_input
from ascend_overlay.overlays.quantization.experts_loading import ExpertsLoading

PARTS = ("w13", "w2")


class ExpertsMethod(FusedMoEMethodBase):  # type: ignore[misc, unused-ignore]
    """Loads and computes experts of one type, on a rank.

    Attributes:
        scheme_type: the type.
        words: what such experts are, for an error.
        dtypes: what activations may be.
        spread: how vLLM's loader spreads the scales over ranks, a value of its FusedMoeWeightScaleSupported.

    Args:
        layer: the layer of vLLM.
        prefix: its name.

    Raises:
        CheckpointError: the layer is one that the operators of torch_npu do not compute.
    """

    scheme_type: ClassVar[str]
    words: ClassVar[str]
    dtypes: ClassVar[Container[torch.dtype]]
    spread: ClassVar[str]

    def __init__(self, layer: Any, prefix: str) -> None:
        moe = layer.moe_config
        super().__init__(moe)
        self._activation = activation_of(moe)
        self._name = prefix.removesuffix(".routed_experts")
        self._loading: ExpertsLoading
        reason = refusal(moe) or ("biases" if moe.has_bias else None)
        if reason is None and moe.in_dtype not in self.dtypes:
            reason = f"activations of {moe.in_dtype}"
        if reason is not None:
            raise CheckpointError(
                f"{self._name} is of the type {self.scheme_type}, and there are no {self.words} with {reason}. Change "
                f"that, or keep the experts of the model in float when you quantize it."
            )

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
        weights: Tensor | None = topk_weights
        if layer.apply_router_weight_on_input:
            x, weights = weighted_input(x, topk_weights, self._name), None
        return self.computed(layer, x, topk_ids.to(torch.int32), weights)

    @abc.abstractmethod
    def computed(self, layer: Any, x: Tensor, experts: Tensor, weights: Tensor | None) -> Tensor:
        """Return what `apply` does; `experts` is int32, and without `weights` they are ones."""

    def shapes(self, num_experts: int, hidden: int, intermediate: int) -> dict[str, tuple[int, int, int]]:
        """Return (experts, outputs, inputs) of each part, whose hidden layer is `intermediate` wide on this rank."""
        gate_and_up = intermediate * (2 if self.moe.is_act_and_mul else 1)
        return {"w13": (num_experts, gate_and_up, hidden), "w2": (num_experts, hidden, intermediate)}

    def _add(self, layer: Any, name: str, data: Tensor, *, optional: bool = False, parts: int = 0) -> None:
        parameter: Any = Parameter(data, requires_grad=False)
        layer.register_parameter(name, parameter)
        parameter.weight_loader = self._loading.loader(name, optional=optional, parts=parts)
        parameter.quant_method = self.spread
