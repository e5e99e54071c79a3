"""Comparisons of DeepSeek's attention in prompts, chunks of prompts and decoding, for `ascend-overlay verify`."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from ascend_overlay.npu.case import ATTENTION_CPU_ONLY, LayerCase
from ascend_overlay.overlays.mla.cases.steps import LatentSteps

_STEPS = ({0: 20, 1: 33}, {0: 1, 1: 30, 2: 12}, {0: 1, 1: 1, 2: 40})
_OPERATORS = ("npu_fused_infer_attention_score", "npu_gather_pa_kv_cache", "npu_attention_update")
_FUSED = ("npu_kv_rmsnorm_rope_cache", "npu_interleave_rope", "npu_transpose_batchmatmul")
_LAYERS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "16 heads": ({"heads": 16}, _FUSED),
    "3 heads, compressed queries": ({"heads": 3, "q_lora_rank": 96}, _FUSED),
    "rotation of halves": ({"neox": True}, ("npu_scatter_pa_kv_cache", "npu_transpose_batchmatmul")),
}


def cases() -> Iterator[LayerCase]:
    """Yield the cases of MultiHeadLatentAttentionWrapper, with MLAAttention in it."""
    for dtype, unit in (("bfloat16", 2**-8), ("float16", 2**-11)):
        for label, (options, operators) in _LAYERS.items():
            yield LayerCase(
                layer="vllm.model_executor.layers.mla:MultiHeadLatentAttentionWrapper",
                label=label,
                dtype=dtype,
                overlay="mla",
                run=functools.partial(_serve, dtype, options),
                operators=(*_OPERATORS, *operators),
                # Both round queries, latents, keys, values and the attention, at other places; outputs are about 0.3.
                rtol=4 * unit,
                atol=4 * unit,
                cpu_only=ATTENTION_CPU_ONLY,
            )


def _serve(dtype: str, options: dict[str, Any]) -> Any:
    layer = LatentSteps(dtype=dtype, **options)
    return [out for new in _STEPS for out in layer.step(new)]
