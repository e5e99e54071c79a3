"""What the routers share.

A router says what it computes as a Routing. What the operators cannot compute, and what is no formula but a function of
the model, stays with the router itself, and the ledger names it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import ascend_overlay
from ascend_overlay.npu.moe.routing import Routing, select_experts


class AscendRouting:
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
        routing = self._routing
        if routing is None:
            left: tuple[Tensor, Tensor] = super()._compute_routing(  # type: ignore[misc]
                hidden_states, router_logits, indices_type, input_ids=input_ids
            )
            return left
        bias = self.e_score_correction_bias if routing.biased else None  # type: ignore[attr-defined]
        weights, experts = select_experts(router_logits, bias, routing)
        return weights, experts if indices_type is None else experts.to(indices_type)


def routing_of(router: Any, groups: tuple[int, int], *, factor: bool) -> Routing:
    """Return what a router of vLLM computes, by its attributes, with (number of groups, number of kept ones)."""
    return Routing(
        top_k=router.top_k,
        scoring=router.scoring_func,
        renormalize=router.renormalize,
        factor=router.routed_scaling_factor if factor else 1.0,
        groups=groups[0],
        kept_groups=groups[1],
        biased=getattr(router, "e_score_correction_bias", None) is not None,
    )
