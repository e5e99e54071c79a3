"""Batched matrix products with transposition."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ascend_overlay.npu.kernel import ReferenceKernel
from ascend_overlay.npu.reference.checks import dimensions, refuse, same_dtype

_NAME = "npu_transpose_batchmatmul"
_LIMIT = 65536
_STEP = 128
_PLAIN, _SWAPPED = [0, 1, 2], [1, 0, 2]


def npu_transpose_batchmatmul(
    input: Tensor,
    weight: Tensor,
    *,
    bias: Tensor | None = None,
    scale: Tensor | None = None,
    perm_x1: Sequence[int] | None = None,
    perm_x2: Sequence[int] | None = None,
    perm_y: Sequence[int] | None = None,
    batch_split_factor: int | None = 1,
) -> Tensor:
    """Return ``y[m, b] = x[b, m] @ weight[b]``, with x the `input` in the order `perm_x1`.

    Args:
        input: (B, M, K), or (M, B, K) with `perm_x1` [1, 0, 2]; K a multiple of 128 below 65536, in the second case
            K * B as well; float16, bfloat16 or float32. B below 65536.
        weight: (B, K, N), N a multiple of 128 below 65536; dtype of `input`.
        bias: None; torch_npu takes no other.
        scale: None; quantized results are left out here.
        perm_x1: [0, 1, 2], which None stands for, or [1, 0, 2].
        perm_x2: [0, 1, 2], which None stands for.
        perm_y: [1, 0, 2], which None stands for.
        batch_split_factor: into how many groups of batches the result is split.

    Returns:
        dtype of `input`; (M, B, N), or (f, M, B * N / f) with f the `batch_split_factor`.

    Raises:
        RuntimeError: a shape, dtype or permutation that the NPU does not take.
    """
    x = _checked(input, weight, bias, scale, perm_x1, perm_x2, perm_y, batch_split_factor)
    # The CPU's own product in float16 is tens of times slower than one in float32; all add up in float32.
    half = input.dtype == torch.float16
    y = torch.bmm(x.float(), weight.float()).to(input.dtype) if half else torch.bmm(x, weight)
    batch, rows, columns = y.shape
    split = batch_split_factor or 1
    if split == 1:
        return y.transpose(0, 1).contiguous()
    return y.transpose(0, 1).reshape(rows, split, batch * columns // split).transpose(0, 1).contiguous()


def _checked(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    perm_x1: Sequence[int] | None,
    perm_x2: Sequence[int] | None,
    perm_y: Sequence[int] | None,
    split: int | None,
) -> Tensor:
    """Return `input` as (B, M, K)."""
    dimensions(_NAME, "input", input, (3,))
    dimensions(_NAME, "weight", weight, (3,))
    same_dtype(_NAME, input=input, weight=weight)
    if bias is not None:
        refuse(_NAME, "bias is not supported; leave it out.")
    if scale is not None:
        refuse(_NAME, "the reference kernel does not compute quantized results; leave scale out.")
    for name, given, allowed in (
        ("perm_x1", perm_x1, (_PLAIN, _SWAPPED)),
        ("perm_x2", perm_x2, (_PLAIN,)),
        ("perm_y", perm_y, (_SWAPPED,)),
    ):
        if given is not None and list(given) not in allowed:
            refuse(_NAME, f"{name} is {list(given)}; it takes {' or '.join(map(str, allowed))}.")
    swapped = perm_x1 is not None and list(perm_x1) == _SWAPPED
    x = input.transpose(0, 1) if swapped else input
    batch, depth, columns = weight.shape
    if x.shape[0] != batch or x.shape[2] != depth:
        refuse(_NAME, f"input is {tuple(input.shape)}, weight {tuple(weight.shape)}; batches and depths differ.")
    if depth % _STEP or columns % _STEP:
        refuse(_NAME, f"weight is {tuple(weight.shape)}; its last two dimensions take multiples of {_STEP}.")
    if max(batch, columns, depth * (batch if swapped else 1)) >= _LIMIT:
        what = "batches, columns, and depth * batches with perm_x1 [1, 0, 2]"
        refuse(_NAME, f"input is {tuple(input.shape)}, weight {tuple(weight.shape)}; {what}, stay below {_LIMIT}.")
    if split is not None and (split < 1 or batch % split):
        refuse(_NAME, f"batch_split_factor is {split}; it takes a divisor of the number of batches, {batch}.")
    return x


def _fake(
    input: Tensor,
    weight: Tensor,
    *,
    bias: Tensor | None = None,
    scale: Tensor | None = None,
    perm_x1: Sequence[int] | None = None,
    perm_x2: Sequence[int] | None = None,
    perm_y: Sequence[int] | None = None,
    batch_split_factor: int | None = 1,
) -> Tensor:
    swapped = perm_x1 is not None and list(perm_x1) == _SWAPPED
    rows, batch, columns = input.shape[0 if swapped else 1], weight.shape[0], weight.shape[2]
    split = batch_split_factor or 1
    return input.new_empty((rows, batch, columns) if split == 1 else (split, rows, batch * columns // split))


KERNELS = (
    ReferenceKernel(
        schema=(
            "npu_transpose_batchmatmul(Tensor input, Tensor weight, *, Tensor? bias=None, Tensor? scale=None, "
            "int[]? perm_x1=None, int[]? perm_x2=None, int[]? perm_y=None, int? batch_split_factor=1) -> Tensor"
        ),
        cpu=npu_transpose_batchmatmul,
        fake=_fake,
        source=(
            "torch_npu 2.13 (schema, meta kernel, documentation inside the wheel), torch_npu's API reference of "
            "npu_transpose_batchmatmul (limits)"
        ),
    ),
)
