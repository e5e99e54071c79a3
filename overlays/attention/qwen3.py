"""Qwen3's attention."""

from __future__ import annotations

from vllm.model_executor.models.qwen3 import Qwen3Attention

from ascend_overlay.overlays.attention.offering import Offering


class AscendQwen3Attention(Offering, Qwen3Attention):  # type: ignore[misc, unused-ignore]
    """Norms of queries and keys, rotary embedding and cache write in one operator, where that is taken."""
