"""Products of int8 matrices, exact in int32."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

_EXACT = 1024
"""So many products of two int8 numbers, of at most 2**14 each, stay below 2**24, to where float32 counts in ones."""


def integer_product(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a @ b`` exactly.

    Args:
        a: (..., m, k) int8, k at most 131071, from where on int32 is too small.
        b: (..., k, n) int8; the leading dimensions broadcast.

    Returns:
        (..., m, n) int32, contiguous.
    """
    # PyTorch's own product is wrong where b is the transposed view of a single column.
    if b.dim() == 2 and a.shape[-1] > 1 and a.numel() and b.numel() and _int_mm_is_exact():
        rows = a.reshape(-1, a.shape[-1])
        return torch._int_mm(rows, b).reshape(*a.shape[:-1], b.shape[-1])
    return product_in_float32(a, b)


def product_in_float32(a: Tensor, b: Tensor) -> Tensor:
    """Return what `integer_product` does, by products of float32 matrices that are exact by their size."""
    shape = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])  # type: ignore[no-untyped-call, unused-ignore]
    total = torch.zeros((*shape, a.shape[-2], b.shape[-1]), dtype=torch.int32)
    for start in range(0, a.shape[-1], _EXACT):
        end = start + _EXACT
        total += (a[..., start:end].float() @ b[..., start:end, :].float()).int()
    return total


@functools.cache
def _int_mm_is_exact() -> bool:
    """Tell whether PyTorch's own product is exact: on processors without VNNI, oneDNN's may saturate at 16 bits."""
    for left in (-128, 127):
        for right in (-128, 127):
            for m in (1, 33):
                a = torch.full((m, 192), left, dtype=torch.int8)
                b = torch.full((192, 64), right, dtype=torch.int8)
                if not (torch._int_mm(a, b) == 192 * left * right).all():
                    return False
    return True
