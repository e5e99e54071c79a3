"""Which models the backend serves, and its place in the CPU platform.

Nothing of vLLM is imported here: the platform is imported before most of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ascend_overlay
from ascend_overlay.errors import OverlayError

NAME = "ASCEND_MLA"
CACHE_WRITE = "ascend_mla_norm_rope_cache"
"""The operator of torch.ops.vllm that normalizes, rotates and writes; see wrapper.py."""
LATENT, ROPE = 512, 64
KEY, VALUE = LATENT + ROPE, LATENT
PROMPT_KEY, PROMPT_VALUES = 192, (128, 192)
"""Elements of a head that the operators take: of the latent cache, and of a prompt's keys and values."""
BLOCK_SIZES = (16, 128)
_THEIRS = ("CPU_MLA", "AMX_MLA")
_ATTENTION = "vllm::unified_mla_attention_with_output"
_DTYPES = ("torch.bfloat16", "torch.float16")
_MOST_HEADS = 128


def backend(wrapped: Callable[..., str], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Choose the backend of this overlay for multi-head latent attention that it serves; else do what vLLM does.

    Raises:
        OverlayError: the user asked for this backend, and it does not serve the layer.
    """
    return _choose(wrapped, *args, **kwargs)


def _choose(
    wrapped: Callable[..., str], selected_backend: Any, attn_selector_config: Any, num_heads: Any = None
) -> str:
    if attn_selector_config.use_mla:
        from vllm.config import get_current_vllm_config
        from vllm.v1.attention.backends.registry import AttentionBackendEnum

        reason = why_not(get_current_vllm_config(), selected_backend) or _why_not_this(attn_selector_config, num_heads)
        if reason is None:
            path: str = AttentionBackendEnum[NAME].get_path()
            return path
        if getattr(selected_backend, "name", None) == NAME:
            raise OverlayError(
                f"--attention-backend asks for {NAME}, which cannot serve this model: {reason}. Leave the option out, "
                f"and vLLM's own backend serves what this one cannot."
            )
        ascend_overlay.note("mla", f"multi-head latent attention stays vLLM's: {reason}")
    return wrapped(selected_backend, attn_selector_config, num_heads)


def keep_chunks_and_prefixes(
    wrapped: Callable[..., None], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Let chunked prefill and prefix caching be as asked for, for a model that the backend serves."""
    (config,) = (*args, *kwargs.values())
    scheduler, cache = config.scheduler_config, config.cache_config
    asked = scheduler.enable_chunked_prefill, cache.enable_prefix_caching, scheduler.max_num_batched_tokens
    wrapped(*args, **kwargs)
    if getattr(config.model_config, "use_mla", False) and why_not(config, config.attention_config.backend) is None:
        scheduler.enable_chunked_prefill, cache.enable_prefix_caching, scheduler.max_num_batched_tokens = asked


def split_at_the_cache_write(
    wrapped: Callable[..., None], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Keep the cache write out of the graphs that are captured, where vLLM keeps attention out of them.

    It writes what the step at hand says. While a graph is captured there is no step, so it would be captured doing
    nothing, and replayed so.
    """
    wrapped(*args, **kwargs)
    operators = instance.splitting_ops
    if _ATTENTION in operators and f"vllm::{CACHE_WRITE}" not in operators:
        operators.append(f"vllm::{CACHE_WRITE}")


def why_not(config: Any, selected: Any) -> str | None:
    """Return why a model of this configuration is left to vLLM; None if it is served.

    Args:
        config: vLLM's configuration.
        selected: the backend that the user asked for, or None.
    """
    if getattr(selected, "name", None) in _THEIRS:
        return f"the backend {selected.name} was asked for"
    parallel, cache, model = config.parallel_config, config.cache_config, config.model_config
    if parallel.decode_context_parallel_size > 1 or parallel.prefill_context_parallel_size > 1:
        return "context parallelism is not served"
    if config.kv_transfer_config is not None:
        return "what moves a KV cache by blocks would move parts of others: latents and rotated keys lie apart"
    if cache.user_specified_block_size and cache.block_size not in BLOCK_SIZES:
        return f"the block size is {cache.block_size}; npu_fused_infer_attention_score takes 16 and 128"
    if model is None:
        return None
    ranks = parallel.tensor_parallel_size
    return _why_not_model(model, ranks) or _why_not_dtype(model.dtype, cache.cache_dtype)


def _why_not_model(model: Any, ranks: int) -> str | None:
    # A model's configuration as tests and `ascend-overlay verify` stand it in has no more than they need.
    text = getattr(model, "hf_text_config", None)
    if getattr(model, "is_hybrid", False):
        return "the model is hybrid, and its KV cache is zeroed by blocks"
    if text is None:
        return None
    if hasattr(text, "index_topk"):
        return "sparse attention needs npu_lightning_indexer and npu_sparse_flash_attention"
    latent, rope = getattr(text, "kv_lora_rank", LATENT), getattr(text, "qk_rope_head_dim", ROPE)
    if (latent, rope) != (LATENT, ROPE):
        return f"the latent cache has {latent} + {rope} elements a token; the operators take {LATENT} + {ROPE}"
    plain, value = getattr(text, "qk_nope_head_dim", 0), getattr(text, "v_head_dim", 0)
    if plain + rope > PROMPT_KEY or value > max(PROMPT_VALUES):
        limit = f"npu_fused_infer_attention_score takes {PROMPT_KEY} and {max(PROMPT_VALUES)}"
        return f"a prompt's keys have {plain + rope} elements a head, its values {value}; {limit}"
    return _why_not_heads(getattr(text, "num_attention_heads", 0) // ranks)


def _why_not_this(config: Any, heads: int | None) -> str | None:
    """Return why a layer with this `AttentionSelectorConfig` is left to vLLM."""
    if config.use_sparse:
        return "sparse attention needs npu_lightning_indexer and npu_sparse_flash_attention"
    if config.has_sliding_window or config.use_non_causal or config.has_sink:
        return "sliding windows, sinks and attention to later tokens are not served"
    if config.head_size != KEY:
        return f"the latent cache has {config.head_size} elements a token; the operators take {KEY}"
    return _why_not_heads(heads or 0) or _why_not_dtype(config.dtype, config.kv_cache_dtype)


def _why_not_heads(heads: int) -> str | None:
    if heads > _MOST_HEADS:
        return f"a rank has {heads} heads; npu_fused_infer_attention_score takes {_MOST_HEADS}"
    return None


def _why_not_dtype(dtype: Any, cache: str | None) -> str | None:
    if str(dtype) not in _DTYPES:
        return f"npu_fused_infer_attention_score takes float16 and bfloat16, not {dtype}"
    if cache not in (None, "auto", str(dtype).removeprefix("torch.")):
        return f"the KV cache is {cache}; quantized caches are not served"
    return None
