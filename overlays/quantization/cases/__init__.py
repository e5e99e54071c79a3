"""Comparisons of quantized layers and experts, for `ascend-overlay verify`."""

from __future__ import annotations

from collections.abc import Iterator

from ascend_overlay.npu.case import LayerCase
from ascend_overlay.overlays.quantization.cases import experts, linear


def cases() -> Iterator[LayerCase]:
    """Yield the cases."""
    yield from linear.cases()
    yield from experts.cases()
