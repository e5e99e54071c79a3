"""Unquantized experts on npu_grouped_matmul."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from vllm import envs
from vllm.model_executor.layers.fused_moe.config import FusedMoEConfig
from vllm.model_executor.layers.fused_moe.fused_moe_method_base import FusedMoEMethodBase
from vllm.model_executor.layers.fused_moe.oracle.unquantized import UnquantizedMoeBackend
from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import UnquantizedFusedMoEMethod
from vllm.model_executor.utils import is_weights_pre_processed, replace_parameter

import ascend_overlay
from ascend_overlay.npu.layout import cast_weight, wants_nz
from ascend_overlay.npu.moe.activation import Activation, activation
from ascend_overlay.npu.moe.experts import float_experts

_WEIGHTS = ("w13_weight", "w2_weight")
_FLOATS = (torch.float16, torch.bfloat16, torch.float32)
_GROUPS = 1024


class AscendUnquantizedFusedMoEMethod(UnquantizedFusedMoEMethod):  # type: ignore[misc, unused-ignore]
    """Experts with float weights, by the operators of ascend_overlay.npu.moe.

    What those do not compute is left to vLLM as a whole, and the ledger says what and why.

    The weights stay as they are loaded, (experts, out, in): npu_grouped_matmul takes a transposed view. So writing new
    weights into a running engine works as in vLLM. Only where the setting weight_nz puts float weights into FRACTAL_NZ
    are they transposed for good.
    """

    def __init__(self, moe: FusedMoEConfig) -> None:
        computed = _activation(moe)
        refusal = _refusal(moe) if computed is not None else f"the activation {moe.activation.value}"
        self.left_to_vllm = refusal is not None
        if self.left_to_vllm:
            ascend_overlay.note("moe", f"experts with {refusal} are left to vLLM")
            super().__init__(moe)
            return
        # Past vLLM's own choice of a kernel, which fails where it has none for the platform or the sizes.
        FusedMoEMethodBase.__init__(self, moe)
        self.unquantized_backend = UnquantizedMoeBackend.OOT
        self.supports_pre_processed_weights = True
        self._activation = computed
        self._transposed = False

    def process_weights_after_loading(self, layer: Any) -> None:
        """Put the weights into FRACTAL_NZ if the setting in force says so."""
        if self.left_to_vllm:
            super().process_weights_after_loading(layer)
            return
        self._transposed = wants_nz(layer.w13_weight)
        if self._transposed and not is_weights_pre_processed():
            for name in _WEIGHTS:
                columns = getattr(layer, name).data.transpose(1, 2).contiguous()
                replace_parameter(layer, name, cast_weight(columns))

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
            x, weights = _weighted(x, topk_weights, layer), None
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


def _weighted(x: Tensor, weights: Tensor, layer: Any) -> Tensor:
    if weights.shape[1] != 1:
        raise ValueError(
            f"{layer.layer_name}: the weights of {weights.shape[1]} experts cannot go to the input of all of them; "
            f"apply_router_weight_on_input takes models that choose one expert a token."
        )
    return x * weights.to(x.dtype)


def _activation(moe: FusedMoEConfig) -> Activation | None:
    alpha = 1.0 if moe.swiglu_alpha is None else moe.swiglu_alpha
    beta = 0.0 if moe.swiglu_beta is None else moe.swiglu_beta
    return activation(moe.activation.value, limit=moe.swiglu_limit, alpha=alpha, beta=beta)


def _refusal(moe: FusedMoEConfig) -> str | None:
    parallel = moe.moe_parallel_config
    if moe.is_lora_enabled:
        return "LoRA"
    if moe.moe_backend != "auto":
        return f"the setting moe_backend={moe.moe_backend}"
    if parallel.use_passthrough_all2all or (parallel.use_all2all_kernels and not parallel.use_ag_rs_all2all_kernels):
        return f"the all-to-all communication {parallel.all2all_backend}"
    if envs.VLLM_BATCH_INVARIANT:
        return "VLLM_BATCH_INVARIANT"
    if moe.in_dtype not in _FLOATS:
        return f"activations of {moe.in_dtype}"
    if moe.num_local_experts > _GROUPS:
        return f"{moe.num_local_experts} experts on one rank, more than npu_grouped_matmul's {_GROUPS} groups"
    return None
