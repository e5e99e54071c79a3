"""Root mean square normalization."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ascend_overlay.npu.kernel import ReferenceKernel
from ascend_overlay.npu.reference.checks import FLOATS, dimensions, once_for_alike, refuse, same_dtype
from ascend_overlay.npu.reference.constants import kept, number


def npu_rms_norm(input: Tensor, gamma: Tensor, epsilon: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Return (y, rstd): ``rstd = 1 / sqrt(mean(input**2) + epsilon)`` and ``y = input * rstd * gamma``.

    The mean is over the trailing dimensions that `gamma` has.

    Args:
        input: 1 to 8 dimensions; float16, bfloat16 or float32.
        gamma: shape ``input.shape[n:]``; the dtype of `input`, or float32.
        epsilon: added under the root.

    Returns:
        y: shape and dtype of `input`.
        rstd: float32; shape of `input` with 1 for each normalized dimension.

    Raises:
        RuntimeError: a shape or dtype that the NPU does not take.
    """
    _check_rms_norm(input, gamma)
    return normalize(input.float(), gamma, epsilon, input.dtype)


def npu_add_rms_norm(x1: Tensor, x2: Tensor, gamma: Tensor, epsilon: float = 1e-6) -> tuple[Tensor, Tensor, Tensor]:
    """Return (y, rstd, x): ``x = x1 + x2``, and y and rstd as `npu_rms_norm` computes them of x.

    The sum is normalized as it is in float32, before it is rounded to the dtype of x.

    Args:
        x1: 1 to 8 dimensions; float16, bfloat16 or float32.
        x2: shape and dtype of `x1`.
        gamma: shape ``x1.shape[n:]``; dtype of `x1`.
        epsilon: added under the root.

    Returns:
        y: shape and dtype of `x1`.
        rstd: float32; shape of `x1` with 1 for each normalized dimension.
        x: shape and dtype of `x1`.

    Raises:
        RuntimeError: a shape or dtype that the NPU does not take.
    """
    _check_add_rms_norm(x1, x2, gamma)
    total = x1.float() + x2
    y, rstd = normalize(total, gamma, epsilon, x1.dtype)
    return y, rstd, total.to(dtype=x1.dtype)


def npu_gemma_rms_norm(input: Tensor, gamma: Tensor, epsilon: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Return (y, rstd): rstd as `npu_rms_norm` computes it, and ``y = input * rstd * (1 + gamma)``.

    Args:
        input: 1 to 8 dimensions, at least one element; float16, bfloat16 or float32.
        gamma: shape ``input.shape[n:]``; dtype of `input`. One is added in float32.
        epsilon: added under the root.

    Returns:
        y: shape and dtype of `input`.
        rstd: float32; shape of `input` with 1 for each normalized dimension.

    Raises:
        RuntimeError: a shape or dtype that the NPU does not take.
    """
    _check_gemma_rms_norm(input, gamma)
    return normalize(input.float(), gamma + _one(), epsilon, input.dtype)


@once_for_alike
def _check_rms_norm(input: Tensor, gamma: Tensor) -> None:
    _check("npu_rms_norm", input, gamma)
    if gamma.dtype not in (input.dtype, torch.float32):
        refuse("npu_rms_norm", f"gamma is {gamma.dtype} for an input of {input.dtype}; it takes that or float32.")


@once_for_alike
def _check_add_rms_norm(x1: Tensor, x2: Tensor, gamma: Tensor) -> None:
    operator = "npu_add_rms_norm"
    same_dtype(operator, x1=x1, x2=x2, gamma=gamma)
    _check(operator, x1, gamma)
    if x1.shape != x2.shape:
        refuse(operator, f"x1 has the shape {tuple(x1.shape)} and x2 {tuple(x2.shape)}; they must be equal.")


@once_for_alike
def _check_gemma_rms_norm(input: Tensor, gamma: Tensor) -> None:
    operator = "npu_gemma_rms_norm"
    same_dtype(operator, input=input, gamma=gamma)
    _check(operator, input, gamma)
    if not input.numel():
        refuse(operator, f"input has the shape {tuple(input.shape)}, without an element.")


def _check(operator: str, x: Tensor, gamma: Tensor) -> None:
    dimensions(operator, "the input", x, range(1, 9))
    if x.dtype not in FLOATS:
        refuse(operator, f"the input is {x.dtype}; it takes float16, bfloat16 or float32.")
    if gamma.dim() < 1 or gamma.dim() > x.dim() or gamma.shape != x.shape[x.dim() - gamma.dim() :]:
        shapes = f"gamma has the shape {tuple(gamma.shape)} and the input {tuple(x.shape)}"
        refuse(operator, f"{shapes}; gamma must have the trailing dimensions of the input.")


def normalize(x: Tensor, gamma: Tensor, epsilon: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return what npu_rms_norm does of `x` in float32: the result, of `dtype`, and rstd."""
    # Decoding a tiny model takes as long as the number of these calls, so there are few; in place where that can be.
    dims = -1 if gamma.dim() == 1 else list(range(-gamma.dim(), 0))
    length = torch.linalg.vector_norm(x, 2, dims, True)
    rstd = torch.addcmul(number(epsilon), length, length, value=1 / (gamma.numel() or math.nan)).rsqrt_()
    return (x * rstd).mul_(gamma).to(dtype=dtype), rstd.contiguous()


@kept(1)
def _one() -> Tensor:
    # With a dimension, so that what is added to it becomes float32.
    return torch.ones(1, dtype=torch.float32, device="cpu")


def _rstd(x: Tensor, gamma: Tensor) -> Tensor:
    leading = x.dim() - gamma.dim()
    return x.new_empty([*x.shape[:leading], *[1] * gamma.dim()], dtype=torch.float32)


def _fake_rms_norm(input: Tensor, gamma: Tensor, epsilon: float = 1e-6) -> tuple[Tensor, Tensor]:
    return torch.empty_like(input), _rstd(input, gamma)


def _fake_add_rms_norm(x1: Tensor, x2: Tensor, gamma: Tensor, epsilon: float = 1e-6) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x1), _rstd(x1, gamma), torch.empty_like(x1)


KERNELS = (
    ReferenceKernel(
        schema="npu_rms_norm(Tensor input, Tensor gamma, float epsilon=1e-06) -> (Tensor, Tensor)",
        cpu=npu_rms_norm,
        fake=_fake_rms_norm,
        source="torch_npu 2.13 (schema, meta kernel), CANN aclnnRmsNorm (formula, dtypes, shape of rstd)",
    ),
    ReferenceKernel(
        schema="npu_add_rms_norm(Tensor x1, Tensor x2, Tensor gamma, float epsilon=1e-06) -> (Tensor, Tensor, Tensor)",
        cpu=npu_add_rms_norm,
        fake=_fake_add_rms_norm,
        source="torch_npu 2.13 (schema, meta kernel), CANN aclnnAddRmsNorm (formula, dtypes, shape of rstd)",
    ),
    ReferenceKernel(
        schema="npu_gemma_rms_norm(Tensor input, Tensor gamma, float epsilon=1e-06) -> (Tensor, Tensor)",
        cpu=npu_gemma_rms_norm,
        fake=_fake_rms_norm,
        source=(
            "torch_npu 2.13 (schema, meta kernel, documentation inside the wheel), CANN aclnnGemmaRmsNorm (formula, "
            "strides)"
        ),
    ),
)
