"""Gated activations."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ascend_overlay.npu.kernel import ReferenceKernel
from ascend_overlay.npu.reference.checks import contiguous, dimensions, float_tensor, once_for_alike, refuse


def npu_swiglu(input: Tensor, dim: int = -1) -> Tensor:
    """Return ``a * sigmoid(a) * b``, with a and b the first and the second half of `input` along `dim`.

    Args:
        input: 1 to 8 dimensions, an even number of elements along `dim`, with any strides (torch_npu documents
            contiguous ones, CANN copies others); float16, bfloat16 or float32.
        dim: the dimension that is halved.

    Returns:
        dtype of `input`; its shape with half of `dim`.

    Raises:
        RuntimeError: a shape or dtype that the NPU does not take.
    """
    _check("npu_swiglu", input, dim)
    a, b = input.chunk(2, dim)
    return torch.nn.functional.silu(a.float()).mul_(b).to(dtype=input.dtype).contiguous()


def npu_clipped_swiglu(
    x: Tensor,
    *,
    group_index: Tensor | None = None,
    dim: int = -1,
    alpha: float = 1.702,
    limit: float = 7.0,
    bias: float = 1.0,
    interleaved: bool = True,
) -> Tensor:
    """Return ``a * sigmoid(alpha * a) * (b + bias)``, with a at most `limit` and b between `-limit` and `limit`.

    Args:
        x: 2 to 8 dimensions, an even number of elements along `dim`, contiguous; float16, bfloat16 or float32.
        group_index: (num_groups,) int64, rows of each group. A row is what the dimensions before `dim` index; the rows
            after the last group are not computed: here they become zeros, on an NPU they may be anything. None: all.
        dim: the dimension that is split; the dimensions after it go with it.
        alpha: steepness of the sigmoid.
        limit: where the values are clipped.
        bias: added to the second part.
        interleaved: a and b are the even and the odd elements of a row; else its halves.

    Returns:
        dtype of `x`; its shape with half of `dim`.

    Raises:
        RuntimeError: a shape, layout or dtype that the NPU does not take.
    """
    operator = "npu_clipped_swiglu"
    dimensions(operator, "x", x, range(2, 9))
    _check(operator, x, dim, "x")
    contiguous(operator, "x", x)
    if group_index is not None and (group_index.dim() != 1 or group_index.dtype != torch.int64):
        refuse(operator, f"group_index is {group_index.dtype} of {group_index.dim()} dimensions; it takes int64 of 1.")
    shape = list(x.shape)
    rows = x.reshape(math.prod(shape[: dim % x.dim()]), math.prod(shape[dim % x.dim() :])).float()
    a, b = (rows[:, ::2], rows[:, 1::2]) if interleaved else rows.chunk(2, dim=1)
    a = a.clamp(max=limit)
    y = a * torch.sigmoid(alpha * a) * (b.clamp(-limit, limit) + bias)
    if group_index is not None:
        computed = torch.arange(len(rows), device=x.device).unsqueeze(1) < group_index.sum()
        y = torch.where(computed, y, 0.0)
    shape[dim] //= 2
    return y.to(x.dtype).reshape(shape)


@once_for_alike
def _check(operator: str, x: Tensor, dim: int, name: str = "input") -> None:
    dimensions(operator, name, x, range(1, 9))
    float_tensor(operator, name, x)
    if not -x.dim() <= dim < x.dim():
        refuse(operator, f"dim is {dim}, but {name} has {x.dim()} dimensions.")
    if x.shape[dim] % 2:
        refuse(operator, f"dimension {dim} of {name} has {x.shape[dim]} elements; it takes an even number.")


def _fake_clipped(
    x: Tensor,
    *,
    group_index: Tensor | None = None,
    dim: int = -1,
    alpha: float = 1.702,
    limit: float = 7.0,
    bias: float = 1.0,
    interleaved: bool = True,
) -> Tensor:
    return _fake(x, dim)


def _fake(input: Tensor, dim: int = -1) -> Tensor:
    shape = list(input.shape)
    shape[dim] = shape[dim] // 2
    return input.new_empty(shape)


KERNELS = (
    ReferenceKernel(
        schema="npu_swiglu(Tensor input, int dim=-1) -> Tensor",
        cpu=npu_swiglu,
        fake=_fake,
        source=(
            "torch_npu 2.13 (schema, meta kernel, documentation inside the wheel), CANN's source of SwiGlu (strides)"
        ),
    ),
    ReferenceKernel(
        schema=(
            "npu_clipped_swiglu(Tensor x, *, Tensor? group_index=None, int dim=-1, float alpha=1.702, float limit=7., "
            "float bias=1., bool interleaved=True) -> Tensor"
        ),
        cpu=npu_clipped_swiglu,
        fake=_fake_clipped,
        source="torch_npu 2.13 (schema, meta kernel, documentation inside the wheel)",
    ),
)
