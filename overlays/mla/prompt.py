"""Attention of prompts: to their own tokens, and to what is cached of them from before.

Keys and values are made of the latents here, head by head, since that is less work than absorbing so many queries. The
new tokens come first; each chunk of cached tokens is attended to by itself, and npu_attention_update puts the parts
together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ascend_overlay import npu
from ascend_overlay.npu.causal import causal_mask
from ascend_overlay.overlays.mla.cache import Planes
from ascend_overlay.overlays.mla.choice import LATENT, PROMPT_KEY, PROMPT_VALUES, ROPE

npu.load("npu_fused_infer_attention_score", "npu_gather_pa_kv_cache", "npu_attention_update")

Part = tuple[Tensor, Tensor]
"""Attention to some of the keys, (tokens, heads, value elements), and its lse, (tokens, heads, 1)."""


def attend_prompts(
    impl: Any, q: Tensor, latents: Tensor, rotated: Tensor, cache: Planes, metadata: Any, output: Tensor
) -> None:
    """Write the attention of all prompts of a step to `output`.

    Args:
        impl: the layer's implementation, for its sizes and its projection of latents.
        q: queries (tokens, heads, key elements).
        latents: of the new tokens, (tokens, 512).
        rotated: keys of the new tokens, (tokens, 1, 64).
        cache: the planes of the layer's cache.
        metadata: of this step.
        output: (tokens, heads * value elements).
    """
    chunks = () if metadata.prefill.chunked_context is None else metadata.prefill.chunked_context.chunks
    queries = _padded(q, PROMPT_KEY)
    ends = metadata.prompt_ends
    out, lse = _attend(impl, queries, latents, rotated, ends, ends, causal=True, with_lse=bool(chunks))
    for chunk, (query_ends, key_ends) in zip(chunks, metadata.chunk_ends, strict=True):
        old_latents, old_rotated = _gathered(cache, metadata.prefill, chunk)
        tokens = chunk.token_slice
        part = _attend(impl, queries[tokens], old_latents, old_rotated, query_ends, key_ends, causal=False)
        out[tokens], lse[tokens] = _merged((out[tokens], lse[tokens]), part)
    output.view(-1, impl.num_heads, impl.v_head_dim).copy_(out[..., : impl.v_head_dim])


def _attend(
    impl: Any,
    queries: Tensor,
    latents: Tensor,
    rotated: Tensor,
    query_ends: list[int],
    key_ends: list[int],
    *,
    causal: bool,
    with_lse: bool = True,
) -> Part:
    keys, values = _keys_and_values(impl, latents, rotated)
    out: Part = torch.ops.npu.npu_fused_infer_attention_score(
        queries,
        keys,
        values,
        atten_mask=causal_mask(queries.device) if causal else None,
        actual_seq_lengths=query_ends,
        actual_seq_lengths_kv=key_ends,
        num_heads=impl.num_heads,
        num_key_value_heads=impl.num_heads,
        scale=impl.scale,
        input_layout="TND",
        sparse_mode=3 if causal else 0,
        softmax_lse_flag=with_lse,
    )
    return out


def _keys_and_values(impl: Any, latents: Tensor, rotated: Tensor) -> tuple[Tensor, Tensor]:
    """Return each head's keys and values, in the sizes that the operator takes.

    The operator would also take the rotated keys apart, but for every head, so that nothing would be saved.
    """
    plain, value = impl.qk_nope_head_dim, impl.v_head_dim
    both = impl.kv_b_proj(latents)[0].view(-1, impl.num_heads, plain + value)
    shape = (*both.shape[:2], PROMPT_KEY)
    keys = both.new_empty(shape) if plain + ROPE == PROMPT_KEY else both.new_zeros(shape)
    keys[..., :plain] = both[..., :plain]
    keys[..., plain : plain + ROPE] = rotated
    return keys, _padded(both[..., plain:], next(size for size in PROMPT_VALUES if size >= value))


def _padded(heads: Tensor, size: int) -> Tensor:
    missing = size - heads.shape[-1]
    return functional.pad(heads, (0, missing)) if missing else heads.contiguous()


def _gathered(cache: Planes, prefill: Any, chunk: Any) -> tuple[Tensor, Tensor]:
    """Return the latents (tokens, 512) and rotated keys (tokens, 1, 64) of a chunk, in vLLM's workspace for them."""
    tokens = chunk.num_context_tokens
    room = prefill.chunked_context.workspace.view(-1)
    latents = room[: tokens * LATENT].view(tokens, 1, LATENT)
    rotated = room[tokens * LATENT : tokens * (LATENT + ROPE)].view(tokens, 1, ROPE)
    torch.ops.npu.npu_gather_pa_kv_cache(
        cache[0],
        cache[1],
        prefill.block_table[chunk.request_slice].contiguous(),
        chunk.cu_seq_lens,
        latents,
        rotated,
        seq_offset=chunk.starts,
        is_seq_lens_cumsum=True,
    )
    return latents.squeeze(1), rotated


def _merged(one: Part, other: Part) -> Part:
    out, lse = torch.ops.npu.npu_attention_update(
        [one[1].flatten(), other[1].flatten()], [one[0].flatten(0, 1), other[0].flatten(0, 1)], 1
    )
    return out.view_as(one[0]), lse.view_as(one[1])
