"""Matrix products of groups of rows, each with a weight of its own."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, relu, silu

from ascend_overlay.npu.kernel import ReferenceKernel
from ascend_overlay.npu.reference.checks import refuse
from ascend_overlay.npu.reference.integers import integer_product
from ascend_overlay.npu.reference.moe_matmul_checks import NAME, Call, check, columns_of, dtype_of, group_sizes
from ascend_overlay.npu.reference.quantization import carried_scale, to_int8

Tensors = Sequence[Tensor]
_Group = tuple[int, Tensor, Tensor]
"""The number of a group that has rows, these, and where their product goes."""

_FEW_ROWS = 2
"""Rows of 16 bits that PyTorch's own product multiplies with a transposed weight as quickly as it reads it."""
_SMALL = 1 << 19
"""Multiplications that take no longer in float32, conversions included, than oneDNN takes to begin with 16 bits."""
_switching = threading.Lock()

_ACCUMULATORS = {"int8": torch.int32, "int8 by int4": torch.float32}
"""What products are before they are scaled, where that is not the dtype of the result."""

_ACTIVATIONS: dict[int, Callable[[Tensor], Tensor]] = {
    1: relu,
    2: lambda x: gelu(x, approximate="tanh"),
    4: lambda x: x * torch.sigmoid(1.702 * x),
    5: silu,
}


def npu_grouped_matmul(x: Tensors, weight: Tensors, **options: Any) -> list[Tensor]:
    """Return ``x_i @ weight_i`` for each group i.

    Five kinds of products, with what is rounded once at the end, to the dtype of the result:

    - float: ``x @ w + bias``; all of one dtype, bias of float16 with float16, else of float32.
    - int8 by int8, added up in int32: ``act((x @ w + bias) * scale * per_token_scale)``, bias of int32. The result is
      bfloat16 with a scale of bfloat16, float16 with one of float32, and int8 (rounded to the nearest, ties to even,
      saturated) with one of int64, as npu_trans_quant_param makes it. Without a scale, and with output_dtype int32, it
      is the sum itself.
    - int8 weight: ``x @ ((w + antiquant_offset) * antiquant_scale) + bias``; x of float16 or bfloat16.
    - int4 weight: the same; int32 that hold eight numbers of 4 bits each, of neighbouring columns, the first in the
      lowest bits. Scales and offsets may also be those of equal parts of the inputs: (groups, parts, n).
    - int8 by int4: ``(((x - 8) @ w) * scale + bias) * per_token_scale``; x of int8, and the bias, of float32, is
      ``8 * sum over k of w * scale``, so that the result is ``(x @ w) * scale * per_token_scale``. The scale is an
      int64 with the bits of float32 in its low word, (groups, 1, n), or one for every 256 inputs; the result bfloat16
      or float16. A bias that is not that sum makes a result that is none, here as on an NPU.

    Of the last, CANN (aclnnGroupedMatmulV5, which calls it A8W4) documents formula, bias, dtypes, shapes and the most
    inputs; torch_npu's text has int4 weights without it. Not documented, but in the source of CANN: the matrix unit
    multiplies numbers of 4 bits alone, so x is taken apart into ``16 * h + l + 8``, h = floor(x / 16), with l from -8
    to 7; h and l are multiplied, and the 8 is left to the bias. So is that inputs are a multiple of 64. Derived: what
    the products of h and l are rounded to in between (float16, by a scale of which the matrix unit reads 19 bits) is no
    part of the formula, and is not done here; a card may be off by that.

    A Python loop over the groups is what a grouped product is on a CPU; groups without rows cost nothing. PyTorch's own
    grouped_mm is such a loop, too, and not quicker.

    Args:
        x: group_type 0: tensors (rows, k), of which all rows together are split into groups; or -1: one tensor a
            group, of 2 to 6 dimensions.
        weight: [(groups, k, n)], or a tensor (k, n) a group. It may be a transposed view.
        **options: those of torch_npu, all of them by keyword:
            bias, scale, antiquant_scale, antiquant_offset: lists as long as `weight`; (groups, n) for a weight of
                three dimensions, else (n,) each, where the kind does not say otherwise.
            per_token_scale: list as long as `x`, float32, (rows,) each.
            group_list: (groups,), int64; None for group_type -1. Where it covers less than all rows, the rest of the
                result, which an NPU leaves undefined, is zero here. (torch_npu documents that it covers all rows; less
                is what npu_moe_init_routing_v2 with an active_expert_range leads to.)
            group_list_type: 0: group_list holds the end of each group; 1: its size, which int8 by int4 takes alone.
            group_type: 0: the rows of x are grouped; -1: they are not. Nothing else is supported.
            split_item: 2 or 3: one result, for group_type 0; 0 or 1: a result a group, for -1.
            act_type: of int8 products with a per_token_scale; 0: none, 1: ReLU, 2: GELU (tanh), 4: fast GELU, 5: SiLU.
            output_dtype: dtype of the result, or its number; None: that of `x`.
            offset, activation_input, activation_quant_scale, activation_quant_offset and the four dtypes of packed
                numbers: None. tuning_config: not used.

    Returns:
        One tensor (rows, n), or one a group.

    Raises:
        RuntimeError: a shape, dtype or mode that the NPU does not take, or a packed dtype (float4, float8), which has
            no reference kernel.
    """
    if torch.is_grad_enabled():
        # PyTorch writes to `out` only where no gradients are wanted.
        with torch.no_grad():
            return _products(x, weight, options)
    return _products(x, weight, options)


def _products(x: Tensors, weight: Tensors, options: Mapping[str, Any]) -> list[Tensor]:
    call = check(x, weight, options)
    if call.group_type == -1:
        return [_ungrouped(call, i) for i in range(len(x))]
    rows = call.x[0] if len(x) == 1 else torch.cat(tuple(x))
    sizes = group_sizes(call, rows.shape[0])
    return [_grouped(call, rows, sizes)]


def _grouped(call: Call, rows: Tensor, sizes: list[int]) -> Tensor:
    covered = sum(sizes)
    out = rows.new_empty((rows.shape[0], call.n), dtype=_ACCUMULATORS.get(call.kind, call.dtype))
    filled = [i for i, size in enumerate(sizes) if size]
    parts = [*[sizes[i] for i in filled], rows.shape[0] - covered]
    few: list[_Group] = []
    others: list[_Group] = []
    most = _FEW_ROWS if call.kind == "float" and call.bias is None and call.transposed else 0
    for i, x, product in zip(filled, rows.split_with_sizes(parts), out.split_with_sizes(parts), strict=False):
        (few if sizes[i] <= most else others).append((i, x, product))
    if few:
        _multiply_few(call, few)
    for i, x, product in others:
        _product(call, x, i, product)
    if covered < rows.shape[0]:
        out[covered:] = 0
    if call.kind == "int8 by int4":
        assert call.per_token_scale is not None
        out[:covered] *= call.per_token_scale[0][:covered].unsqueeze(-1)
        return out.to(call.dtype)
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


def _multiply_few(call: Call, groups: list[_Group]) -> None:
    """Write the products of few rows each by PyTorch's own product, which reads a weight and does not pack it first.

    oneDNN, which multiplies otherwise, is switched for the whole process: the threads that do so take turns.
    """
    with _switching:
        enabled = torch._C._get_mkldnn_enabled()
        torch._C._set_mkldnn_enabled(False)
        try:
            for i, x, out in groups:
                torch.mm(x, call.of_group(call.weight, i), out=out)
        finally:
            torch._C._set_mkldnn_enabled(enabled)


def _ungrouped(call: Call, i: int) -> Tensor:
    x = call.x[i]
    rows = x.flatten(0, -2)
    accumulator = _ACCUMULATORS.get(call.kind, call.dtype)
    product = torch.empty(rows.shape[0], columns_of(call.weight[i]), dtype=accumulator, device=x.device)
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
    if call.kind == "int8 by int4":
        assert call.scale is not None and call.bias is not None
        out.copy_(_int8_by_int4(x, weight, call.scale[0][i], call.bias[0][i]))
        return
    bias = None if call.bias is None else call.of_group(call.bias, i)
    if call.kind in ("int8 weight", "int4 weight"):
        assert call.antiquant_offset is not None and call.antiquant_scale is not None
        offset, scale = call.of_group(call.antiquant_offset, i), call.of_group(call.antiquant_scale, i)
        if call.kind == "int4 weight":
            weight = unpacked(weight)
        if scale.dim() == 2:
            scale, offset = (values.repeat_interleave(len(weight) // len(values), 0) for values in (scale, offset))
        weight = (weight.float() + offset.float()) * scale.float()
    elif bias is None:
        _multiply(x, weight, out)
        return
    product = x.float() @ weight.float()
    out.copy_(product if bias is None else product + bias.float())


def _int8_by_int4(x: Tensor, packed: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Return ``((x - 8) @ w) * scale + bias`` in float64, which holds sums and their scaled values as they are."""
    weight = unpacked(packed).to(torch.int8)
    length = len(weight) // len(scale)
    total = bias.double().expand(len(x), -1)
    for part, factor in enumerate(_float32_in(scale).double()):
        inputs = slice(part * length, (part + 1) * length)
        sums = integer_product(x[:, inputs], weight[inputs]) - 8 * weight[inputs].sum(0, dtype=torch.int32)
        total = total + sums.double() * factor
    return total


def _float32_in(carrier: Tensor) -> Tensor:
    """Return the float32 numbers whose bits are the low words of an int64."""
    low = carrier & 0xFFFFFFFF
    return torch.where(low >= 2**31, low - 2**32, low).int().view(torch.float32)


def unpacked(weight: Tensor) -> Tensor:
    """Return the numbers of 4 bits that int32 hold: (..., 8 * columns), int32 from -8 to 7."""
    shifts = torch.arange(28, -1, -4, dtype=torch.int32, device=weight.device)
    # To the highest bits and back, which brings the sign along.
    return ((weight.unsqueeze(-1) << shifts) >> 28).flatten(-2)


def _multiply(x: Tensor, weight: Tensor, out: Tensor) -> None:
    """Write the product of two matrices to `out`, all of one dtype, added up in float32 and rounded once."""
    if x.dtype == torch.float32 or (_at_home(x.dtype) and x.shape[0] * weight.numel() > _SMALL):
        torch.mm(x, weight, out=out)
    else:
        # Where oneDNN has no instructions for the dtype, PyTorch's own product takes up to a hundred times as long.
        out.copy_(x.float() @ weight.float())


@functools.cache
def _at_home(dtype: torch.dtype) -> bool:
    """Tell whether oneDNN multiplies a dtype of 16 bits on this machine."""
    if not torch._C._has_mkldnn:
        return False
    supported = {
        torch.bfloat16: torch.ops.mkldnn._is_mkldnn_bf16_supported,
        torch.float16: torch.ops.mkldnn._is_mkldnn_fp16_supported,
    }
    return bool(supported[dtype]())


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
        return [x[0].new_empty((sum(t.shape[0] for t in x), columns_of(weight[0])), dtype=dtype)]
    if len(x) != len(weight):
        refuse(NAME, f"there are {len(x)} tensors and {len(weight)} weights; without groups it takes one for each.")
    return [t.new_empty((*t.shape[:-1], columns_of(w)), dtype=dtype) for t, w in zip(x, weight, strict=True)]


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
            "token, which is multiplied); of int8 by int4, CANN aclnnGroupedMatmulV5 (formula, dtypes, shapes) and the "
            "source of its kernel"
        ),
    ),
)
