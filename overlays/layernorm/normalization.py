"""vLLM's RMSNorm operators on npu_rms_norm and npu_add_rms_norm.

The signatures are those of vllm.ir's operators, which vLLM checks at registration. `variance_size` (a mean over the
first elements of a row only) has no counterpart in torch_npu; vLLM then takes its own implementation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ascend_overlay import npu
from ascend_overlay.npu.reference.checks import FLOATS

npu.load("npu_rms_norm", "npu_add_rms_norm")


def rms_norm(x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None) -> Tensor:
    """Return x / sqrt(mean(x**2) + epsilon) * weight, the mean over the last dimension.

    Args:
        x: (..., hidden); float16, bfloat16 or float32.
        weight: (hidden,); the dtype of `x`, or float32; None stands for ones.
        epsilon: added under the root.
        variance_size: None; see `takes_rms_norm`.
    """
    y: Tensor = torch.ops.npu.npu_rms_norm(x, _gamma(x, weight), epsilon)[0]
    return y


def takes_rms_norm(x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None) -> bool:
    """Tell whether `rms_norm` computes this."""
    return variance_size is None and _takes(x, weight)


def fused_add_rms_norm(
    x: Tensor, x_residual: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the norm of ``x + x_residual``, and that sum; both are new tensors.

    npu_add_rms_norm takes a weight of the dtype of `x` only. With a float32 weight, as GemmaRMSNorm's, the sum is
    rounded to the dtype of `x` before it is normalized.

    Args:
        x: (..., hidden); float16, bfloat16 or float32.
        x_residual: shape and dtype of `x`.
        weight: (hidden,); the dtype of `x`, or float32; None stands for ones.
        epsilon: added under the root.
        variance_size: None; see `takes_fused_add_rms_norm`.
    """
    gamma = _gamma(x, weight)
    if gamma.dtype != x.dtype:
        total = x + x_residual
        return torch.ops.npu.npu_rms_norm(total, gamma, epsilon)[0], total
    y, _, total = torch.ops.npu.npu_add_rms_norm(x, x_residual, gamma, epsilon)
    return y, total


def takes_fused_add_rms_norm(
    x: Tensor, x_residual: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> bool:
    """Tell whether `fused_add_rms_norm` computes this."""
    same = x.dtype == x_residual.dtype and x.shape == x_residual.shape
    return variance_size is None and same and _takes(x, weight)


def _gamma(x: Tensor, weight: Tensor | None) -> Tensor:
    return x.new_ones(x.shape[-1]) if weight is None else weight


def _takes(x: Tensor, weight: Tensor | None) -> bool:
    # The NPU's tensors have at most 8 dimensions.
    if x.dtype not in FLOATS or not 1 <= x.dim() <= 8:
        return False
    return weight is None or (weight.dtype in (x.dtype, torch.float32) and weight.shape == x.shape[-1:])
