"""The backend for a vLLM that asks it for the shape of a KV cache (0.28 and older)."""

from __future__ import annotations

from ascend_overlay.overlays.attention.backend import Served


class AscendAttentionBackend(Served):
    """The backend, with the shape of its KV cache.

    It names no order of strides, so a cache lies in memory as its shape says, block after block, a layer by itself.
    """

    @staticmethod
    def get_kv_cache_shape(
        num_blocks: int, block_size: int, num_kv_heads: int, head_size: int, cache_dtype_str: str = "auto"
    ) -> tuple[int, ...]:
        """Return the shape of a layer's cache; see cache.py."""
        return num_blocks, num_kv_heads, block_size, 2 * head_size
