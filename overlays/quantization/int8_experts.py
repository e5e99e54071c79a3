"""The arithmetic of experts with int8 inputs, a scale for each token, and weights of 8 or 4 bits by channel.

x_q, s_x = round(x / s_x), max|x| / 127
h = (x_q @ W13) * s_13 * s_x
a = activation(h)
a_q, s_a = round(a / s_a), max|a| / 127
y = (a_q @ W2) * s_2 * s_a

Of weights of 4 bits, what the operator takes from x_q and a_q for its matrix unit is given back by a bias, 8 times the
sum of a column's weights.

h, a and y are in the dtype of the activations, and the y of a token's experts are added up by their weights. Where one
operator computes a and quantizes it, a is not rounded in between; where it computes h, too, neither is h.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ascend_overlay import npu
from ascend_overlay.npu.moe.activation import Activation
from ascend_overlay.npu.moe.experts import add_up, list_type, sort_by_expert

npu.load("npu_dynamic_quant", "npu_dequant_swiglu_quant", "npu_grouped_matmul")

_WIDEST = 8192
"""Columns of h, for which npu_dequant_swiglu_quant has room whatever the number of rows."""


def int8_experts(
    x: Tensor,
    experts: Tensor,
    weights: Tensor | None,
    w13: Tensor,
    scale13: Tensor,
    w2: Tensor,
    scale2: Tensor,
    activation: Activation,
    *,
    bias13: Tensor | None = None,
    bias2: Tensor | None = None,
    swiglu: bool = False,
    fused: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
    expert_map: Tensor | None = None,
) -> Tensor:
    """Return for each token the weighted sum of what its experts make of it.

    Args:
        x: (num_tokens, hidden); float16 or bfloat16.
        experts: (num_tokens, k), int32.
        weights: (num_tokens, k), float; None: ones, with k 1.
        w13: (num_experts, hidden, columns), int8; or (num_experts, hidden, columns / 8), int32, of 4 bits.
        scale13: (num_experts, columns); bfloat16 with bfloat16, float32 with float16. Of weights of 4 bits
            (num_experts, 1, columns), int64 with the bits of float32.
        w2: (num_experts, intermediate, hidden), int8; or int32 as `w13`.
        scale2: (num_experts, hidden), or with a dimension of 1 as `scale13`; dtype of that.
        activation: takes rows of `columns`, returns rows of `intermediate`.
        bias13: (num_experts, columns), float32, of weights of 4 bits; of others None.
        bias2: (num_experts, hidden), the same.
        swiglu: it is that of npu_swiglu.
        fused: computes a_q and s_a of the rows, `w13`, s_x and the sizes of the experts; None: in steps.
        expert_map: see ascend_overlay.npu.moe.experts.sort_by_expert.

    Returns:
        (num_tokens, hidden), dtype of `x`. Experts that are not here add nothing.
    """
    tokens = sort_by_expert(x, experts, w13.shape[0], expert_map, quantized=True)
    if fused is not None:
        quantized, scale = fused(tokens.rows, w13, tokens.scale, tokens.counts)
        return add_up(_product(quantized, scale, w2, scale2, bias2, tokens.counts, x.dtype), tokens, weights)
    hidden = _product(tokens.rows, tokens.scale, w13, scale13, bias13, tokens.counts, x.dtype)
    # torch_npu documents bfloat16; of float16 it says two things.
    if swiglu and hidden.dtype == torch.bfloat16 and hidden.shape[1] <= _WIDEST:
        quantized, scale = torch.ops.npu.npu_dequant_swiglu_quant.default(hidden, activate_left=True, quant_mode=1)
    else:
        quantized, scale = torch.ops.npu.npu_dynamic_quant.default(activation(hidden))
    return add_up(_product(quantized, scale, w2, scale2, bias2, tokens.counts, x.dtype), tokens, weights)


def _product(
    rows: Tensor,
    scale: Tensor,
    weight: Tensor,
    channels: Tensor,
    bias: Tensor | None,
    counts: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    product: Tensor = torch.ops.npu.npu_grouped_matmul.default(
        [rows],
        [weight],
        bias=None if bias is None else [bias],
        scale=[channels],
        per_token_scale=[scale],
        split_item=2,
        group_type=0,
        group_list=counts,
        group_list_type=list_type(counts),
        output_dtype=dtype,
    )[0]
    return product
