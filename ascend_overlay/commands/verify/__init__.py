"""Comparing operators and layers with what they stand in for: the data of `ascend-overlay verify`."""

from __future__ import annotations

from ascend_overlay.npu.case import LayerCase, OperatorCase

__all__ = ["LayerCase", "OperatorCase"]
