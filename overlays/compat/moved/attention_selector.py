"""Stands for vllm.attention.selector."""

from __future__ import annotations

from ascend_overlay.overlays.compat.names import forwarder

__getattr__ = forwarder(
    "vllm.attention.selector",
    {
        "get_attn_backend": "vllm.v1.attention.selector:get_attn_backend",
    },
)
