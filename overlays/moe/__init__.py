"""Mixtures of experts through npu_moe_gating_top_k, npu_moe_init_routing_v2, npu_grouped_matmul and their like."""

from __future__ import annotations

from ascend_overlay import Overlay
from ascend_overlay.conditions import platform_plugin

_VLLM = "vllm.model_executor.layers.fused_moe"
_MODULE = __name__

overlay = Overlay(
    "moe",
    vllm=">=0.27.1,<0.34",
    torch_npu=">=2.10",
    reason="vLLM has no NPU kernels for choosing and running experts, and no seam for its routers but their classes",
    upstream=None,
    when=~platform_plugin("vllm-ascend"),
)

# vLLM builds this method for every unquantized layer of experts; its registry of layers takes a substitute.
overlay.subclass(
    f"{_VLLM}.unquantized_fused_moe_method:UnquantizedFusedMoEMethod",
    f"{_MODULE}.method:AscendUnquantizedFusedMoEMethod",
)
# Which router vLLM builds depends on the platform: on a CPU always the first, elsewhere, and before 0.30, one of the
# others.
overlay.subclass(f"{_VLLM}.router.cpu_router:CPURouter", f"{_MODULE}.routers.cpu:AscendCPURouter", vllm=">=0.30")
overlay.subclass(
    f"{_VLLM}.router.fused_topk_router:FusedTopKRouter", f"{_MODULE}.routers.fused_topk:AscendFusedTopKRouter"
)
overlay.subclass(
    f"{_VLLM}.router.fused_topk_bias_router:FusedTopKBiasRouter",
    f"{_MODULE}.routers.fused_topk_bias:AscendFusedTopKBiasRouter",
)
overlay.subclass(
    f"{_VLLM}.router.grouped_topk_router:GroupedTopKRouter", f"{_MODULE}.routers.grouped_topk:AscendGroupedTopKRouter"
)
# What is none of these is vLLM's, and the ledger says so.
overlay.wrap(
    f"{_VLLM}.router.router_factory:create_fused_moe_router",
    f"{_MODULE}.routers.left:note_left",
    reason="vLLM has no seam where it says which router it made",
)
