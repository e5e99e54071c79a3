"""Stands for vllm.attention.backends."""

from __future__ import annotations

from ascend_overlay.overlays.compat.names import forwarder

# A package: its submodules are served one by one.
__path__: list[str] = []

__getattr__ = forwarder(
    "vllm.attention.backends",
    {
        "abstract": "vllm.attention.backends.abstract",
        "utils": "vllm.attention.backends.utils",
    },
)
