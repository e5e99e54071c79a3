"""RMSNorm through npu_rms_norm and npu_add_rms_norm."""

from __future__ import annotations

from ascend_overlay import Overlay
from ascend_overlay.conditions import distribution

_MODULE = "ascend_overlay.overlays.layers.normalization"

overlay = Overlay(
    "layernorm",
    vllm=">=0.32,<0.33",
    reason="vLLM has no NPU kernel for its RMSNorm operators; norms over a part of the row stay vLLM's",
    upstream=None,
    when=~distribution("vllm-ascend"),
)

# vLLM's RMSNorm and GemmaRMSNorm, and whatever is derived from them, call these two operators on every platform.
overlay.kernel("rms_norm", f"{_MODULE}:rms_norm", supports_args=f"{_MODULE}:takes_rms_norm")
overlay.kernel(
    "fused_add_rms_norm",
    f"{_MODULE}:fused_add_rms_norm",
    supports_args=f"{_MODULE}:takes_fused_add_rms_norm",
)
