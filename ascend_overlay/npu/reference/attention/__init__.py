"""Attention over new and cached tokens, and writing to the cache."""

from __future__ import annotations

from ascend_overlay.npu.reference.attention import fused_infer, kv_cache

KERNELS = (*fused_infer.KERNELS, *kv_cache.KERNELS)
