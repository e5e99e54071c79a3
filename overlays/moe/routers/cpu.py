"""The router of the CPU platform."""

from __future__ import annotations

from typing import Any

from vllm.model_executor.layers.fused_moe.router.cpu_router import CPURouter

from ascend_overlay.npu.moe.routing import Routing
from ascend_overlay.overlays.moe.routers.common import AscendRouting, routing_of


class AscendCPURouter(AscendRouting, CPURouter):  # type: ignore[misc, unused-ignore]
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
        return routing_of(self, groups, factor=self.use_grouped_topk or self.e_score_correction_bias is not None), None


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
