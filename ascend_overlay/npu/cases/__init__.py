"""Calls of each operator that has a reference kernel, for `ascend-overlay verify`: a module a group of kernels."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from ascend_overlay.npu.case import OperatorCase

GROUPS = (
    "activation",
    "normalization",
    "rotary",
    "layout",
    "quantization",
    "attention",
    "qkv_cache",
    "norm_quantization",
    "latent",
    "moe",
)
"""Modules of this package; each has ``cases()``."""


def cases() -> Iterator[OperatorCase]:
    """Yield the cases of all groups."""
    for group in GROUPS:
        yield from importlib.import_module(f"{__name__}.{group}").cases()
