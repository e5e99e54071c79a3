"""Running the experts: sort the tokens by expert, two grouped products with an activation between, add up.

The tokens are sorted by npu_moe_init_routing_v2, multiplied by npu_grouped_matmul, and brought back by
npu_moe_token_unpermute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ascend_overlay import npu

npu.load("npu_moe_init_routing_v2", "npu_grouped_matmul", "npu_moe_token_unpermute")

Activation = Callable[[Tensor], Tensor]


class SortedTokens(NamedTuple):
    """Tokens sorted by expert, each as often as it has experts.

    Attributes:
        rows: (num_tokens * k, hidden).
        scale: (num_tokens * k,), float32: of each row, where they are quantized.
        places: (num_tokens * k,), int32: in which row each token and choice is.
        counts: (num_experts,), int64: rows of each expert here.
        partial: whether experts of the tokens may be elsewhere: their rows come after those of `counts`.
    """

    rows: Tensor
    scale: Tensor
    places: Tensor
    counts: Tensor
    partial: bool


def sort_by_expert(
    x: Tensor, experts: Tensor, num_experts: int, expert_map: Tensor | None, *, quantized: bool = False
) -> SortedTokens:
    """Sort the tokens by expert.

    Args:
        x: (num_tokens, hidden); float16, bfloat16 or float32.
        experts: (num_tokens, k), int32.
        num_experts: how many experts are here.
        expert_map: (all experts,), int: the number that an expert has here, -1 where it is elsewhere; None: all are
            here. With a map, an expert of -1 is none.
        quantized: quantize each token to int8 by its largest element.
    """
    groups = num_experts
    if expert_map is not None:
        # What is elsewhere becomes one more expert, the last one. Otherwise the operator would mark it by -1, which
        # npu_moe_token_unpermute does not take.
        here = expert_map[experts]
        experts = torch.where((experts < 0) | (here < 0), num_experts, here).to(torch.int32)
        groups += 1
    rows, places, counts, scale = torch.ops.npu.npu_moe_init_routing_v2.default(
        x,
        experts,
        expert_num=groups,
        expert_tokens_num_type=1,
        expert_tokens_num_flag=True,
        quant_mode=1 if quantized else -1,
        active_expert_range=[0, groups],
    )
    if expert_map is None:
        return SortedTokens(rows, scale, places, counts, partial=False)
    return SortedTokens(rows, scale, places, counts[:num_experts], partial=True)


def add_up(rows: Tensor, tokens: SortedTokens, weights: Tensor | None) -> Tensor:
    """Return for each token the sum of its rows.

    Args:
        rows: (num_tokens * k, hidden), in the order of `tokens`.
        tokens: what the rows are of.
        weights: (num_tokens, k), float: of each expert of a token; None stands for ones, and k is 1.
    """
    if tokens.partial:
        # No product was computed for the rows of other ranks: they hold anything, or nothing finite.
        beyond = torch.arange(rows.shape[0], device=rows.device) >= tokens.counts.sum()
        rows = rows.masked_fill(beyond.unsqueeze(-1), 0)
    total: Tensor = torch.ops.npu.npu_moe_token_unpermute.default(rows, tokens.places, weights)
    return total


def float_experts(
    x: Tensor,
    experts: Tensor,
    weights: Tensor | None,
    w13: Tensor,
    w2: Tensor,
    activation: Activation,
    *,
    expert_map: Tensor | None = None,
    bias13: Tensor | None = None,
    bias2: Tensor | None = None,
) -> Tensor:
    """Return for each token the weighted sum of what its experts make of it, ``activation(x @ w13) @ w2``.

    Args:
        x: (num_tokens, hidden); float16, bfloat16 or float32.
        experts: (num_tokens, k), int32.
        weights: (num_tokens, k), float; None: ones, with k 1.
        w13: (num_experts, hidden, intermediate), or twice that for a gated activation; dtype of `x`.
        w2: (num_experts, intermediate, hidden); dtype of `x`.
        activation: takes rows as `w13` makes them, returns them as `w2` takes them.
        expert_map: see `sort_by_expert`.
        bias13: (num_experts, columns of w13), any float dtype.
        bias2: (num_experts, hidden), any float dtype.

    Returns:
        (num_tokens, hidden), dtype of `x`. Experts that are not here add nothing.
    """
    tokens = sort_by_expert(x, experts, w13.shape[0], expert_map)
    hidden = activation(_float_product(tokens.rows, w13, bias13, tokens.counts))
    return add_up(_float_product(hidden, w2, bias2, tokens.counts), tokens, weights)


def list_type(counts: Tensor) -> int:
    """Return as what npu_grouped_matmul takes the rows of each expert: as sizes, 1, or as ends, 0.

    It takes no single size; the only group ends at its size.
    """
    return 0 if counts.shape[0] == 1 else 1


def _float_product(rows: Tensor, weight: Tensor, bias: Tensor | None, counts: Tensor) -> Tensor:
    product: Tensor = torch.ops.npu.npu_grouped_matmul.default(
        [rows],
        [weight],
        bias=_bias(bias, rows),
        split_item=2,
        group_type=0,
        group_list=counts,
        group_list_type=list_type(counts),
    )[0]
    return product


def _bias(bias: Tensor | None, x: Tensor) -> list[Tensor] | None:
    # The operator takes float16 with float16, and float32 with the others.
    return None if bias is None else [bias.to(torch.float16 if x.dtype == torch.float16 else torch.float32)]
