"""Matrix products of groups of rows, each with a weight of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, relu, silu

from ascend_overlay.npu.kernel import ReferenceKernel
from ascend_overlay.npu.reference.checks import refuse
from ascend_overlay.npu.reference.constants import kept
from ascend_overlay.npu.reference.integers import integer_product
from ascend_overlay.npu.reference.moe_matmul_checks import NAME, Call, check, dtype_of, group_sizes
from ascend_overlay.npu.reference.quantization import carried_scale, to_int8

Tensors = Sequence[Tensor]

_MOST_COPIED = 1 << 19
"""Elements of weights that are copied to the rows."""

_ACTIVATIONS: dict[int, Callable[[Tensor], Tensor]] = {
    1: relu,
    2: lambda x: gelu(x, approximate="tanh"),
    4: lambda x: x * torch.sigmoid(1.702 * x),
    5: silu,
}


# PyTorch writes to `out` only where no gradients are wanted.
@torch.no_grad()
def npu_grouped_matmul(x: Tensors, weight: Tensors, **options: Any) -> list[Tensor]:
    """Return ``x_i @ weight_i`` for each group i.

    Three kinds of products, with what is rounded once at the end, to the dtype of the result:

    - float: ``x @ w + bias``; all of one dtype, bias of float16 with float16, else of float32.
    - int8 by int8, added up in int32: ``act((x @ w + bias) * scale * per_token_scale)``, bias of int32. The result is
      bfloat16 with a scale of bfloat16, float16 with one of float32, and int8 (rounded to the nearest, ties to even,
      saturated) with one of int64, as npu_trans_quant_param makes it. Without a scale, and with output_dtype int32, it
      is the sum itself.
    - int8 weight: ``x @ ((w + antiquant_offset) * antiquant_scale) + bias``; x of float16 or bfloat16.

    A Python loop over the groups is what a grouped product is on a CPU; groups without rows cost nothing. Only where
    the weights are small is there none: then each row gets a copy of its weight, for one batched product, since PyTorch
    takes longer to start a product in bfloat16 than to compute a small one.

    Args:
        x: group_type 0: tensors (rows, k), of which all rows together are split into groups; or -1: one tensor a
            group, of 2 to 6 dimensions.
        weight: [(groups, k, n)], or a tensor (k, n) a group. It may be a transposed view.
        **options: those of torch_npu, all of them by keyword:
            bias, scale, antiquant_scale, antiquant_offset: lists as long as `weight`; (groups, n) for a weight of
                three dimensions, else (n,) each.
            per_token_scale: list as long as `x`, float32, (rows,) each.
            group_list: (groups,), int64; None for group_type -1. Where it covers less than all rows, the rest of the
                result, which an NPU leaves undefined, is zero here. (torch_npu documents that it covers all rows; less
                is what npu_moe_init_routing_v2 with an active_expert_range leads to.)
            group_list_type: 0: group_list holds the end of each group; 1: its size.
            group_type: 0: the rows of x are grouped; -1: they are not. Nothing else is supported.
            split_item: 2 or 3: one result, for group_type 0; 0 or 1: a result a group, for -1.
            act_type: of int8 products with a per_token_scale; 0: none, 1: ReLU, 2: GELU (tanh), 4: fast GELU, 5: SiLU.
            output_dtype: dtype of the result, or its number; None: that of `x`.
            offset, activation_input, activation_quant_scale, activation_quant_offset and the four dtypes of packed
                numbers: None. tuning_config: not used.

    Returns:
        One tensor (rows, n), or one a group.

    Raises:
        RuntimeError: a shape, dtype or mode that the NPU does not take, or a packed dtype (int4, float4, float8), which
            has no reference kernel.
    """
    call = check(x, weight, options)
    if call.group_type == -1:
        return [_ungrouped(call, i) for i in range(len(x))]
    rows = call.x[0] if len(x) == 1 else torch.cat(tuple(x))
    sizes = group_sizes(call, rows.shape[0])
    return [_grouped(call, rows, sizes)]


def _grouped(call: Call, rows: Tensor, sizes: list[int]) -> Tensor:
    covered = sum(sizes)
    if call.kind == "float" and call.stacked and covered == rows.shape[0] > 0:
        weight = call.weight[0]
        if covered * weight.shape[1] * weight.shape[2] <= _MOST_COPIED:
            return _copied(call, rows, weight, sizes)
    accumulator = torch.int32 if call.kind == "int8" else call.dtype
    out = torch.empty(rows.shape[0], call.n, dtype=accumulator, device=rows.device)
    for i, start, end in _spans(sizes):
        _product(call, rows[start:end], i, out[start:end])
    if covered < rows.shape[0]:
        out[covered:] = 0
    if call.kind == "int8":
        counts = torch.tensor(sizes, device=rows.device)
        tokens = None if call.per_token_scale is None else torch.cat(tuple(call.per_token_scale))[:covered]

        def of_rows(values: Tensors) -> Tensor:
            stacked = values[0] if values[0].dim() == 2 else torch.stack(tuple(values))
            return stacked.repeat_interleave(counts, 0)

        bias = None if call.bias is None else of_rows(call.bias)
        scale = None if call.scale is None else of_rows(call.scale)
        scaled = _scaled(call, out[:covered], bias, scale, tokens)
        if scaled.dtype == out.dtype:
            out[:covered] = scaled
            return out
        return torch.cat((scaled, scaled.new_zeros(rows.shape[0] - covered, call.n)))
    return out


def _copied(call: Call, rows: Tensor, weight: Tensor, sizes: list[int]) -> Tensor:
    groups = _groups(tuple(sizes))
    # The order in memory that is quick to copy.
    if weight.stride(1) == 1:
        weight = weight.transpose(1, 2).index_select(0, groups).transpose(1, 2)
    else:
        weight = weight.index_select(0, groups)
    if call.bias is None and _at_home(call.dtype):
        # PyTorch adds up in float32 and rounds once.
        return torch.bmm(rows.unsqueeze(1), weight).squeeze(1)
    product = torch.bmm(rows.float().unsqueeze(1), weight.float()).squeeze(1)
    if call.bias is not None:
        product += call.bias[0].index_select(0, groups)
    return product.to(dtype=call.dtype)


@functools.cache
def _at_home(dtype: torch.dtype) -> bool:
    """Tell whether this machine multiplies `dtype` as quickly as float32; others are better converted."""
    if dtype == torch.bfloat16:
        return torch._C._has_mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


@kept(8)
def _groups(sizes: tuple[int, ...]) -> Tensor:
    """Return the group of each row. An expert's two products have the same."""
    return torch.tensor([group for group, size in enumerate(sizes) if size for _ in range(size)])


def _spans(sizes: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    start = 0
    for i, size in enumerate(sizes):
        if size:
            yield i, start, start + size
        start += size


def _ungrouped(call: Call, i: int) -> Tensor:
    x = call.x[i]
    rows = x.flatten(0, -2)
    accumulator = torch.int32 if call.kind == "int8" else call.dtype
    product = torch.empty(rows.shape[0], call.weight[i].shape[1], dtype=accumulator, device=x.device)
    _product(call, rows, i, product)
    if call.kind == "int8":
        bias, scale = (None if values is None else values[i] for values in (call.bias, call.scale))
        tokens = None if call.per_token_scale is None else call.per_token_scale[i].flatten()
        product = _scaled(call, product, bias, scale, tokens)
    return product.view(*x.shape[:-1], product.shape[1])


def _product(call: Call, x: Tensor, i: int, out: Tensor) -> None:
    """Write the product of group i: in int32, or finished."""
    weight = call.of_group(call.weight, i)
    if call.kind == "int8":
        out.copy_(integer_product(x, weight))
        return
    bias = None if call.bias is None else call.of_group(call.bias, i)
    if call.kind == "int8 weight":
        assert call.antiquant_offset is not None and call.antiquant_scale is not None
        offset, scale = call.of_group(call.antiquant_offset, i), call.of_group(call.antiquant_scale, i)
        weight = (weight.float() + offset.float()) * scale.float()
    elif bias is None and not _slow(x, weight):
        # PyTorch adds up in float32 and rounds once.
        torch.mm(x, weight, out=out)
        return
    product = x.float() @ weight.float()
    out.copy_(product if bias is None else product + bias.float())


def _slow(x: Tensor, weight: Tensor) -> bool:
    # Without instructions for float16, PyTorch's own product takes up to a hundred times that of a copy in float32.
    return x.dtype == torch.float16 and (x.shape[0] > 4 or weight.stride(0) != 1)


def _scaled(call: Call, product: Tensor, bias: Tensor | None, scale: Tensor | None, tokens: Tensor | None) -> Tensor:
    if bias is not None:
        product = product + bias
    if scale is None:
        return product
    if scale.dtype == torch.int64:
        scale = carried_scale(scale)
    result = product.float() * scale.float()
    if tokens is not None:
        result = result * tokens.unsqueeze(-1)
    if call.act_type:
        result = _ACTIVATIONS[call.act_type](result)
    return to_int8(result) if call.dtype == torch.int8 else result.to(call.dtype)


def _fake(x: Tensors, weight: Tensors, **options: Any) -> list[Tensor]:
    dtype = dtype_of(options.get("output_dtype"), x[0].dtype)
    if options.get("split_item") in (2, 3):
        return [x[0].new_empty((sum(t.shape[0] for t in x), weight[0].shape[-1]), dtype=dtype)]
    if len(x) != len(weight):
        refuse(NAME, f"there are {len(x)} tensors and {len(weight)} weights; without groups it takes one for each.")
    return [t.new_empty((*t.shape[:-1], w.shape[-1]), dtype=dtype) for t, w in zip(x, weight, strict=True)]


KERNELS = (
    ReferenceKernel(
        schema=(
            "npu_grouped_matmul(Tensor[] x, Tensor[] weight, *, Tensor[]? bias=None, Tensor[]? scale=None, "
            "Tensor[]? offset=None, Tensor[]? antiquant_scale=None, Tensor[]? antiquant_offset=None, "
            "Tensor[]? per_token_scale=None, Tensor? group_list=None, Tensor[]? activation_input=None, "
            "Tensor[]? activation_quant_scale=None, Tensor[]? activation_quant_offset=None, int? split_item=0, "
            "int? group_type=None, int? group_list_type=0, int? act_type=0, int[]? tuning_config=None, "
            "int? output_dtype=None, int? x_dtype=None, int? weight_dtype=None, int? scale_dtype=None, "
            "int? per_token_scale_dtype=None) -> Tensor[]"
        ),
        cpu=npu_grouped_matmul,
        fake=_fake,
        source=(
            "torch_npu 2.13 (schema, meta kernel, documentation inside the wheel; formula 3 there adds the scale per "
            "token, which is multiplied)"
        ),
    ),
)
