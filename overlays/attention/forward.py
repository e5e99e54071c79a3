"""Computing a layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from vllm.v1.attention.backend import AttentionImpl, AttentionType

from ascend_overlay import npu
from ascend_overlay.errors import OverlayError
from ascend_overlay.npu import captures
from ascend_overlay.npu.causal import causal_mask
from ascend_overlay.overlays.attention import capped, limits
from ascend_overlay.overlays.attention.cache import halves, in_tiles
from ascend_overlay.overlays.attention.fusion import Fusion
from ascend_overlay.overlays.attention.metadata import AscendMetadata

npu.load("npu_fused_infer_attention_score_v2.out", "npu_scatter_pa_kv_cache")

_CAUSAL, _BAND, _EVERYTHING = 3, 4, 0


class AscendAttentionImpl(AttentionImpl[AscendMetadata]):  # type: ignore[misc, unused-ignore]
    """Writes what is new to the cache, and attends to all that is there.

    Args:
        num_heads: heads of the queries on this rank.
        head_size: elements of a head.
        scale: factor of the scores.
        num_kv_heads: heads of keys and values on this rank.
        alibi_slopes: refused.
        sliding_window: how many tokens a token sees, itself included; None: all before it.
        kv_cache_dtype: refused where it is a quantized one.
        logits_soft_cap: bound of the scores; see capped.py.
        attn_type: refused where it is not that of a decoder.
        kv_sharing_target_layer_name: the layer whose cache is read; nothing is written then.
        sinks: (num_heads,): a score beside those of the keys.

    Raises:
        OverlayError: see above, and limits.py.
    """

    def __init__(
        self,
        num_heads: int,
        head_size: int,
        scale: float,
        num_kv_heads: int | None = None,
        alibi_slopes: list[float] | None = None,
        sliding_window: int | None = None,
        kv_cache_dtype: str = "auto",
        logits_soft_cap: float | None = None,
        attn_type: str = AttentionType.DECODER,
        kv_sharing_target_layer_name: str | None = None,
        sinks: Tensor | None = None,
    ) -> None:
        against = limits.layer(
            {
                "num_heads": num_heads,
                "num_kv_heads": num_kv_heads,
                "head_size": head_size,
                "alibi_slopes": alibi_slopes,
            }
        )
        if logits_soft_cap and sinks is not None:
            against.append("a soft cap of the scores beside sinks")
        if attn_type != AttentionType.DECODER:
            against.append(f"{attn_type} attention")
        if kv_cache_dtype not in ("auto", "float16", "bfloat16"):
            against.append(f"a KV cache of {kv_cache_dtype}")
        if against:
            raise OverlayError(
                f"the attention backend ASCEND cannot serve a layer with {', '.join(against)}: {limits.OPERATOR} has "
                f"nothing for it. Choose another backend with --attention-backend, or let vLLM choose."
            )
        self.num_heads = num_heads
        self.head_size = head_size
        self.scale = float(scale)
        self.num_kv_heads = num_kv_heads or num_heads
        self.sliding_window = sliding_window
        self.kv_cache_dtype = kv_cache_dtype
        self.kv_sharing_target_layer_name = kv_sharing_target_layer_name
        self.sinks = sinks
        self.soft_cap = logits_soft_cap
        if logits_soft_cap:
            capped.announce()
        self._cache: Tensor | None = None
        self._halves: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
        self.offered: Fusion | None = None
        self.fused: Fusion | None = None

    def forward(
        self,
        layer: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        kv_cache: Tensor,
        attn_metadata: AscendMetadata | None,
        output: Tensor,
        output_scale: Tensor | None = None,
        output_block_scale: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            layer: the layer of vLLM.
            query: (tokens or more, heads, head size); float16 or bfloat16.
            key: (tokens or more, KV heads, head size).
            value: as key.
            kv_cache: (blocks, KV heads, block size, 2 * head size); see cache.py.
            attn_metadata: the batch; None while vLLM measures or warms up, which gives zeros.
            output: (tokens or more, heads, head size); what is behind the tokens of the batch is left as it is.
            output_scale: refused, as is `output_block_scale`.
            output_block_scale: see `output_scale`.

        Returns:
            `output`.
        """
        if output_scale is not None or output_block_scale is not None:
            raise OverlayError(
                "the attention backend ASCEND does not quantize its output: switch vLLM's fusion of attention and "
                "quantization off (pass_config.fuse_attn_quant)."
            )
        if attn_metadata is None:
            captures.see_a_step(attn_metadata, layer)
            # What lies in the memory may be no number, and goes on through all layers that follow.
            return output.zero_()
        batch = attn_metadata
        keys, values, by_token, values_by_token = self._halves_of(kv_cache)
        if self.fused is not None:
            query = self.fused.write(query, key, value, batch, keys, values)
        elif self.kv_sharing_target_layer_name is None:
            torch.ops.npu.npu_scatter_pa_kv_cache(
                _rows(key, batch.tokens).contiguous(),
                _rows(value, batch.tokens).contiguous(),
                keys,
                values,
                batch.slots,
                cache_mode="Norm",
            )
        if self.soft_cap:
            rows, known = _rows(query, batch.tokens), {"scale": self.scale, "cap": self.soft_cap}
            result = capped.attend(rows, keys, values, batch, window=self.sliding_window, **known)
            _rows(output, batch.tokens).copy_(result)
            return output
        before, after, mode = self._band(batch.causal)
        with captures.recorded(layer):
            torch.ops.npu.npu_fused_infer_attention_score_v2.out(
                _rows(query, batch.tokens).contiguous(),
                by_token,
                values_by_token,
                atten_mask=None if mode == _EVERYTHING else causal_mask(query.device),
                actual_seq_qlen=batch.query_ends,
                actual_seq_kvlen=batch.lengths,
                block_table=batch.block_table,
                learnable_sink=self._sinks(),
                num_query_heads=self.num_heads,
                num_key_value_heads=self.num_kv_heads,
                softmax_scale=self.scale,
                pre_tokens=before,
                next_tokens=after,
                input_layout="TND",
                sparse_mode=mode,
                block_size=limits.BLOCK_SIZE,
                # The second result is not asked for.
                out=[_rows(output, batch.tokens), query.new_empty(0, dtype=torch.float32)],
            )
        return output

    def process_weights_after_loading(self, act_dtype: torch.dtype) -> None:
        """Decide whether norms, rotary embedding and cache write are one operator, before there is a cache."""
        super().process_weights_after_loading(act_dtype)
        self.fused = None if self.offered is None else self.offered.taken(self, act_dtype)

    def _halves_of(self, kv_cache: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return keys and values as they are written, and as they are read: without and with the heads of a token."""
        if self._halves is None or self._cache is not kv_cache:
            keys, values = halves(kv_cache)
            self._cache, self._halves = kv_cache, (keys, values, keys.flatten(2), values.flatten(2))
            if self.fused is not None:
                (keys, by_token), (values, values_by_token) = in_tiles(keys), in_tiles(values)
                self._halves = keys, values, by_token, values_by_token
        return self._halves

    def _band(self, causal: bool) -> tuple[int, int, int]:
        """Return pre_tokens, next_tokens and sparse_mode."""
        everything = 2**31 - 1
        if self.sliding_window is None:
            return everything, everything, _CAUSAL if causal else _EVERYTHING
        before = self.sliding_window - 1
        return before, 0 if causal else before, _BAND

    def _sinks(self) -> Tensor | None:
        # They may be loaded, and given their dtype, after the layer is built.
        return None if self.sinks is None else self.sinks.to(torch.bfloat16)


def _rows(x: Tensor, tokens: int) -> Tensor:
    """Return the first rows of `x`, without a call of PyTorch where these are all."""
    return x if x.shape[0] == tokens else x[:tokens]
