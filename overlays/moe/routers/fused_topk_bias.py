"""The router with a bias."""

from __future__ import annotations

from vllm.model_executor.layers.fused_moe.router.fused_topk_bias_router import FusedTopKBiasRouter

from ascend_overlay.npu.moe.routing import Routing
from ascend_overlay.overlays.moe.routers.common import AscendRouting, routing_of


class AscendFusedTopKBiasRouter(AscendRouting, FusedTopKBiasRouter):  # type: ignore[misc, unused-ignore]
    """Softmax or sigmoid, and the best experts by their score and a bias."""

    def _described(self) -> tuple[Routing | None, str | None]:
        if self._hash_indices_table is not None:
            return None, "a table of experts by token"
        # Since 0.30.
        if getattr(self, "bias_vl", None) is not None:
            return None, "a bias of its own for image tokens"
        if self.num_fused_shared_experts:
            return None, "shared experts among the routed ones"
        return routing_of(self, (1, 1), factor=True), None
