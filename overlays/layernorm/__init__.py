"""RMSNorm and its variants through npu_rms_norm, npu_add_rms_norm and npu_gemma_rms_norm."""

from __future__ import annotations

from ascend_overlay import Overlay
from ascend_overlay.conditions import platform_plugin

_VLLM = "vllm.model_executor.layers.layernorm"
_MODULE = f"{__name__}.normalization"

overlay = Overlay(
    "layernorm",
    vllm=">=0.27.1,<0.34",
    reason="vLLM has no NPU kernels for its RMSNorm layers; norms over a part of the row stay vLLM's",
    upstream=None,
    when=~platform_plugin("vllm-ascend"),
)

# vLLM's RMSNorm, and whatever is derived from it, calls these two operators on every platform.
overlay.kernel("rms_norm", f"{_MODULE}:rms_norm", supports_args=f"{_MODULE}:takes_rms_norm")
overlay.kernel(
    "fused_add_rms_norm",
    f"{_MODULE}:fused_add_rms_norm",
    supports_args=f"{_MODULE}:takes_fused_add_rms_norm",
)
# GemmaRMSNorm calls them, too, but torch_npu has an operator of its own for it. RMSNormGated does not.
overlay.subclass(f"{_VLLM}:GemmaRMSNorm", f"{__name__}.gemma_norm:AscendGemmaRMSNorm")
overlay.subclass(f"{_VLLM}:RMSNormGated", f"{__name__}.gated_norm:AscendRMSNormGated")
