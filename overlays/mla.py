"""Multi-head latent attention: an attention backend on torch_npu's operators, and the layers around it."""

from __future__ import annotations

from ascend_overlay import Overlay
from ascend_overlay.conditions import distribution

_CPU = "vllm.platforms.cpu:CpuPlatform"
_MODULE = "ascend_overlay.overlays.layers.mla"

overlay = Overlay(
    "mla",
    vllm=">=0.32,<0.33",
    # Before, there is no npu_gather_pa_kv_cache.
    torch_npu=">=2.10",
    reason="vLLM has no backend for multi-head latent attention on NPU operators; sparse attention stays vLLM's",
    upstream=None,
    when=~distribution("vllm-ascend"),
)

# The backend is vLLM's seam, but which one is taken is the platform's to say; an NPU's says it of itself.
overlay.wrap(f"{_CPU}.get_attn_backend_cls", f"{_MODULE}.choice:backend")
overlay.wrap(
    f"{_CPU}.check_and_update_config",
    f"{_MODULE}.choice:keep_chunks_and_prefixes",
    reason="the CPU platform turns chunked prefill and prefix caching off where its own backend can do neither",
)
overlay.wrap(
    "vllm.v1.attention.selector:_cached_get_attn_backend",
    f"{_MODULE}.choice:ask_again",
    reason="vLLM remembers the choice for the process, also from before the overlay was enabled, or after it",
)
overlay.subclass(
    "vllm.model_executor.layers.attention.mla_attention:MLAAttention", f"{_MODULE}.layer:AscendMLAAttention"
)
overlay.subclass(
    "vllm.model_executor.layers.mla:MultiHeadLatentAttentionWrapper",
    f"{_MODULE}.wrapper:AscendMultiHeadLatentAttention",
)
