"""Attention of a model that norms each head of queries and keys, and leaves that to the operator where it is taken."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ascend_overlay.overlays.attention.fusion import Fusion


class Offering:
    """Goes before a class of vLLM with `qkv_proj`, `q_norm`, `k_norm`, `rotary_emb`, `attn` and `o_proj`."""

    reads_input = ("qkv_proj",)
    """Who reads the hidden states, and nobody else does; overlay `quantization` asks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        layer: Any = self
        # The backend is another one where ASCEND does not serve the layer.
        if hasattr(layer.attn.impl, "offered"):
            layer.attn.impl.offered = Fusion(layer.q_norm, layer.k_norm, layer.rotary_emb)

    def forward(self, positions: Tensor, hidden_states: Tensor) -> Tensor:
        """Attend.

        Args:
            positions: (tokens,), those of the batch.
            hidden_states: (tokens, hidden).

        Returns:
            (tokens, hidden).
        """
        layer: Any = self
        if getattr(layer.attn.impl, "fused", None) is None:
            left: Tensor = super().forward(positions, hidden_states)  # type: ignore[misc]
            return left
        product, _ = layer.qkv_proj(hidden_states)
        attended = layer.attn(*product.split([layer.q_size, layer.kv_size, layer.kv_size], dim=-1))
        result: Tensor = layer.o_proj(attended)[0]
        return result
