"""Matrix products with quantized weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ascend_overlay.npu.kernel import ReferenceKernel
from ascend_overlay.npu.reference.checks import dimensions, refuse
from ascend_overlay.npu.reference.dtypes import dtype_argument
from ascend_overlay.npu.reference.integers import integer_product
from ascend_overlay.npu.reference.quantization import (
    carried_offset,
    carried_scale,
    npu_trans_quant_param,
    to_int8,
)

LONGEST = 65535
"""The last dimension of a matrix may have so many elements."""

_I8, _I32, _I64 = torch.int8, torch.int32, torch.int64
_F16, _BF16, _F32 = torch.float16, torch.bfloat16, torch.float32
_BLOCK = 1 << 18
"""Elements of a weight that are in float32 at one time."""


@dataclass(frozen=True)
class _Combination:
    """dtypes that go together, for an output dtype, with or without a scale per token."""

    scale: tuple[torch.dtype, ...]
    bias: tuple[torch.dtype, ...]
    offset: bool = False


# CANN's table for Atlas A2 and A3. Where it has int64 for the scale, torch_npu takes float32, too, and converts it.
_COMBINATIONS = {
    (_F16, False): _Combination(scale=(_I64, _F32), bias=(_I32,)),
    (_F16, True): _Combination(scale=(_F32,), bias=(_I32, _F16, _F32)),
    (_BF16, False): _Combination(scale=(_F32, _BF16), bias=(_I32, _BF16, _F32)),
    (_BF16, True): _Combination(scale=(_F32, _BF16), bias=(_I32, _BF16, _F32)),
    (_I8, False): _Combination(scale=(_I64, _F32), bias=(_I32,), offset=True),
    (_I32, False): _Combination(scale=(_F32, _BF16), bias=(_I32,)),
}


def npu_quant_matmul(
    x1: Tensor,
    x2: Tensor,
    scale: Tensor,
    *,
    offset: Tensor | None = None,
    pertoken_scale: Tensor | None = None,
    bias: Tensor | None = None,
    output_dtype: int | None = None,
    x1_dtype: int | None = None,
    x2_dtype: int | None = None,
    pertoken_scale_dtype: int | None = None,
    scale_dtype: int | None = None,
    group_sizes: list[int] | None = None,
    y_scale: Tensor | None = None,
) -> Tensor:
    """Return the product of two int8 matrices, scaled: exact in int32, then float32, rounded once.

    - int32 `bias`: ``(x1 @ x2 + bias) * scale * pertoken_scale``
    - floating `bias`: ``x1 @ x2 * scale * pertoken_scale + bias``
    - int8 output: ``round((x1 @ x2 + bias) * scale + offset)``, halves to even, limited to -128 .. 127
    - int32 output: ``x1 @ x2 + bias``

    What the matrix unit writes as float16 or int8 without a scale per token, it scales by 19 bits of the scale, whether
    that comes as an int64 of npu_trans_quant_param or as float32, which torch_npu converts.

    Args:
        x1: (..., m, k), 2 to 6 dimensions; int8; k up to 65535.
        x2: (..., k, n), 2 to 6 dimensions; int8; n up to 65535. The leading dimensions broadcast.
        scale: (1,) or (n,). float32 or bfloat16 for bfloat16 and int32, float32 or int64 for float16 and int8;
            float32 for float16 with `pertoken_scale`.
        offset: (1,) or (n,) float32; for int8.
        pertoken_scale: (m,) float32; for float16 and bfloat16.
        bias: (n,), for a result of 2 dimensions also (1, n), of 3 also (batch, 1, n). int32; for bfloat16 also bfloat16
            or float32; for float16 with `pertoken_scale` also float16 or float32.
        output_dtype: torch.float16, torch.bfloat16, torch.int8 or torch.int32; None stands for int8.
        x1_dtype, x2_dtype, pertoken_scale_dtype, scale_dtype, group_sizes, y_scale: None; for 4-bit and float8 numbers.

    Returns:
        (..., m, n) in `output_dtype`.

    Raises:
        RuntimeError: a shape or a combination of dtypes that the NPU does not take, or an argument that is not
            supported. torch_npu documents that no matrix may be empty, so a batch without tokens is refused, too.
    """
    extras = (x1_dtype, x2_dtype, pertoken_scale_dtype, scale_dtype, group_sizes, y_scale)
    dtype, _ = _check_quant_matmul(x1, x2, scale, offset, pertoken_scale, bias, output_dtype, extras)
    total = integer_product(x1, x2)
    if bias is not None and bias.dtype == _I32:
        total += bias
    if dtype == _I32:
        return total
    if dtype == _I8 or (dtype == _F16 and pertoken_scale is None):
        carried = scale if scale.dtype == _I64 else npu_trans_quant_param(scale)
        result = total.float().mul_(carried_scale(carried))
        if dtype == _I8:
            return to_int8(result + (carried_offset(carried) if offset is None else offset))
        return result.to(dtype)
    result = total.float().mul_(scale.float())
    if pertoken_scale is not None:
        result.mul_(pertoken_scale.unsqueeze(-1))
    if bias is not None and bias.dtype != _I32:
        result.add_(bias.float())
    return result.to(dtype)


# PyTorch writes to `out` only where no gradients are wanted.
@torch.no_grad()
def npu_weight_quant_batchmatmul(
    x: Tensor,
    weight: Tensor,
    antiquant_scale: Tensor,
    antiquant_offset: Tensor | None = None,
    quant_scale: Tensor | None = None,
    quant_offset: Tensor | None = None,
    bias: Tensor | None = None,
    antiquant_group_size: int = 0,
    inner_precise: int = 0,
    weight_dtype: int | None = None,
) -> Tensor:
    """Return ``x @ ((weight + antiquant_offset) * antiquant_scale) + bias``.

    Args:
        x: (m, k); float16 or bfloat16.
        weight: (k, n) int8; k and n up to 65535.
        antiquant_scale: dtype of `x`. One element, (n,) or (1, n); with groups (ceil(k / group size), n).
        antiquant_offset: shape and dtype of `antiquant_scale`.
        quant_scale: None; for an int8 result.
        quant_offset: None.
        bias: (n,) or (1, n), or one element; float32 for bfloat16, float16 for float16.
        antiquant_group_size: rows of `weight` that share a scale, a multiple of 32 below k; 0 for no groups.
        inner_precise: 0 or 1; changes nothing here.
        weight_dtype: None; for 4-bit numbers.

    Returns:
        (m, n) in the dtype of `x`.

    Raises:
        RuntimeError: a shape or dtype that the NPU does not take, or an argument that is not supported. torch_npu
            documents that no tensor may be empty, so a batch without tokens is refused, too.
    """
    extras = (quant_scale, quant_offset, weight_dtype)
    _check_weight_quant(x, weight, antiquant_scale, antiquant_offset, bias, antiquant_group_size, extras)
    left, n = x.float(), weight.shape[1]
    result = left.new_empty(x.shape[0], n)
    # Without offsets, a scale of a channel can as well come after the product, which has fewer elements.
    scaled_later = antiquant_offset is None and not antiquant_group_size
    rows = torch.arange(weight.shape[0]) // antiquant_group_size if antiquant_group_size else None
    # In float32, a weight is four times as large; of what is in the cache, that costs little.
    width = max(1, _BLOCK // weight.shape[0])
    for start in range(0, n, width):
        block = slice(start, start + width)
        dequantized = weight[:, block].float()
        if not scaled_later:
            if antiquant_offset is not None:
                dequantized += _columns(antiquant_offset, block, rows)
            dequantized *= _columns(antiquant_scale, block, rows)
        torch.mm(left, dequantized, out=result[:, block])
    if scaled_later:
        result *= antiquant_scale.float().flatten()
    if bias is not None:
        result += bias.float()
    return result.to(x.dtype)


def _columns(values: Tensor, block: slice, rows: Tensor | None) -> Tensor:
    if values.numel() == 1:
        return values.float().reshape(1)
    columns = values[..., block].float()
    return columns if rows is None else columns[rows]


def _check_quant_matmul(
    x1: Tensor,
    x2: Tensor,
    scale: Tensor,
    offset: Tensor | None,
    pertoken_scale: Tensor | None,
    bias: Tensor | None,
    output_dtype: int | None,
    extras: tuple[object, ...],
) -> tuple[torch.dtype, list[int]]:
    operator = "npu_quant_matmul"
    if any(extra is not None for extra in extras):
        refuse(
            operator,
            "without an NPU it takes int8 only: x1_dtype, x2_dtype, pertoken_scale_dtype, scale_dtype, "
            "group_sizes and y_scale must be None.",
        )
    for name, matrix in (("x1", x1), ("x2", x2)):
        dimensions(operator, name, matrix, range(2, 7))
        if matrix.dtype != _I8:
            refuse(operator, f"{name} is {matrix.dtype}; without an NPU it takes int8.")
        if matrix.shape[-1] > LONGEST:
            refuse(operator, f"the last dimension of {name} has {matrix.shape[-1]} elements; it takes {LONGEST}.")
    if x1.shape[-1] != x2.shape[-2]:
        refuse(operator, f"x1 is {tuple(x1.shape)} and x2 {tuple(x2.shape)}: k is {x1.shape[-1]} and {x2.shape[-2]}.")
    if not x1.numel() or not x2.numel():
        refuse(operator, f"x1 is {tuple(x1.shape)} and x2 {tuple(x2.shape)}; it takes no empty matrix.")
    try:
        batch = torch.broadcast_shapes(x1.shape[:-2], x2.shape[:-2])  # type: ignore[no-untyped-call, unused-ignore]
    except RuntimeError:
        refuse(operator, f"the leading dimensions of x1 {tuple(x1.shape)} and x2 {tuple(x2.shape)} do not broadcast.")
    m, n = x1.shape[-2], x2.shape[-1]
    dtype = dtype_argument(operator, "output_dtype", output_dtype, (_F16, _BF16, _I8, _I32), _I8)
    _check_combination(dtype, scale, offset, pertoken_scale, bias)
    for name, vector in (("scale", scale), ("offset", offset)):
        if vector is not None and list(vector.shape) not in ([1], [n]):
            refuse(operator, f"{name} has the shape {tuple(vector.shape)}; it takes (1,) or ({n},).")
    if pertoken_scale is not None and list(pertoken_scale.shape) != [m]:
        refuse(operator, f"pertoken_scale has the shape {tuple(pertoken_scale.shape)}; it takes ({m},).")
    if bias is not None:
        shapes: list[list[int]] = [[n]]
        if len(batch) == 0:
            shapes.append([1, n])
        elif len(batch) == 1:
            shapes.append([batch[0], 1, n])
        if list(bias.shape) not in shapes:
            refuse(operator, f"bias has the shape {tuple(bias.shape)}; it takes {' or '.join(map(str, shapes))}.")
    return dtype, [*batch, m, n]


def _check_combination(
    dtype: torch.dtype, scale: Tensor, offset: Tensor | None, pertoken_scale: Tensor | None, bias: Tensor | None
) -> None:
    operator = "npu_quant_matmul"
    per_token = pertoken_scale is not None
    known = _COMBINATIONS.get((dtype, per_token))
    what = f"an output of {dtype} {'with' if per_token else 'without'} pertoken_scale"
    if known is None:
        refuse(operator, f"there is no {what.removeprefix('an ')}; only float16 and bfloat16 are scaled by token.")
    if scale.dtype not in known.scale:
        refuse(operator, f"scale is {scale.dtype}; for {what} it takes {_listed(known.scale)}.")
    if pertoken_scale is not None and pertoken_scale.dtype != _F32:
        refuse(operator, f"pertoken_scale is {pertoken_scale.dtype}; it takes float32.")
    if bias is not None and bias.dtype not in known.bias:
        refuse(operator, f"bias is {bias.dtype}; for {what} it takes {_listed(known.bias)}.")
    if offset is not None and (not known.offset or offset.dtype != _F32):
        refuse(operator, f"offset is {offset.dtype} for {what}; it takes float32, and an output of int8.")


def _check_weight_quant(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    offset: Tensor | None,
    bias: Tensor | None,
    group: int,
    extras: tuple[object, ...],
) -> None:
    operator = "npu_weight_quant_batchmatmul"
    if any(extra is not None for extra in extras):
        refuse(operator, "without an NPU, quant_scale, quant_offset and weight_dtype must be None.")
    dimensions(operator, "x", x, [2])
    dimensions(operator, "weight", weight, [2])
    if x.dtype not in (_F16, _BF16):
        refuse(operator, f"x is {x.dtype}; it takes float16 or bfloat16.")
    if weight.dtype != _I8:
        refuse(operator, f"weight is {weight.dtype}; without an NPU it takes int8.")
    (k, n), m = weight.shape, x.shape[0]
    if x.shape[1] != k:
        refuse(operator, f"x is {tuple(x.shape)} and weight {tuple(weight.shape)}: k is {x.shape[1]} and {k}.")
    if not m or not 1 <= k <= LONGEST or not 1 <= n <= LONGEST:
        refuse(operator, f"x is {tuple(x.shape)} and weight {tuple(weight.shape)}; it takes 1 to {LONGEST} of k and n.")
    if group and (group % 32 or not 32 <= group < k):
        refuse(operator, f"antiquant_group_size is {group} for k = {k}; it takes a multiple of 32 below k.")
    shapes = [[-(-k // group), n]] if group else [[1], [1, 1], [n], [1, n]]
    if scale.dtype != x.dtype or list(scale.shape) not in shapes:
        refuse(
            operator,
            f"antiquant_scale is {scale.dtype} of the shape {tuple(scale.shape)}; it takes {x.dtype} of "
            f"{' or '.join(map(str, shapes))}.",
        )
    if offset is not None and (offset.dtype != scale.dtype or offset.shape != scale.shape):
        refuse(
            operator,
            f"antiquant_offset is {offset.dtype} of the shape {tuple(offset.shape)}; it takes dtype and "
            f"shape of antiquant_scale.",
        )
    if bias is not None:
        wanted = _F32 if x.dtype == _BF16 else _F16
        if bias.dtype != wanted or list(bias.shape) not in ([1], [n], [1, n]):
            refuse(
                operator,
                f"bias is {bias.dtype} of the shape {tuple(bias.shape)}; for an x of {x.dtype} it takes "
                f"{wanted} of [{n}] or [1, {n}].",
            )


def _listed(dtypes: tuple[torch.dtype, ...]) -> str:
    return " or ".join(map(str, dtypes))


def _fake_quant_matmul(
    x1: Tensor,
    x2: Tensor,
    scale: Tensor,
    *,
    offset: Tensor | None = None,
    pertoken_scale: Tensor | None = None,
    bias: Tensor | None = None,
    output_dtype: int | None = None,
    x1_dtype: int | None = None,
    x2_dtype: int | None = None,
    pertoken_scale_dtype: int | None = None,
    scale_dtype: int | None = None,
    group_sizes: list[int] | None = None,
    y_scale: Tensor | None = None,
) -> Tensor:
    extras = (x1_dtype, x2_dtype, pertoken_scale_dtype, scale_dtype, group_sizes, y_scale)
    dtype, shape = _check_quant_matmul(x1, x2, scale, offset, pertoken_scale, bias, output_dtype, extras)
    return x1.new_empty(shape, dtype=dtype)


def _fake_weight_quant(
    x: Tensor,
    weight: Tensor,
    antiquant_scale: Tensor,
    antiquant_offset: Tensor | None = None,
    quant_scale: Tensor | None = None,
    quant_offset: Tensor | None = None,
    bias: Tensor | None = None,
    antiquant_group_size: int = 0,
    inner_precise: int = 0,
    weight_dtype: int | None = None,
) -> Tensor:
    extras = (quant_scale, quant_offset, weight_dtype)
    _check_weight_quant(x, weight, antiquant_scale, antiquant_offset, bias, antiquant_group_size, extras)
    return x.new_empty(x.shape[0], weight.shape[1])


KERNELS = (
    ReferenceKernel(
        schema=(
            "npu_quant_matmul(Tensor x1, Tensor x2, Tensor scale, *, Tensor? offset=None, "
            "Tensor? pertoken_scale=None, Tensor? bias=None, int? output_dtype=None, int? x1_dtype=None, "
            "int? x2_dtype=None, int? pertoken_scale_dtype=None, int? scale_dtype=None, int[]? group_sizes=None, "
            "Tensor? y_scale=None) -> Tensor"
        ),
        cpu=npu_quant_matmul,
        fake=_fake_quant_matmul,
        source="torch_npu 2.13 (schema, meta kernel, documentation inside the wheel), CANN aclnnQuantMatmulV4 (dtypes)",
    ),
    ReferenceKernel(
        schema=(
            "npu_weight_quant_batchmatmul(Tensor x, Tensor weight, Tensor antiquant_scale, "
            "Tensor? antiquant_offset=None, Tensor? quant_scale=None, Tensor? quant_offset=None, Tensor? bias=None, "
            "int antiquant_group_size=0, int inner_precise=0, int? weight_dtype=None) -> Tensor"
        ),
        cpu=npu_weight_quant_batchmatmul,
        fake=_fake_weight_quant,
        source="torch_npu 2.13 (schema, meta kernel, documentation inside the wheel)",
    ),
)
