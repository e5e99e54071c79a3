"""The NPU operators that each tiny model has to call."""

from __future__ import annotations

_ROPE = ("npu_mrope",)
_NORMS = ("npu_rms_norm", "npu_add_rms_norm")
_GEMMA_NORMS = ("npu_gemma_rms_norm",)
_MLP = ("npu_swiglu",)
_GEMMA_MLP = ("npu_geglu",)

OPERATORS: dict[str, tuple[str, ...]] = {
    "llama3": (*_NORMS, *_ROPE, *_MLP),
    "qwen3": (*_NORMS, *_ROPE, *_MLP),
    "qwen3_moe": (*_NORMS, *_ROPE),
    "gemma2": (*_GEMMA_NORMS, *_ROPE, *_GEMMA_MLP),
    "gemma3": (*_GEMMA_NORMS, *_ROPE, *_GEMMA_MLP),
    "deepseek_v2": (*_NORMS, *_ROPE, *_MLP),
    "deepseek_v3": (*_NORMS, *_ROPE, *_MLP),
}
"""By family of ascend_overlay.demo.tiny: what fails to run is a layer that went by its overlay."""
