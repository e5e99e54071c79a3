"""Multi-head latent attention: an attention backend on torch_npu's operators, and the layers around it.

choice.py says which models are served, and patches the CPU platform's choice. backend.py has the backend: a token of
decode goes through npu_fused_infer_attention_score over the paged latent cache (impl.py), a prompt through the same
operator over keys and values that are made of the latents (prompt.py), in pieces that npu_attention_update puts
together where a part of the prompt is cached. cache.py lays the cache out. layer.py and wrapper.py are the layers of
vLLM around it: the absorbed output projection, and norm, rotation and cache write in one operator.
"""

from __future__ import annotations

from ascend_overlay import Overlay
from ascend_overlay.conditions import platform_plugin

_CPU = "vllm.platforms.cpu:CpuPlatform"
_MODULE = __name__

overlay = Overlay(
    "mla",
    # 0.28's attention of this kind asks for a backend of prompts on NVIDIA's cards, which cannot be imported elsewhere;
    # 0.27.1 has none of this kind for CPUs.
    vllm=">=0.29,<0.34",
    # Before, there is no npu_gather_pa_kv_cache.
    torch_npu=">=2.10",
    reason="vLLM has no backend for multi-head latent attention on NPU operators; sparse attention stays vLLM's",
    upstream=None,
    when=~platform_plugin("vllm-ascend"),
)

overlay.attention_backend("ASCEND_MLA", f"{_MODULE}.backend:AscendMLABackend")
# A platform for the NPU chooses the backend by its name. vLLM's platform for CPUs knows its own backends only.
overlay.wrap(
    f"{_CPU}.get_attn_backend_cls",
    f"{_MODULE}.choice:backend",
    reason="vLLM's platform for CPUs has no seam for another attention backend",
)
overlay.wrap(
    f"{_CPU}.check_and_update_config",
    f"{_MODULE}.choice:keep_chunks_and_prefixes",
    reason="the CPU platform turns chunked prefill and prefix caching off where its own backend can do neither",
)
overlay.wrap(
    "vllm.config.compilation:CompilationConfig.set_splitting_ops_for_v1",
    f"{_MODULE}.choice:split_at_the_cache_write",
    reason="vLLM takes the operators at which it splits a graph from a list of its own, with no seam for another one",
)
overlay.subclass(
    "vllm.model_executor.layers.attention.mla_attention:MLAAttention", f"{_MODULE}.layer:AscendMLAAttention"
)
overlay.subclass(
    "vllm.model_executor.layers.mla:MultiHeadLatentAttentionWrapper",
    f"{_MODULE}.wrapper:AscendMultiHeadLatentAttention",
)
