"""Stands for vllm.attention.backends.utils."""

from __future__ import annotations

from ascend_overlay.overlays.compat.names import forwarder

__getattr__ = forwarder(
    "vllm.attention.backends.utils",
    {
        "PAD_SLOT_ID": "vllm.v1.attention.backends.utils:PAD_SLOT_ID",
    },
)
