"""W4A8_DYNAMIC for routed experts; see int8_experts.py for the arithmetic."""

from __future__ import annotations

from typing import Any

import ascend_overlay.overlays.quantization.int8_experts  # noqa: F401  (an operator that is missing is missed with this)
from ascend_overlay.quantization import ExpertsScheme


def _method(layer: Any, prefix: str) -> Any:
    # Only now: the schemes are listed where there is no vLLM, too.
    from ascend_overlay.overlays.quantization.w4a8_experts import W4A8DynamicExperts

    return W4A8DynamicExperts(layer, prefix)


W4A8_DYNAMIC_EXPERTS = ExpertsScheme("W4A8_DYNAMIC", _method)
