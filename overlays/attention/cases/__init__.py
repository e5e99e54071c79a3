"""Comparisons of attention, for `ascend-overlay verify`."""

from __future__ import annotations

from collections.abc import Iterator

from ascend_overlay.npu.case import LayerCase
from ascend_overlay.overlays.attention.cases import attention


def cases() -> Iterator[LayerCase]:
    """Yield the cases."""
    yield from attention.cases()
