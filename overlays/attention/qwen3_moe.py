"""Qwen3-MoE's attention."""

from __future__ import annotations

from vllm.model_executor.models.qwen3_moe import Qwen3MoeAttention

from ascend_overlay.overlays.attention.offering import Offering


class AscendQwen3MoeAttention(Offering, Qwen3MoeAttention):  # type: ignore[misc, unused-ignore]
    """Norms of queries and keys, rotary embedding and cache write in one operator, where that is taken."""
