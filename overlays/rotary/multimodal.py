"""The rotary embedding of positions in time, height and width."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from vllm.model_executor.layers.rotary_embedding.mrope import MRotaryEmbedding

from ascend_overlay.npu.reference.rotary import MROPE_SECTIONS
from ascend_overlay.overlays.rotary.rotation import (
    ONE_AXIS,
    Rotated,
    by_mrope,
    note_left_to_vllm,
    rotate,
    takes,
)


class AscendMRotaryEmbedding(MRotaryEmbedding):  # type: ignore[misc, unused-ignore]
    """MRotaryEmbedding by npu_mrope: angles from positions in time, height and width.

    npu_mrope takes few sections, and alternating ones only with equal parts for height and width; see
    `forward_native`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        note_left_to_vllm(self, self.dtype)

    def _takes_section(self) -> bool:
        section = tuple(self.mrope_section or ())
        return section in MROPE_SECTIONS and (not self.mrope_interleaved or section[1] == section[2])

    def forward_native(
        self, positions: Tensor, query: Tensor, key: Tensor | None = None, offsets: Tensor | None = None
    ) -> Rotated:
        """Rotate; see rotation.py for shapes. Like vLLM's, it does not use `offsets`."""
        axes = positions.dim() == 2
        shape = (query.dtype, self.rotary_dim, self.head_size)
        if not takes(*shape) or (axes and not (by_mrope(*shape) and self._takes_section())):
            # vLLM mixes the angles of the axes, and turns the heads with its ApplyRotaryEmb, on npu_rotary_mul.
            mixed: Rotated = super().forward_native(positions, query, key, offsets)
            return mixed
        return rotate(
            positions,
            query,
            key,
            self._match_cos_sin_cache_dtype(query),
            head_size=self.head_size,
            neox=self.is_neox_style,
            section=list(self.mrope_section) if axes else ONE_AXIS,
            cache_mode="interleave" if axes and self.mrope_interleaved else "default",
        )

    def forward_cpu(
        self, positions: Tensor, query: Tensor, key: Tensor | None = None, offsets: Tensor | None = None
    ) -> Rotated:
        """Rotate; see rotation.py for shapes."""
        return self.forward_native(positions, query, key, offsets)

    def forward_oot(
        self, positions: Tensor, query: Tensor, key: Tensor | None = None, offsets: Tensor | None = None
    ) -> Rotated:
        """Rotate; see rotation.py for shapes."""
        return self.forward_native(positions, query, key, offsets)
