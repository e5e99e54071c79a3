"""Unquantized experts on npu_grouped_matmul."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from vllm.model_executor import utils
from vllm.model_executor.layers.fused_moe.config import FusedMoEConfig
from vllm.model_executor.layers.fused_moe.fused_moe_method_base import FusedMoEMethodBase
from vllm.model_executor.layers.fused_moe.oracle.unquantized import UnquantizedMoeBackend
from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import UnquantizedFusedMoEMethod
from vllm.model_executor.utils import replace_parameter

import ascend_overlay
from ascend_overlay.npu.layout import wants_nz
from ascend_overlay.npu.moe.experts import float_experts
from ascend_overlay.npu.moe.layer import activation_of, columns, refusal, weighted_input

_WEIGHTS = ("w13_weight", "w2_weight")
_ARRANGED = "in_columns"
"""Attribute of a weight that has been transposed for good; one that vLLM loads anew does not have it."""


class AscendUnquantizedFusedMoEMethod(UnquantizedFusedMoEMethod):  # type: ignore[misc, unused-ignore]
    """Experts with float weights, by the operators of ascend_overlay.npu.moe.

    What those do not compute is left to vLLM as a whole, and the ledger says what and why.

    The weights stay as they are loaded, (experts, out, in): npu_grouped_matmul takes a transposed view. So writing new
    weights into a running engine works as in vLLM. Only where the setting weight_nz puts float weights into FRACTAL_NZ
    are they transposed for good.
    """

    def __init__(self, moe: FusedMoEConfig) -> None:
        reason = refusal(moe)
        self.left_to_vllm = reason is not None
        if self.left_to_vllm:
            ascend_overlay.note("moe", f"experts with {reason} are left to vLLM")
            super().__init__(moe)
            return
        # Past vLLM's own choice of a kernel, which fails where it has none for the platform or the sizes.
        FusedMoEMethodBase.__init__(self, moe)
        self.unquantized_backend = UnquantizedMoeBackend.OOT
        self.supports_pre_processed_weights = True
        self._activation = activation_of(moe)
        self._transposed = False

    def process_weights_after_loading(self, layer: Any) -> None:
        """Put the weights into FRACTAL_NZ if the setting in force says so."""
        if self.left_to_vllm:
            super().process_weights_after_loading(layer)
            return
        self._transposed = wants_nz(layer.w13_weight)
        if not self._transposed or _as_they_were():
            return
        for name in _WEIGHTS:
            weight = getattr(layer, name)
            if not hasattr(weight, _ARRANGED):
                arranged = columns(weight.data)
                setattr(arranged, _ARRANGED, True)
                replace_parameter(layer, name, arranged)

    def forward_native(
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
            x: (num_tokens, hidden); float16, bfloat16 or float32.
            topk_weights: (num_tokens, top_k), float32.
            topk_ids: (num_tokens, top_k), int: experts, counted over all ranks.
            shared_experts: run by vLLM, before or beside.
            shared_experts_input: what they take.
        """
        if self.left_to_vllm:
            left: Tensor = super().forward_native(
                layer, x, topk_weights, topk_ids, shared_experts, shared_experts_input
            )
            return left
        weights: Tensor | None = topk_weights
        if layer.apply_router_weight_on_input:
            x, weights = weighted_input(x, topk_weights, layer.layer_name), None
        assert self._activation is not None
        w13, w2 = layer.w13_weight, layer.w2_weight
        if not self._transposed:
            w13, w2 = w13.transpose(1, 2), w2.transpose(1, 2)
        return float_experts(
            x,
            topk_ids.to(torch.int32),
            weights,
            w13,
            w2,
            self._activation,
            expert_map=layer.expert_map,
            bias13=layer.w13_bias if self.moe.has_bias else None,
            bias2=layer.w2_bias if self.moe.has_bias else None,
        )


def _as_they_were() -> bool:
    """Tell whether the weights come as a process before this one had arranged them, which vLLM can do since 0.30."""
    asked = getattr(utils, "is_weights_pre_processed", None)
    return asked is not None and bool(asked())
