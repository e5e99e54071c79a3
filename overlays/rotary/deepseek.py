"""DeepSeek's rotary embedding."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from vllm.model_executor.layers.rotary_embedding.deepseek_scaling_rope import DeepseekScalingRotaryEmbedding

from ascend_overlay.overlays.rotary.rotation import Rotated, note_left_to_vllm, rotate, takes


class AscendDeepseekScalingRotaryEmbedding(DeepseekScalingRotaryEmbedding):  # type: ignore[misc, unused-ignore]
    """DeepSeek's YaRN embedding; its pairs are neighbours and stay so."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        note_left_to_vllm(self, self.dtype)

    def forward_native(
        self, positions: Tensor, query: Tensor, key: Tensor | None = None, offsets: Tensor | None = None
    ) -> Rotated:
        """Rotate at ``positions + offsets``; see rotation.py for shapes."""
        if not takes(query.dtype, self.rotary_dim, self.head_size):
            left: Rotated = super().forward_native(positions, query, key, offsets)
            return left
        cache = self._match_cos_sin_cache_dtype(query)
        where = positions if offsets is None else positions + offsets
        return rotate(where, query, key, cache, head_size=self.head_size, neox=self.is_neox_style)

    def forward_cpu(
        self, positions: Tensor, query: Tensor, key: Tensor | None = None, offsets: Tensor | None = None
    ) -> Rotated:
        """Rotate at ``positions + offsets``; see rotation.py for shapes."""
        return self.forward_native(positions, query, key, offsets)

    def forward_oot(
        self, positions: Tensor, query: Tensor, key: Tensor | None = None, offsets: Tensor | None = None
    ) -> Rotated:
        """Rotate at ``positions + offsets``; see rotation.py for shapes."""
        return self.forward_native(positions, query, key, offsets)
