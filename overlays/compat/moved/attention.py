"""Stands for vllm.attention."""

from __future__ import annotations

from ascend_overlay.overlays.compat.names import forwarder

# A package: its submodules are served one by one.
__path__: list[str] = []

__getattr__ = forwarder(
    "vllm.attention",
    {
        "Attention": "ascend_overlay.overlays.compat.attention:Attention",
        "AttentionBackend": "vllm.v1.attention.backend:AttentionBackend",
        "AttentionMetadata": "vllm.v1.attention.backend:AttentionMetadata",
        "AttentionMetadataBuilder": "vllm.v1.attention.backend:AttentionMetadataBuilder",
        "AttentionType": "vllm.v1.attention.backend:AttentionType",
        "get_attn_backend": "vllm.v1.attention.selector:get_attn_backend",
        "layer": "vllm.attention.layer",
        "selector": "vllm.attention.selector",
        "backends": "vllm.attention.backends",
    },
)
