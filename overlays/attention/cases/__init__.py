"""Comparisons of attention layers with a KV cache, for `ascend-overlay verify`."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ascend_overlay.npu.case import ATTENTION_CPU_ONLY, LayerCase
from ascend_overlay.npu.cases.numbers import HALF_UNIT, dtype_of, normal
from ascend_overlay.overlays.attention.cases.batches import CachedLayer, Request
from ascend_overlay.overlays.attention.cases.normed import NormedLayer

if TYPE_CHECKING:
    import torch
else:
    from ascend_overlay.npu.cases.lazy import torch

_LAYERS: dict[str, dict[str, Any]] = {
    "grouped queries": {},
    "one head of keys": {"heads": 6, "kv_heads": 1, "size": 32},
    "window of 40": {"per_layer_sliding_window": 40},
    "sinks": {"sinks": True},
}
_BATCHES = (
    [Request((6, 1), 0, 150), Request((4,), 0, 3)],
    [Request((6, 1), 150, 20), Request((4,), 3, 1), Request((6, 2), 128, 9)],
    [Request((6, 1), 170, 1), Request((4,), 4, 1), Request((6, 2), 137, 1)],
)


def cases() -> Iterator[LayerCase]:
    """Yield the cases of Attention: prompts, then parts of prompts beside single tokens, then single tokens."""
    for dtype in ("bfloat16", "float16"):
        for label, options in _LAYERS.items():
            if dtype == "float16" and "sinks" in options:
                continue
            yield LayerCase(
                layer="vllm.model_executor.layers.attention.attention:Attention",
                label=f"{label}; prompts, mixed, single tokens",
                dtype=dtype,
                overlay="attention",
                run=functools.partial(_serve, dtype, options),
                operators=("npu_fused_infer_attention_score_v2.out", "npu_scatter_pa_kv_cache"),
                # vLLM rounds the weights of the values, too.
                rtol=4 * HALF_UNIT[dtype],
                atol=4 * HALF_UNIT[dtype],
                cpu_only=ATTENTION_CPU_ONLY,
            )
        yield LayerCase(
            layer="vllm.model_executor.layers.attention.attention:Attention",
            label="with norms and rotary embedding in one operator; prompts, mixed, single tokens",
            dtype=dtype,
            overlay="attention",
            run=functools.partial(_serve_normed, dtype),
            operators=("npu_fused_infer_attention_score_v2.out", "npu_qkv_rms_norm_rope_cache"),
            # vLLM rounds what is normed, and what is rotated, too.
            rtol=8 * HALF_UNIT[dtype],
            atol=8 * HALF_UNIT[dtype],
            cpu_only=ATTENTION_CPU_ONLY,
        )


def _serve_normed(dtype: str) -> list[torch.Tensor]:
    layer, found = NormedLayer(dtype_of(dtype)), []
    for seed, requests in enumerate(_BATCHES):
        tokens = sum(request.new for request in requests)
        found.append(layer.run(requests, normal(seed, tokens, 8 * 128, dtype=dtype)))
    return found


def _serve(dtype: str, options: dict[str, Any]) -> list[torch.Tensor]:
    if "sinks" in options:
        options = options | {"sinks": normal(9, 4, dtype=dtype)}
    layer = CachedLayer(dtype_of(dtype), **options)
    found = []
    for seed, requests in enumerate(_BATCHES):
        tokens = sum(request.new for request in requests)
        heads = (layer.heads, layer.kv_heads, layer.kv_heads)
        numbers = [normal(3 * seed + i, tokens, n * layer.size, dtype=dtype) for i, n in enumerate(heads)]
        found.append(layer.run(requests, *numbers))
    return found
