"""The backend for a vLLM that allocates KV caches by a layout (0.29 and newer)."""

from __future__ import annotations

from vllm.v1.kv_cache_layout import KVCacheLayout

from ascend_overlay.overlays.attention.backend import Served


class AscendAttentionBackend(Served):
    """The backend, with the layouts of its KV cache."""

    @classmethod
    def supported_kv_cache_layouts(cls) -> tuple[KVCacheLayout, ...]:
        """Return the layouts in which the blocks of a layer follow each other, each of them in one piece."""
        return (KVCacheLayout.LBNHC, KVCacheLayout.LBHNC)
