"""GemmaRMSNorm on npu_gemma_rms_norm."""

from __future__ import annotations

import torch
from torch import Tensor
from vllm.model_executor.layers.layernorm import GemmaRMSNorm

from ascend_overlay import npu
from ascend_overlay.npu.reference.checks import FLOATS

npu.load("npu_gemma_rms_norm")


Normalized = Tensor | tuple[Tensor, Tensor]


class AscendGemmaRMSNorm(GemmaRMSNorm):  # type: ignore[misc, unused-ignore]
    """``x / sqrt(mean(x**2) + eps) * (1 + weight)``, one added inside the operator.

    vLLM's own goes through vllm.ir with ``weight.float() + 1``, two operators of their own at each call. What
    npu_gemma_rms_norm does not take (a weight of another dtype than `x`, no token) still goes there, to npu_rms_norm.
    """

    def forward_native(self, x: Tensor, residual: Tensor | None = None) -> Normalized:
        """Return the norm of `x`; with `residual` the norm of their sum, rounded to the dtype of `x`, and that sum.

        Args:
            x: (..., hidden); float16, bfloat16 or float32.
            residual: shape and dtype of `x`.
        """
        takes = x.dtype in FLOATS and self.weight.dtype == x.dtype and x.numel()
        if not takes or (residual is not None and residual.dtype != x.dtype):
            left: Normalized = super().forward_native(x, residual)
            return left
        total = x if residual is None else x + residual
        y: Tensor = torch.ops.npu.npu_gemma_rms_norm(total.contiguous(), self.weight.data, self.variance_epsilon)[0]
        return y if residual is None else (y, total)

    def forward_cpu(self, x: Tensor, residual: Tensor | None = None) -> Normalized:
        """Do what `forward_native` does."""
        return self.forward_native(x, residual)

    def forward_oot(self, x: Tensor, residual: Tensor | None = None) -> Normalized:
        """Do what `forward_native` does."""
        return self.forward_native(x, residual)
