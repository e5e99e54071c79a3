"""The built-in quantization schemes."""

from __future__ import annotations

from ascend_overlay.quantization import ExpertsScheme, LinearScheme

SCHEMES: tuple[LinearScheme | ExpertsScheme, ...] = ()
