"""Phi-3's rotary embedding for long contexts."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from vllm.model_executor.layers.rotary_embedding.phi3_long_rope_scaled_rope import Phi3LongRoPEScaledRotaryEmbedding

from ascend_overlay.overlays.rotary.rotation import Rotated, note_left_to_vllm, rotate, takes


class AscendPhi3LongRoPEScaledRotaryEmbedding(
    Phi3LongRoPEScaledRotaryEmbedding  # type: ignore[misc, unused-ignore]
):
    """Phi-3's long rotary embedding: one cache with the angles for short and for long contexts."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        note_left_to_vllm(self, self.long_short_cos_sin_cache.dtype)

    def forward(
        self, positions: Tensor, query: Tensor, key: Tensor | None = None, offsets: Tensor | None = None
    ) -> Rotated:
        """Rotate at ``positions + offsets``; see rotation.py for shapes."""
        cache = self.long_short_cos_sin_cache
        if not takes(query.dtype, self.rotary_dim, self.head_size) or cache.dtype != query.dtype:
            left: Rotated = super().forward(positions, query, key, offsets)
            return left
        where = positions if offsets is None else positions + offsets
        if self.use_long_rope:
            where = where + self.original_max_position_embeddings
        return rotate(where, query, key, cache, head_size=self.head_size, neox=True)
