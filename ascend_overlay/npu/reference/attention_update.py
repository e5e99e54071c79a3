"""Merging attention over parts of the keys."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ascend_overlay.npu.kernel import ReferenceKernel
from ascend_overlay.npu.reference.checks import dimensions, refuse, same_dtype

_NAME = "npu_attention_update"
_MOST_PARTS = 16
_SIZES = range(8, 513, 8)


def npu_attention_update(lse: Sequence[Tensor], local_out: Sequence[Tensor], update_type: int) -> tuple[Tensor, Tensor]:
    """Return the attention over all keys, from the attention over parts of them.

    With l_i the logarithm of the sum of the exponentials of part i: ``l = log(sum(exp(l_i)))`` and
    ``out = sum(out_i * exp(l_i - l))``. A part without keys has l_i = -inf; where all are, the result is NaN.

    Args:
        lse: 1 to 16 tensors (rows,); float32; with any strides.
        local_out: as many tensors (rows, size), size a multiple of 8 from 8 to 512; all float16, all bfloat16 or all
            float32; likewise.
        update_type: 1 to return l as well, 0 for the attention alone.

    Returns:
        The attention, in shape and dtype of a part; and l, (rows,), float32. With `update_type` 0 the latter is zeros
        here and nothing on an NPU.

    Raises:
        RuntimeError: a shape or dtype that the NPU does not take.
    """
    _check(lse, local_out, update_type)
    sums = torch.stack(list(lse))
    total = torch.logsumexp(sums, dim=0)
    weights = torch.exp(sums - total).unsqueeze(-1)
    out = local_out[0].float() * weights[0]
    for part, weight in zip(local_out[1:], weights[1:], strict=True):
        out = out + part.float() * weight
    return out.to(local_out[0].dtype), total if update_type else torch.zeros_like(total)


def _check(lse: Sequence[Tensor], local_out: Sequence[Tensor], update_type: int) -> None:
    if not 1 <= len(lse) <= _MOST_PARTS or len(lse) != len(local_out):
        refuse(_NAME, f"lse has {len(lse)} parts, local_out {len(local_out)}; they take as many, 1 to {_MOST_PARTS}.")
    if update_type not in (0, 1):
        refuse(_NAME, f"update_type is {update_type}; it takes 0 or 1.")
    same_dtype(_NAME, **{f"local_out[{i}]": part for i, part in enumerate(local_out)})
    for i, (total, part) in enumerate(zip(lse, local_out, strict=True)):
        dimensions(_NAME, f"lse[{i}]", total, (1,))
        dimensions(_NAME, f"local_out[{i}]", part, (2,))
        if total.dtype != torch.float32:
            refuse(_NAME, f"lse[{i}] is {total.dtype}; it takes float32.")
        if part.shape != local_out[0].shape or part.shape[0] != total.shape[0] or part.shape[1] not in _SIZES:
            shapes = f"lse[{i}] is {tuple(total.shape)}, local_out[{i}] {tuple(part.shape)}"
            refuse(_NAME, f"{shapes}; they take (rows,) and (rows, size), size a multiple of 8 up to 512.")


def _fake(lse: Sequence[Tensor], local_out: Sequence[Tensor], update_type: int) -> tuple[Tensor, Tensor]:
    return local_out[0].new_empty(local_out[0].shape), lse[0].new_empty(lse[0].shape)


KERNELS = (
    ReferenceKernel(
        schema="npu_attention_update(Tensor[] lse, Tensor[] local_out, int update_type) -> (Tensor, Tensor)",
        cpu=npu_attention_update,
        fake=_fake,
        source=(
            "torch_npu 2.13 (schema, meta kernel, documentation inside the wheel), CANN aclnnAttentionUpdate (limits), "
            "its source (strides)"
        ),
    ),
)
