"""What a layer of multi-head latent attention computes: the cache write, decoding, and prompts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from vllm.model_executor.layers.attention.attention import get_attention_context
from vllm.model_executor.layers.attention.mla_attention import MLACommonImpl

from ascend_overlay import npu
from ascend_overlay.errors import ConfigError, OverlayError
from ascend_overlay.npu import captures
from ascend_overlay.npu.causal import causal_mask
from ascend_overlay.overlays.mla.cache import Planes, planes
from ascend_overlay.overlays.mla.prompt import attend_prompts

npu.load("npu_fused_infer_attention_score", "npu_scatter_pa_kv_cache")


class AscendMLAImpl(MLACommonImpl):  # type: ignore[misc, type-arg, unused-ignore]
    """One layer's attention; vLLM's MLAAttention calls it with queries that are absorbed for decoding.

    Attributes:
        layer_name: of the MLAAttention, which says so (layer.py).
        cache_is_written: the layer around has normalized, rotated and written already (wrapper.py).
    """

    layer_name: str
    cache_is_written = False
    can_return_lse_for_decode = False

    def __init__(
        self,
        num_heads: int,
        head_size: int,
        scale: float,
        num_kv_heads: int,
        alibi_slopes: list[float] | None,
        sliding_window: int | None,
        kv_cache_dtype: str,
        logits_soft_cap: float | None,
        attn_type: str,
        kv_sharing_target_layer_name: str | None,
        **mla_args: Any,
    ) -> None:
        unserved = {
            "alibi_slopes": alibi_slopes,
            "sliding_window": sliding_window,
            "logits_soft_cap": logits_soft_cap,
            "attn_type": attn_type if attn_type != "decoder" else None,
        }
        for name, value in unserved.items():
            if value is not None:
                raise ConfigError(
                    f"the overlay 'mla' has no attention with {name}={value!r}. Leave it out with "
                    f"ASCEND_OVERLAY=-mla, and vLLM's own backend serves the model."
                )
        super().__init__(
            num_heads,
            head_size,
            scale,
            num_kv_heads,
            alibi_slopes,
            sliding_window,
            kv_cache_dtype,
            logits_soft_cap,
            attn_type,
            kv_sharing_target_layer_name,
            **mla_args,
        )
        self.supports_quant_query_input = False
        # The operator takes powers of two; the heads that are added are zeros, and their results are dropped.
        self._heads = 1 << (num_heads - 1).bit_length()
        self._cache: Tensor | None = None
        self._planes: Planes
        self._handed: tuple[Any, Tensor] | None = None

    def planes(self, cache: Tensor) -> Planes:
        """Return the latents and the rotated keys of the layer's cache; see cache.py."""
        if self._cache is not cache:
            self._cache, self._planes = cache, planes(cache)
        return self._planes

    def hand_over(self, metadata: Any, rotated: Tensor | None) -> None:
        """Take the rotated queries of a step, (tokens, heads, 64), in place of those that forward_mqa will be given.

        Args:
            metadata: of the step.
            rotated: None: what is given is rotated already.
        """
        self._handed = None if rotated is None else (metadata, rotated)

    def do_kv_cache_update(
        self,
        kv_c_normed: Tensor,
        k_pe: Tensor,
        kv_cache: Tensor,
        slot_mapping: Tensor,
        kv_cache_dtype: str,
        k_scale: Tensor,
        skip_scale: bool = False,
    ) -> None:
        """Write latents and rotated keys of a step to their slots, where they are not there yet.

        The cache has the type of the model, so that there is no scale, and none to be skipped (vLLM 0.33 says which).
        """
        if self.cache_is_written or kv_cache.numel() == 0:
            return
        # The seam that all releases have is this method, which is not told of the step.
        step = get_attention_context(self.layer_name)[0]
        if step is None:
            return
        # Rows behind these are padding, without slots.
        tokens = step.num_actual_tokens
        self.write(kv_c_normed[:tokens], k_pe[:tokens], kv_cache, slot_mapping.flatten()[:tokens])

    def write(self, latents: Tensor, keys: Tensor, cache: Tensor, slots: Tensor) -> None:
        """Write latents (tokens, 512) and rotated keys (tokens, 1, 64) to slots (tokens,) of a cache."""
        cached_latents, cached_keys = self.planes(cache)
        torch.ops.npu.npu_scatter_pa_kv_cache.default(
            latents.unsqueeze(1).contiguous(), keys.contiguous(), cached_latents, cached_keys, slots, cache_mode="Norm"
        )

    def forward_mqa(
        self,
        q: Tensor | tuple[Tensor, Tensor],
        kv_c_and_k_pe_cache: Tensor,
        attn_metadata: Any,
        layer: Any,
    ) -> tuple[Tensor, None]:
        """Attend to the latents of decoded sequences.

        Args:
            q: absorbed queries (tokens, heads, 512) and rotated ones (tokens, heads, 64), or both in one tensor. Those
                that were handed over take the place of the rotated ones.
            kv_c_and_k_pe_cache: (blocks, block_size, 576).
            attn_metadata: of this step.
            layer: vLLM's layer.

        Returns:
            Weighted latents, (tokens, heads, 512), with the memory of (heads, tokens, 512), as the projection behind
            takes it.

        Raises:
            OverlayError: rotated queries were handed over for another step.
        """
        sizes = self.kv_lora_rank, self.qk_rope_head_dim
        absorbed, rotated = q if isinstance(q, tuple) else q.split_with_sizes(sizes, dim=-1)
        if self._handed is not None:
            (step, handed), self._handed = self._handed, None
            if step is not attn_metadata or handed.shape != rotated.shape:
                raise OverlayError(
                    f"the rotated queries that were made for the attention of {layer.layer_name!r}, "
                    f"{tuple(handed.shape)}, are not those of the step that it computes, {tuple(rotated.shape)}: "
                    f"something between the two is not known to the overlay 'mla'. Leave it out with "
                    f"ASCEND_OVERLAY=-mla, and please report the model and its configuration."
                )
            rotated = handed
        latents, keys = self.planes(kv_c_and_k_pe_cache)
        blocks, size = latents.shape[:2]
        decode = attn_metadata.decode
        rows = latents.view(blocks, size, -1)
        with captures.recorded(layer):
            out, _ = torch.ops.npu.npu_fused_infer_attention_score.default(
                self._padded(absorbed),
                rows,
                rows,
                query_rope=self._padded(rotated),
                key_rope=keys.view(blocks, size, -1),
                atten_mask=causal_mask(rows.device) if decode.several else None,
                actual_seq_lengths=decode.query_ends,
                actual_seq_lengths_kv=decode.kv_lens,
                block_table=decode.block_table.contiguous(),
                num_heads=self._heads,
                num_key_value_heads=1,
                scale=self.scale,
                input_layout="TND_NTD",
                sparse_mode=3 if decode.several else 0,
                block_size=size,
            )
        return out[: self.num_heads].transpose(0, 1), None

    def forward_mha(
        self,
        q: Tensor,
        kv_c_normed: Tensor,
        k_pe: Tensor,
        kv_c_and_k_pe_cache: Tensor,
        attn_metadata: Any,
        k_scale: Tensor,
        output: Tensor,
        output_scale: Tensor | None = None,
    ) -> None:
        """Attend to new prompts and to what is cached of them; see prompt.py."""
        attend_prompts(self, q, kv_c_normed, k_pe, self.planes(kv_c_and_k_pe_cache), attn_metadata, output)

    def _padded(self, heads: Tensor) -> Tensor:
        missing = self._heads - self.num_heads
        return functional.pad(heads, (0, 0, 0, missing)) if missing else heads.contiguous()
