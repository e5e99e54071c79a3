"""The NPU operators that each tiny model has to call."""

from __future__ import annotations

_ROPE = ("npu_mrope",)
_NORMS = ("npu_rms_norm", "npu_add_rms_norm")
_GEMMA_NORMS = ("npu_gemma_rms_norm",)
_MLP = ("npu_swiglu",)
_GEMMA_MLP = ("npu_geglu",)
_PAGED = ("npu_scatter_pa_kv_cache", "npu_fused_infer_attention_score_v2.out")
_LATENT = (
    "npu_interleave_rope",
    "npu_kv_rmsnorm_rope_cache",
    "npu_fused_infer_attention_score",
    "npu_gather_pa_kv_cache",
    "npu_attention_update",
)
_EXPERTS = ("npu_moe_init_routing_v2", "npu_grouped_matmul", "npu_moe_token_unpermute")
_SOFTMAX = "npu_moe_gating_top_k_softmax_v2"
_SIGMOID = "npu_moe_gating_top_k"

OPERATORS: dict[str, tuple[str, ...]] = {
    "llama3": (*_NORMS, *_ROPE, *_PAGED, *_MLP),
    "qwen3": (*_NORMS, *_ROPE, *_PAGED, *_MLP),
    "qwen3_moe": (*_NORMS, *_ROPE, *_PAGED, *_MLP, _SOFTMAX, *_EXPERTS),
    # No operator has the soft cap of its attention.
    "gemma2": (*_GEMMA_NORMS, *_ROPE, *_GEMMA_MLP),
    "gemma3": (*_GEMMA_NORMS, *_ROPE, *_PAGED, *_GEMMA_MLP),
    "deepseek_v2": (*_NORMS, *_MLP, *_LATENT, _SOFTMAX, *_EXPERTS),
    "deepseek_v3": (*_NORMS, *_MLP, *_LATENT, _SIGMOID, *_EXPERTS),
}
"""By family of ascend_overlay.commands.demo.tiny: what fails to run is a layer that went by its overlay."""


def operators(family: str, dtype: str) -> tuple[str, ...]:
    """Return what a model has to call in this dtype: attention stays vLLM's in float32, which no NPU takes."""
    if dtype != "float32":
        return OPERATORS[family]
    rope = _ROPE if family.startswith("deepseek") else ()
    return (*(name for name in OPERATORS[family] if name not in (*_PAGED, *_LATENT)), *rope)
