"""Attention over a paged KV cache through npu_fused_infer_attention_score_v2 and npu_scatter_pa_kv_cache.

Every state of a batch (prompts, parts of prompts, single tokens, all of them mixed) is one call: what is new is written
to the cache first, and the queries of all requests read everything from there.
"""

from __future__ import annotations

from ascend_overlay import Overlay, settings
from ascend_overlay.conditions import platform_plugin, predicate

_MODULE = __name__

overlay = Overlay(
    "attention",
    vllm=">=0.27.1,<0.34",
    # Older ones have no cache_mode for npu_scatter_pa_kv_cache.
    torch_npu=">=2.10",
    reason="vLLM has no attention backend for an NPU",
    upstream=None,
    when=~platform_plugin("vllm-ascend"),
)

# A KV cache had a shape before it had a layout.
overlay.attention_backend("ASCEND", f"{_MODULE}.shapes:AscendAttentionBackend", vllm="<0.29")
overlay.attention_backend("ASCEND", f"{_MODULE}.layouts:AscendAttentionBackend", vllm=">=0.29")
# A platform for the NPU chooses the backend by its name. vLLM's platform for CPUs knows its own backends only.
overlay.wrap(
    "vllm.platforms.cpu:CpuPlatform.get_attn_backend_cls",
    f"{_MODULE}.choice:get_attn_backend_cls",
    reason="vLLM's platform for CPUs has no seam for another attention backend",
)
overlay.wrap(
    "vllm.model_executor.layers.attention.attention:Attention.__init__",
    f"{_MODULE}.choice:attention",
    reason="vLLM does not tell whoever chooses a backend of soft caps, ALiBi slopes and sizes of values",
)
for _name in ("qwen3:Qwen3Attention", "qwen3_moe:Qwen3MoeAttention"):
    overlay.subclass(
        f"vllm.model_executor.models.{_name}",
        f"{_MODULE}.{_name.replace(':', ':Ascend')}",
        when=predicate(lambda: settings.current().fused_qkv, "the setting fused_qkv asks for it"),
        reason="vLLM computes norms, rotary embedding and cache write one by one, torch_npu has one operator for them",
    )
