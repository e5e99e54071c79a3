"""Gated activations."""

from __future__ import annotations

import torch
from torch import Tensor

from ascend_overlay.npu.kernel import ReferenceKernel
from ascend_overlay.npu.reference.checks import dimensions, float_tensor, refuse


def npu_swiglu(input: Tensor, dim: int = -1) -> Tensor:
    """Return ``a * sigmoid(a) * b``, with a and b the first and the second half of `input` along `dim`.

    Args:
        input: 1 to 8 dimensions, an even number of elements along `dim`; float16, bfloat16 or float32.
        dim: the dimension that is halved.

    Returns:
        dtype of `input`; its shape with half of `dim`.

    Raises:
        RuntimeError: a shape or dtype that the NPU does not take.
    """
    _check(input, dim)
    a, b = input.chunk(2, dim)
    a = a.float()
    return (a * torch.sigmoid(a) * b.float()).to(input.dtype).contiguous()


def _check(input: Tensor, dim: int) -> None:
    dimensions("npu_swiglu", "input", input, range(1, 9))
    float_tensor("npu_swiglu", "input", input)
    if not -input.dim() <= dim < input.dim():
        refuse("npu_swiglu", f"dim is {dim}, but input has {input.dim()} dimensions.")
    if input.shape[dim] % 2:
        refuse("npu_swiglu", f"dimension {dim} of input has {input.shape[dim]} elements; it takes an even number.")


def _fake(input: Tensor, dim: int = -1) -> Tensor:
    shape = list(input.shape)
    shape[dim] = shape[dim] // 2
    return input.new_empty(shape)


KERNELS = (
    ReferenceKernel(
        schema="npu_swiglu(Tensor input, int dim=-1) -> Tensor",
        cpu=npu_swiglu,
        fake=_fake,
        source="torch_npu 2.13 (schema, meta kernel, documentation inside the wheel)",
    ),
)
