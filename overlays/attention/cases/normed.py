"""An attention layer whose queries and keys are normed and rotated, as Qwen3's are, with a KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ascend_overlay.npu.cases.numbers import normal
from ascend_overlay.overlays.attention.cases.batches import CachedLayer, Request

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from ascend_overlay.npu.cases.lazy import torch


class NormedLayer:
    """Norms of queries and keys, rotary embedding and attention; in one operator where a backend takes that offer.

    Args:
        dtype: of the product of queries, keys and values.
        options: of CachedLayer.
        rope: further arguments of vLLM's get_rope().
    """

    def __init__(self, dtype: torch.dtype, rope: dict[str, Any] | None = None, **options: Any) -> None:
        from vllm.config import set_current_vllm_config
        from vllm.model_executor.layers.layernorm import RMSNorm
        from vllm.model_executor.layers.rotary_embedding import get_rope

        self.cached = CachedLayer(dtype, **{"size": 128, "kv_heads": 2, **options})
        size = self.cached.size
        with set_current_vllm_config(self.cached._config):
            self.norms = RMSNorm(size, eps=1e-6, dtype=dtype), RMSNorm(size, eps=1e-6, dtype=dtype)
            self.rotary = get_rope(size, 1024, dtype=dtype, **(rope or {}))
        for seed, norm in enumerate(self.norms):
            norm.weight.data.copy_(1 + normal(20 + seed, size, dtype="float32", scale=0.2))
        self.impl = self.cached.layer.impl
        if hasattr(self.impl, "offered"):
            from ascend_overlay.overlays.attention.fusion import Fusion

            self.impl.offered = Fusion(*self.norms, self.rotary)
            self.impl.process_weights_after_loading(dtype)

    def run(self, requests: Sequence[Request], product: Tensor) -> Tensor:
        """Return what the layer makes of a batch's product, (tokens, (heads + 2 KV heads) * size)."""
        layer = self.cached
        sizes = [heads * layer.size for heads in (layer.heads, layer.kv_heads, layer.kv_heads)]
        query, key, value = torch.split(product, sizes, -1)
        if getattr(self.impl, "fused", None) is None:
            positions = layer.batch(requests).positions
            heads = [x.reshape(len(x), -1, layer.size) for x in (query, key)]
            query, key = (norm(x).flatten(1) for norm, x in zip(self.norms, heads, strict=True))
            query, key = self.rotary(positions, query, key)
        return layer.run(requests, query, key, value)
