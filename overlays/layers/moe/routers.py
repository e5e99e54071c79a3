"""vLLM's routers on npu_moe_gating_top_k and npu_moe_gating_top_k_softmax.

A router says what it computes as a Routing. What the operators cannot compute, and what is no formula but a function of
the model, stays with the router itself, and the ledger names it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.layers.fused_moe.router.cpu_router import CPURouter
from vllm.model_executor.layers.fused_moe.router.fused_topk_bias_router import FusedTopKBiasRouter
from vllm.model_executor.layers.fused_moe.router.fused_topk_router import FusedTopKRouter
from vllm.model_executor.layers.fused_moe.router.grouped_topk_router import GroupedTopKRouter

import ascend_overlay
from ascend_overlay.npu.moe.routing import Routing, select_experts


class _AscendRouting:
    """Computes the routing of the router class that follows it among the bases.

    All of it is decided when the router is built, except for the bias, which is loaded later.
    """

    _routing: Routing | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        router: Any = self
        routing, refusal = self._described()
        if routing is not None:
            refusal = routing.refusal(router.global_num_experts)
        if refusal is not None:
            ascend_overlay.note("moe", f"routing with {refusal} is left to vLLM's {type(self).__mro__[2].__name__}")
        self._routing = routing if refusal is None else None

    def _described(self) -> tuple[Routing | None, str | None]:
        """Return what the router computes, or why that is no Routing."""
        raise NotImplementedError

    def _compute_routing(
        self,
        hidden_states: Tensor,
        router_logits: Tensor,
        indices_type: torch.dtype | None,
        *,
        input_ids: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the weights, float32, and the experts of each token, both (num_tokens, top_k)."""
        router: Any = super()
        routing = self._routing
        if routing is None:
            left: tuple[Tensor, Tensor] = router._compute_routing(
                hidden_states, router_logits, indices_type, input_ids=input_ids
            )
            return left
        bias = self.e_score_correction_bias if routing.biased else None  # type: ignore[attr-defined]
        weights, experts = select_experts(router_logits, bias, routing)
        return weights, experts if indices_type is None else experts.to(indices_type)


class AscendCPURouter(_AscendRouting, CPURouter):  # type: ignore[misc, unused-ignore]
    """The router of the CPU platform, which stands for all kinds of routing.

    Without groups, vLLM's own ignores a bias there and fails with a sigmoid; here both count, as in its routers of
    other platforms.
    """

    def _described(self) -> tuple[Routing | None, str | None]:
        if self.custom_routing_function is not None and not self.use_grouped_topk:
            return None, f"the model's own function {_name(self.custom_routing_function)}"
        if self._hash_indices_table is not None:
            return None, "a table of experts by token"
        groups = (self.num_expert_group, self.topk_group) if self.use_grouped_topk else (1, 1)
        return _routing(self, groups, factor=self.use_grouped_topk or self.e_score_correction_bias is not None), None


class AscendFusedTopKRouter(_AscendRouting, FusedTopKRouter):  # type: ignore[misc, unused-ignore]
    """Softmax or sigmoid, and the best experts."""

    def _described(self) -> tuple[Routing | None, str | None]:
        return _routing(self, (1, 1), factor=False), None


class AscendFusedTopKBiasRouter(_AscendRouting, FusedTopKBiasRouter):  # type: ignore[misc, unused-ignore]
    """Softmax or sigmoid, and the best experts by their score and a bias."""

    def _described(self) -> tuple[Routing | None, str | None]:
        if self._hash_indices_table is not None:
            return None, "a table of experts by token"
        if self.bias_vl is not None:
            return None, "a bias of its own for image tokens"
        if self.num_fused_shared_experts:
            return None, "shared experts among the routed ones"
        return _routing(self, (1, 1), factor=True), None


class AscendGroupedTopKRouter(_AscendRouting, GroupedTopKRouter):  # type: ignore[misc, unused-ignore]
    """Softmax or sigmoid, and the best experts of the best groups."""

    def _described(self) -> tuple[Routing | None, str | None]:
        if self.num_fused_shared_experts:
            return None, "shared experts among the routed ones"
        if self.skip_padding:
            return None, "padded tokens that are skipped"
        return _routing(self, (self.num_expert_group, self.topk_group), factor=True), None


def _routing(router: Any, groups: tuple[int, int], *, factor: bool) -> Routing:
    return Routing(
        top_k=router.top_k,
        scoring=router.scoring_func,
        renormalize=router.renormalize,
        factor=router.routed_scaling_factor if factor else 1.0,
        groups=groups[0],
        kept_groups=groups[1],
        biased=getattr(router, "e_score_correction_bias", None) is not None,
    )


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
