"""Stands for vllm.attention.layer."""

from __future__ import annotations

from ascend_overlay.overlays.compat.names import forwarder

__getattr__ = forwarder(
    "vllm.attention.layer",
    {
        "Attention": "ascend_overlay.overlays.compat.attention:Attention",
        "MultiHeadAttention": "vllm.model_executor.layers.attention:MMEncoderAttention",
        "MLAAttention": "vllm.model_executor.layers.attention:MLAAttention",
        "AttentionType": "vllm.v1.attention.backend:AttentionType",
    },
)
