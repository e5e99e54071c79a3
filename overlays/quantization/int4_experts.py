"""The arithmetic of experts with weights of 4 bits, and inputs as they are.

h = x @ ((W13 + o_13) * s_13)
y = activation(h) @ ((W2 + o_2) * s_2)

Scales and offsets are those of a column and a group of inputs. h and y are in the dtype of the activations, and the y
of a token's experts are added up by their weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ascend_overlay import npu
from ascend_overlay.npu.moe.activation import Activation
from ascend_overlay.npu.moe.experts import add_up, list_type, sort_by_expert
from ascend_overlay.npu.reference.moe_matmul_checks import PACKED

npu.load("npu_grouped_matmul")


def int4_experts(
    x: Tensor,
    experts: Tensor,
    weights: Tensor | None,
    w13: tuple[Tensor, Tensor, Tensor],
    w2: tuple[Tensor, Tensor, Tensor],
    activation: Activation,
    *,
    expert_map: Tensor | None = None,
) -> Tensor:
    """Return for each token the weighted sum of what its experts make of it.

    Args:
        x: (num_tokens, hidden); float16 or bfloat16.
        experts: (num_tokens, k), int32.
        weights: (num_tokens, k), float; None: ones, with k 1.
        w13: weight (num_experts, hidden, columns / 8), int32; scales and offsets (num_experts, groups, columns), dtype
            of `x`.
        w2: the same of (intermediate, hidden).
        activation: takes rows of `columns`, returns rows of `intermediate`.
        expert_map: see ascend_overlay.npu.moe.experts.sort_by_expert.

    Returns:
        (num_tokens, hidden), dtype of `x`. Experts that are not here add nothing.
    """
    tokens = sort_by_expert(x, experts, w13[0].shape[0], expert_map)
    hidden = activation(_product(tokens.rows, w13, tokens.counts))
    return add_up(_product(hidden, w2, tokens.counts), tokens, weights)


def _product(rows: Tensor, weight: tuple[Tensor, Tensor, Tensor], counts: Tensor) -> Tensor:
    product: Tensor = torch.ops.npu.npu_grouped_matmul.default(
        [rows],
        [weight[0]],
        antiquant_scale=[weight[1]],
        antiquant_offset=[weight[2]],
        split_item=2,
        group_type=0,
        group_list=counts,
        group_list_type=list_type(counts),
    )[0]
    return product


def repacked(rows: Tensor) -> Tensor:
    """Return weights as npu_grouped_matmul takes them.

    Args:
        rows: (experts, outputs, inputs / 8), int32: of neighbouring inputs, each number plus 8, the first in the lowest
            bits.

    Returns:
        (experts, inputs, outputs / 8), int32: of neighbouring outputs, each number as it is.
    """
    shifts = torch.arange(0, 32, 4, dtype=torch.int32, device=rows.device)
    columns = torch.empty(
        (rows.shape[0], rows.shape[2] * PACKED, rows.shape[1] // PACKED), dtype=torch.int32, device=rows.device
    )
    # One expert after the other, since the numbers take eight times the memory.
    for expert, packed in zip(columns, rows, strict=True):
        numbers = (((packed.unsqueeze(-1) >> shifts) & 15) - 8).flatten(-2).t()
        bits = (numbers.reshape(len(numbers), -1, PACKED) & 15).long() << shifts
        expert.copy_(bits.sum(-1).to(torch.int32))
    return columns
