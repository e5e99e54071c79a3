"""The router with groups."""

from __future__ import annotations

from vllm.model_executor.layers.fused_moe.router.grouped_topk_router import GroupedTopKRouter

from ascend_overlay.npu.moe.routing import Routing
from ascend_overlay.overlays.moe.routers.common import AscendRouting, routing_of


class AscendGroupedTopKRouter(AscendRouting, GroupedTopKRouter):  # type: ignore[misc, unused-ignore]
    """Softmax or sigmoid, and the best experts of the best groups."""

    def _described(self) -> tuple[Routing | None, str | None]:
        if self.num_fused_shared_experts:
            return None, "shared experts among the routed ones"
        # Since 0.31.
        if getattr(self, "skip_padding", False):
            return None, "padded tokens that are skipped"
        return routing_of(self, (self.num_expert_group, self.topk_group), factor=True), None
