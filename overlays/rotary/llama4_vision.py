"""The rotary embedding of Llama-4's image patches."""

from __future__ import annotations

import torch
from torch import Tensor
from vllm.model_executor.layers.rotary_embedding.llama4_vision_rope import Llama4VisionRotaryEmbedding

from ascend_overlay.overlays.rotary.rotation import Rotated
from ascend_overlay.overlays.rotary.turning import note_refusal, refusal, turn


class AscendLlama4VisionRotaryEmbedding(Llama4VisionRotaryEmbedding):  # type: ignore[misc, unused-ignore]
    """The angles of a patch's row and column by npu_rotary_mul; vLLM multiplies complex numbers."""

    def forward_native(self, query: Tensor, key: Tensor | None = None) -> Rotated:
        """Rotate in float32.

        Args:
            query: (batch, num_patches, num_heads, head_size).
            key: likewise.
        """
        angles = torch.view_as_real(self.cos_sin_cache).to(query.device).flatten(0, -3)
        cos, sin = angles.unbind(-1)
        if (reason := refusal(query, cos, torch.float32)) is not None:
            note_refusal("Llama4VisionRotaryEmbedding", reason)
            left: Rotated = super().forward_native(query, key)
            return left
        new_query = turn(query.float(), cos, sin, neox=False).to(query.dtype)
        return new_query, None if key is None else turn(key.float(), cos, sin, neox=False).to(key.dtype)

    def forward_cpu(self, query: Tensor, key: Tensor | None = None) -> Rotated:
        """Do what `forward_native` does."""
        return self.forward_native(query, key)

    def forward_oot(self, query: Tensor, key: Tensor | None = None) -> Rotated:
        """Do what `forward_native` does."""
        return self.forward_native(query, key)
