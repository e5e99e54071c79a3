"""Stands for vllm.attention.backends.abstract."""

from __future__ import annotations

from ascend_overlay.overlays.compat.names import forwarder

__getattr__ = forwarder(
    "vllm.attention.backends.abstract",
    {
        "AttentionBackend": "vllm.v1.attention.backend:AttentionBackend",
        "AttentionImpl": "vllm.v1.attention.backend:AttentionImpl",
        "AttentionLayer": "vllm.v1.attention.backend:AttentionLayer",
        "AttentionMetadata": "vllm.v1.attention.backend:AttentionMetadata",
        "AttentionMetadataBuilder": "vllm.v1.attention.backend:AttentionMetadataBuilder",
        "AttentionType": "vllm.v1.attention.backend:AttentionType",
        "MLAAttentionImpl": "vllm.v1.attention.backend:MLAAttentionImpl",
    },
)
