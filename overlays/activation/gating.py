"""Gated activations on npu_swiglu, npu_clipped_swiglu and npu_geglu.

All take (..., 2 d) and return (..., d), in float16, bfloat16 or float32. They round once; vLLM's own round after each
step.
"""

from __future__ import annotations

import torch
from torch import Tensor
from vllm.model_executor.layers.activation import GeluAndMul, SiluAndMul, SiluAndMulWithClamp, SwigluOAIAndMul

from ascend_overlay import npu
from ascend_overlay.npu.dispatch import OneForward

npu.load("npu_swiglu", "npu_clipped_swiglu", "npu_geglu")


class AscendSiluAndMul(SiluAndMul):  # type: ignore[misc, unused-ignore]
    """``silu(x[..., :d]) * x[..., d:]`` with ``d = x.shape[-1] // 2``, by npu_swiglu."""

    # Static as in vLLM, where it is called on the class, too.
    @staticmethod
    def forward_native(x: Tensor) -> Tensor:
        """Return the first half of `x`, gated."""
        # The operator takes no strided rows.
        return torch.ops.npu.npu_swiglu(x.contiguous())  # type: ignore[no-any-return]

    def forward_cpu(self, x: Tensor) -> Tensor:
        """Do what `forward_native` does."""
        return self.forward_native(x)

    def forward_oot(self, x: Tensor) -> Tensor:
        """Do what `forward_native` does."""
        return self.forward_native(x)


class AscendSiluAndMulWithClamp(OneForward, SiluAndMulWithClamp):  # type: ignore[misc, unused-ignore]
    """``g * sigmoid(alpha * g) * (u + beta)`` of the clipped halves g and u of a row, by npu_clipped_swiglu."""

    def forward_native(self, x: Tensor) -> Tensor:
        """Return the first half of `x`, gated."""
        return _clipped(x, limit=self.swiglu_limit, alpha=self.alpha, bias=self.beta, interleaved=False)


class AscendSwigluOAIAndMul(OneForward, SwigluOAIAndMul):  # type: ignore[misc, unused-ignore]
    """The same with ``u + 1``, of the even and the odd elements of a row."""

    def forward_native(self, x: Tensor) -> Tensor:
        """Return the even elements of `x`, gated."""
        return _clipped(x, limit=self.limit, alpha=self.alpha, bias=1.0, interleaved=True)


class AscendGeluAndMul(OneForward, GeluAndMul):  # type: ignore[misc, unused-ignore]
    """``gelu(x[..., :d]) * x[..., d:]`` with ``d = x.shape[-1] // 2``, by npu_geglu."""

    def forward_native(self, x: Tensor) -> Tensor:
        """Return the first half of `x`, gated."""
        # npu_geglu activates the second half unless it is told otherwise; npu_gelu_mul takes 2 d <= 1024 only.
        y: Tensor = torch.ops.npu.npu_geglu(x, -1, int(self.approximate == "tanh"), True)[0]
        return y


def _clipped(x: Tensor, *, limit: float, alpha: float, bias: float, interleaved: bool) -> Tensor:
    # The operator takes neither strided rows nor a single one without a dimension for the tokens.
    rows = (x if x.dim() > 1 else x.unsqueeze(0)).contiguous()
    y: Tensor = torch.ops.npu.npu_clipped_swiglu(rows, alpha=alpha, limit=limit, bias=bias, interleaved=interleaved)
    return y.reshape(*x.shape[:-1], -1) if x.dim() == 1 else y
