"""W4A16 for routed experts; see int4_experts.py for the arithmetic."""

from __future__ import annotations

from typing import Any

import ascend_overlay.overlays.quantization.int4_experts  # noqa: F401  (an operator that is missing is missed with this)
from ascend_overlay.quantization import ExpertsScheme


def _method(layer: Any, prefix: str) -> Any:
    # Only now: the schemes are listed where there is no vLLM, too.
    from ascend_overlay.overlays.quantization.w4a16_experts import W4A16Experts

    return W4A16Experts(layer, prefix)


W4A16_EXPERTS = ExpertsScheme("W4A16", _method)
