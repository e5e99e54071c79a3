"""Layers of vLLM that the built-in overlays serve, for `ascend-overlay verify`: a module a group of layers."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from ascend_overlay.verify.case import LayerCase

GROUPS = (
    "activation",
    "layernorm",
    "rotary",
    "embedding",
    "quantization",
    "quantized_experts",
    "attention",
    "latent",
    "moe",
)
"""Modules of this package; each has ``cases()``."""


def cases() -> Iterator[LayerCase]:
    """Yield the cases of all groups."""
    for group in GROUPS:
        yield from importlib.import_module(f"{__name__}.{group}").cases()
