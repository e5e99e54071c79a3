"""vLLM's layer around multi-head latent attention: norm, rotation and cache write in one operator.

npu_kv_rmsnorm_rope_cache sorts each key's pairs into halves when it rotates them, and npu_interleave_rope does the same
to the queries, so their products are those of vLLM's rotation, which leaves the pairs in place.
"""

from __future__ import annotations

import typing
from typing import Any

import torch
from torch import Tensor
from vllm.compilation.breakable_cudagraph import eager_break_during_capture
from vllm.model_executor.layers.attention.attention import get_attention_context
from vllm.model_executor.layers.mla import MultiHeadLatentAttentionWrapper
from vllm.utils.torch_utils import (
    LayerNameType,
    _encode_layer_name,
    _resolve_layer_name,
    direct_register_custom_op,
)

import ascend_overlay
from ascend_overlay import npu
from ascend_overlay.npu import captures
from ascend_overlay.overlays.mla.choice import CACHE_WRITE, LATENT, ROPE

npu.load("npu_interleave_rope", "npu_kv_rmsnorm_rope_cache")


class AscendMultiHeadLatentAttention(MultiHeadLatentAttentionWrapper):  # type: ignore[misc, unused-ignore]
    """The layer with its projections; where it cannot fuse, it is vLLM's own, and the ledger says why."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        reason = self._why_not_fused() if getattr(self.mla_attn, "is_ascend", False) else ""
        self.is_fused = reason is None
        if reason is None:
            self.mla_attn.impl.cache_is_written = True
            _double_angles(self.rotary_emb, self.kv_a_layernorm.weight.dtype)
        elif reason:
            text = f"norm, rotary embedding and cache write are operators of their own: {reason}"
            ascend_overlay.note("mla", text)

    @property
    def reads_input(self) -> tuple[str, ...] | None:
        """Who reads the hidden states, and nobody else does; None where vLLM's forward does. `quantization` asks."""
        if not self.is_fused:
            return None
        return ("q_proj", "kv_a_proj_with_mqa") if self.q_lora_rank is None else ("fused_qkv_a_proj",)

    def _why_not_fused(self) -> str | None:
        from vllm.model_executor.layers.layernorm import RMSNorm
        from vllm.model_executor.layers.rotary_embedding.base import RotaryEmbedding
        from vllm.model_executor.layers.rotary_embedding.deepseek_scaling_rope import DeepseekScalingRotaryEmbedding

        rope, norm = self.rotary_emb, self.kv_a_layernorm
        if not isinstance(rope, (RotaryEmbedding, DeepseekScalingRotaryEmbedding)):
            return f"the rotary embedding is {type(rope).__name__}"
        if rope.is_neox_style or rope.rotary_dim != ROPE or rope.head_size != ROPE or self.kv_lora_rank != LATENT:
            return f"npu_kv_rmsnorm_rope_cache rotates all of {ROPE} elements, in pairs of neighbours, beside {LATENT}"
        if not isinstance(norm, RMSNorm) or norm.variance_size_override is not None or not norm.has_weight:
            return f"the norm is {type(norm).__name__} over a part of the latent, or without a weight"
        if norm.weight.dtype not in (torch.float16, torch.bfloat16):
            return f"the weight of the norm is {norm.weight.dtype}"
        # vLLM fuses the norms since 0.30.
        norms_fused = getattr(self, "fuse_qkv_rmsnorm", False)
        if self.g_proj is not None or self.dcp_q_replicate or norms_fused or self.indexer is not None:
            return "the layer has a gate, replicated queries, a fused norm or an indexer"
        return None

    def forward(self, positions: Tensor, hidden_states: Tensor, llama_4_scaling: Tensor | None = None) -> Tensor:
        """Return the layer's output.

        Args:
            positions: (tokens,).
            hidden_states: (tokens, hidden).
            llama_4_scaling: a factor of the queries, or None.
        """
        if not self.is_fused:
            return super().forward(positions, hidden_states, llama_4_scaling)  # type: ignore[no-any-return]
        q, kv = self._projected(hidden_states)
        norm, rope, name = self.kv_a_layernorm, self.rotary_emb, _encode_layer_name(self.mla_attn.layer_name)
        # Made here, in the piece of the graph before the operator: the piece behind it reads the same memory each time.
        latents, keys = _places(kv)
        tables = positions, rope.cosines, rope.sines
        may_hand_over = llama_4_scaling is None
        getattr(torch.ops.vllm, CACHE_WRITE)(
            q, kv, norm.weight, *tables, norm.variance_epsilon, name, latents, keys, may_hand_over
        )
        if llama_4_scaling is not None:
            q *= llama_4_scaling
        shape = (q.shape[0], self.num_heads * self.v_head_dim)
        attended = self.mla_attn(q, latents, keys, output_shape=shape)
        return self.o_proj(attended)[0]  # type: ignore[no-any-return]

    def _projected(self, hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries (tokens, heads, elements), and latents with keys as projected, (tokens, 576)."""
        if self.q_lora_rank is None:
            q, kv = self.q_proj(hidden_states)[0], self.kv_a_proj_with_mqa(hidden_states)[0]
        else:
            compressed, kv = self.fused_qkv_a_proj(hidden_states)[0].split((self.q_lora_rank, LATENT + ROPE), dim=-1)
            q = self.q_b_proj(self.q_a_layernorm(compressed))[0]
        return q.view(-1, self.num_heads, self.qk_head_dim), kv


def _double_angles(rope: Any, dtype: torch.dtype) -> None:
    """Give `rope`, which all layers share, its angles as the operators take them: (positions, 64), each twice."""
    if not hasattr(rope, "cosines"):
        cos, sin = (half.repeat(1, 2).to(dtype) for half in rope.cos_sin_cache.chunk(2, dim=-1))
        rope.register_buffer("cosines", cos, persistent=False)
        rope.register_buffer("sines", sin, persistent=False)


# Opaque to torch.compile for two reasons: the cache belongs to the step, not to the graph; and one of the operators
# inside writes to arguments of which its schema does not say so. The queries are rotated in here because the angles
# belong to the step, too.
def norm_rope_cache(
    q: Tensor,
    kv: Tensor,
    gamma: Tensor,
    positions: Tensor,
    cosines: Tensor,
    sines: Tensor,
    epsilon: float,
    layer_name: LayerNameType,
    latents: Tensor,
    keys: Tensor,
    may_hand_over: bool,
) -> None:
    """Rotate queries and keys, normalize latents, and write keys and latents to the cache of the layer.

    vLLM splits its graphs at this operator (choice.py). A captured piece behind it reads the addresses that it was
    captured with, so what the operator makes goes to tensors that are given, and nothing is returned.

    Where all tokens are decoded, nobody reads latents and keys but from the cache, and the rotated queries go to the
    implementation as they are: `q`, `latents` and `keys` are left alone then, which saves four copies.

    Args:
        q: (tokens, heads, elements). The last 64 elements are rotated in place; those of padding become zeros.
        kv: (tokens, 576).
        gamma: (512,).
        positions: (tokens,).
        cosines: of all positions, (positions, 64).
        sines: likewise.
        epsilon: of the norm.
        layer_name: of the MLAAttention whose cache it is.
        latents: for the normalized latents, (tokens, 512). Rows of padding become zeros.
        keys: for the rotated keys, (tokens, 1, 64). Likewise.
        may_hand_over: nothing happens to the queries between here and the attention.
    """
    metadata, layer, cache, slots = get_attention_context(_resolve_layer_name(layer_name))
    captures.see_a_step(metadata, layer)
    turned = q[..., -ROPE:]
    if metadata is None or slots is None or cache.numel() == 0:
        # Nothing is computed while vLLM measures its memory.
        for rows in (turned, latents, keys):
            rows.zero_()
        return
    tokens, padded = metadata.num_actual_tokens, len(kv)
    if tokens < padded:
        for rows in (turned, latents, keys):
            rows[tokens:].zero_()
    cos, sin = metadata.angles(positions, cosines, sines)
    # Queries with strides, as CANN's documentation of aclnnInterleaveRope has it.
    rotated = torch.ops.npu.npu_interleave_rope.default(turned[:tokens].unsqueeze(2), cos, sin).squeeze(2)
    decoding = may_hand_over and metadata.prefill is None
    layer.impl.hand_over(metadata, rotated if decoding else None)
    latent_cache, key_cache = layer.impl.planes(cache)
    *_, made_keys, made_latents = torch.ops.npu.npu_kv_rmsnorm_rope_cache.default(
        kv[:tokens].view(tokens, 1, 1, LATENT + ROPE),
        gamma,
        cos,
        sin,
        metadata.places(slots),
        key_cache,
        latent_cache,
        epsilon=epsilon,
        cache_mode="PA",
        is_output_kv=not decoding,
    )
    if decoding:
        return
    turned[:tokens].copy_(rotated)
    latents[:tokens].copy_(made_latents.view(tokens, LATENT))
    keys[:tokens].copy_(made_keys.view(tokens, 1, ROPE))


def _fake(*arguments: Any) -> None:
    """Make nothing: what is written to was given."""


def _places(kv: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the operator writes to: for latents and keys."""
    return kv.new_empty(kv.shape[0], LATENT), kv.new_empty(kv.shape[0], 1, ROPE)


# vLLM reads the schema off the annotations themselves. The module may be imported anew, its operator stays.
norm_rope_cache.__annotations__ = typing.get_type_hints(norm_rope_cache) | {"return": None}
if not hasattr(torch.ops.vllm, CACHE_WRITE):
    # Where graphs are captured without a compiler, no operator splits them: what must not be captured is marked.
    marked = eager_break_during_capture(norm_rope_cache)
    direct_register_custom_op(CACHE_WRITE, marked, mutates_args=["q", "latents", "keys"], fake_impl=_fake)
