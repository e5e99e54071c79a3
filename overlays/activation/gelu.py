"""The variants of GELU on npu_gelu and npu_fast_gelu.

The names do not agree: vLLM's FastGELU and NewGELU are the approximation by the hyperbolic tangent, written in two
ways, and npu_fast_gelu is what vLLM calls QuickGELU. All take any shape in float16, bfloat16 or float32.
"""

from __future__ import annotations

import torch
from torch import Tensor
from vllm.model_executor.layers.activation import GELU, FastGELU, GELUTanh, NewGELU, QuickGELU

from ascend_overlay import npu
from ascend_overlay.npu.dispatch import OneForward

npu.load("npu_gelu", "npu_fast_gelu")


class AscendGELU(OneForward, GELU):  # type: ignore[misc, unused-ignore]
    """GELU by the error function."""

    def forward_native(self, x: Tensor) -> Tensor:
        """Return GELU of each element."""
        return _gelu(x, "none")


class AscendGELUTanh(OneForward, GELUTanh):  # type: ignore[misc, unused-ignore]
    """GELU by the hyperbolic tangent."""

    def forward_native(self, x: Tensor) -> Tensor:
        """Return GELU of each element."""
        return _gelu(x, "tanh")


class AscendNewGELU(OneForward, NewGELU):  # type: ignore[misc, unused-ignore]
    """GELU by the hyperbolic tangent."""

    def forward_native(self, x: Tensor) -> Tensor:
        """Return GELU of each element."""
        return _gelu(x, "tanh")


class AscendFastGELU(OneForward, FastGELU):  # type: ignore[misc, unused-ignore]
    """GELU by the hyperbolic tangent."""

    def forward_native(self, x: Tensor) -> Tensor:
        """Return GELU of each element."""
        return _gelu(x, "tanh")


class AscendQuickGELU(OneForward, QuickGELU):  # type: ignore[misc, unused-ignore]
    """``x * sigmoid(1.702 * x)``."""

    def forward_native(self, x: Tensor) -> Tensor:
        """Return the quick GELU of each element."""
        y: Tensor = torch.ops.npu.npu_fast_gelu(x)
        return y


def _gelu(x: Tensor, approximate: str) -> Tensor:
    y: Tensor = torch.ops.npu.npu_gelu(x, approximate=approximate)
    return y
