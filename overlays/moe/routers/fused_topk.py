"""The router without bias and groups."""

from __future__ import annotations

from vllm.model_executor.layers.fused_moe.router.fused_topk_router import FusedTopKRouter

from ascend_overlay.npu.moe.routing import Routing
from ascend_overlay.overlays.moe.routers.common import AscendRouting, routing_of


class AscendFusedTopKRouter(AscendRouting, FusedTopKRouter):  # type: ignore[misc, unused-ignore]
    """Softmax or sigmoid, and the best experts."""

    def _described(self) -> tuple[Routing | None, str | None]:
        return routing_of(self, (1, 1), factor=False), None
