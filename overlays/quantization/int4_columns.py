"""Weights of 4 bits as npu_grouped_matmul takes them beside inputs of int8."""

from __future__ import annotations

import torch
from torch import Tensor

from ascend_overlay.npu.reference.moe_matmul_checks import PACKED


def packed_columns(rows: Tensor) -> Tensor:
    """Return weights as npu_grouped_matmul takes them.

    Args:
        rows: (experts, outputs / 2, inputs), int8: two neighbouring outputs each, the first in the lower bits.

    Returns:
        (experts, inputs, outputs / 8), int32: eight neighbouring outputs, the first in the lowest bits.
    """
    # The bytes of an int32 are those of four neighbours, the first the lowest, on every machine with an NPU.
    return rows.transpose(1, 2).clone(memory_format=torch.contiguous_format).view(torch.int32)


def carried(scale: Tensor) -> Tensor:
    """Return float32 scales, (experts, outputs, 1), as the operator takes them: their bits in int64 (experts, 1, n)."""
    return scale.transpose(1, 2).contiguous().view(torch.int32).to(torch.int64) & 0xFFFFFFFF


def sums(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each column the sum of its numbers, and that of their sizes: (experts, outputs), float32.

    Args:
        columns: what `packed_columns` returns.
    """
    shifts = torch.arange(28, -1, -4, dtype=torch.int32, device=columns.device)
    shape = (len(columns), columns.shape[2] * PACKED)
    total, size = (torch.empty(shape, dtype=torch.float32, device=columns.device) for _ in range(2))
    # One expert after the other, since the numbers take eight times the memory.
    for expert, packed in enumerate(columns):
        # To the highest bits and back, which brings the sign along.
        numbers = ((packed.unsqueeze(-1) << shifts) >> 28).flatten(-2)
        total[expert], size[expert] = numbers.sum(0).float(), numbers.abs().sum(0).float()
    return total, size
