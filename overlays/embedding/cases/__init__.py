"""Comparisons of embeddings, for `ascend-overlay verify`."""

from __future__ import annotations

from collections.abc import Iterator

from ascend_overlay.npu.case import LayerCase
from ascend_overlay.overlays.embedding.cases import embedding


def cases() -> Iterator[LayerCase]:
    """Yield the cases."""
    yield from embedding.cases()
