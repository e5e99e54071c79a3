"""Embeddings that are spread over several ranks."""

from __future__ import annotations

from ascend_overlay import Overlay
from ascend_overlay.conditions import platform_plugin

overlay = Overlay(
    "embedding",
    vllm=">=0.27.1,<0.34",
    reason="vLLM compiles this function with Inductor where an embedding is spread over ranks, and has no seam for it",
    upstream=None,
    when=~platform_plugin("vllm-ascend"),
)

overlay.replace(
    "vllm.model_executor.layers.vocab_parallel_embedding:get_masked_input_and_mask",
    "ascend_overlay.overlays.embedding.layer:rows_of_this_rank",
)
