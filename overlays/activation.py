"""SiluAndMul through npu_swiglu."""

from __future__ import annotations

from ascend_overlay import Overlay
from ascend_overlay.conditions import distribution

overlay = Overlay(
    "activation",
    vllm=">=0.32,<0.33",
    reason="vLLM has no NPU kernel for SwiGLU",
    upstream=None,
    when=~distribution("vllm-ascend"),
)

overlay.subclass(
    "vllm.model_executor.layers.activation:SiluAndMul",
    "ascend_overlay.overlays.layers.gating:AscendSiluAndMul",
)
