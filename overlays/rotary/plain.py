"""RotaryEmbedding, and what is derived from it with other angles."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from vllm.model_executor.layers.rotary_embedding.base import RotaryEmbedding

from ascend_overlay.overlays.rotary.rotation import Rotated, note_left_to_vllm, rotate, takes


class AscendRotaryEmbedding(RotaryEmbedding):  # type: ignore[misc, unused-ignore]
    """RotaryEmbedding, for either pairing of elements and for partial rotation; see rotation.py."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        note_left_to_vllm(self, self.dtype)

    def forward_native(self, positions: Tensor, query: Tensor, key: Tensor | None = None) -> Rotated:
        """Rotate; see rotation.py for shapes."""
        if (rotated := self._rotated(positions, query, key)) is not None:
            return rotated
        left: Rotated = super().forward_native(positions, query, key)
        return left

    def forward_cpu(self, positions: Tensor, query: Tensor, key: Tensor | None = None) -> Rotated:
        """Rotate; see rotation.py for shapes."""
        if (rotated := self._rotated(positions, query, key)) is not None:
            return rotated
        left: Rotated = super().forward_cpu(positions, query, key)
        return left

    def forward_oot(self, positions: Tensor, query: Tensor, key: Tensor | None = None) -> Rotated:
        """Rotate; see rotation.py for shapes."""
        return self.forward_native(positions, query, key)

    def _rotated(self, positions: Tensor, query: Tensor, key: Tensor | None) -> Rotated | None:
        """Rotate; None where no operator does."""
        if not takes(query.dtype, self.rotary_dim, self.head_size):
            return None
        cache = self._match_cos_sin_cache_dtype(query)
        return rotate(positions, query, key, cache, head_size=self.head_size, neox=self.is_neox_style)
