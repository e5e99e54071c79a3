"""The first product of int8 experts, the gated activation of it, and its quantization in one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ascend_overlay.npu.kernel import ReferenceKernel
from ascend_overlay.npu.reference.checks import dimensions, refuse
from ascend_overlay.npu.reference.integers import integer_product
from ascend_overlay.npu.reference.quantization import to_int8

_NAME = "npu_grouped_matmul_swiglu_quant_v2"
_ENDS, _SIZES = 0, 1
_INT8, _FLOAT32 = 1, 6
"""Numbers of dtypes."""
_LONGEST, _WIDEST = 65535, 10240
"""Elements of a row of x, and columns of a weight."""


def npu_grouped_matmul_swiglu_quant_v2(
    x: Tensor,
    weight: Sequence[Tensor],
    weight_scale: Sequence[Tensor],
    x_scale: Tensor,
    group_list: Tensor,
    *,
    smooth_scale: Tensor | None = None,
    weight_assist_matrix: Sequence[Tensor] | None = None,
    bias: Tensor | None = None,
    dequant_mode: int | None = 0,
    dequant_dtype: int | None = _FLOAT32,
    quant_mode: int | None = 0,
    quant_dtype: int | None = _INT8,
    group_list_type: int | None = _ENDS,
    tuning_config: Sequence[int] | None = None,
    x_dtype: int | None = None,
    weight_dtype: int | None = None,
    weight_scale_dtype: int | None = None,
    x_scale_dtype: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return, for the rows of each group i, ``a * sigmoid(a) * b`` quantized to int8 by rows, and the scales.

    a and b are the halves of ``(x @ weight_i) * weight_scale_i * x_scale``, which is not rounded. A row is divided by
    its largest element over 127; halves are rounded to even. A row of zeros has the scale 0, and zeros.

    Args:
        x: (rows, k), int8; k is at most 65535.
        weight: one tensor, (groups, k, 2 d), int8, on an NPU in FRACTAL_NZ; 2 d is at most 10240.
        weight_scale: one tensor, (groups, 2 d), float32.
        x_scale: (rows,), float32.
        group_list: (groups,), int64. The rows behind are not computed: here they become zeros, on an NPU they may be
            anything.
        smooth_scale: None, which is for weights of 4 bits, as the two that follow.
        weight_assist_matrix: None.
        bias: None; torch_npu takes no other.
        dequant_mode: 0, scales of channels and tokens.
        dequant_dtype: of the numbers in between, float32.
        quant_mode: 0, by rows.
        quant_dtype: int8.
        group_list_type: what group_list holds: 0, where each group ends; 1, how many rows it has.
        tuning_config: None.
        x_dtype: None, as the three that follow.
        weight_dtype: None.
        weight_scale_dtype: None.
        x_scale_dtype: None.

    Returns:
        y: (rows, d), int8.
        scale: (rows,), float32.

    Raises:
        RuntimeError: a shape, dtype or mode that the NPU does not take, or that is left out here.
    """
    left_out = (smooth_scale, weight_assist_matrix, bias, tuning_config)
    dtypes = (x_dtype, weight_dtype, weight_scale_dtype, x_scale_dtype)
    modes = (dequant_mode, dequant_dtype, quant_mode, quant_dtype)
    if any(value is not None for value in left_out + dtypes) or modes != (0, _FLOAT32, 0, _INT8):
        refuse(_NAME, "the reference kernel computes with int8 alone, without bias, by channels and tokens.")
    _check(x, weight, weight_scale, x_scale, group_list, group_list_type)
    ends: list[int] = (group_list.cumsum(0) if group_list_type == _SIZES else group_list).tolist()
    if sorted([0, *ends, len(x)]) != [0, *ends, len(x)]:
        refuse(
            _NAME, f"group_list holds {group_list.tolist()} for {len(x)} rows; no group may be negative or go beyond."
        )
    made = torch.zeros(len(x), weight[0].shape[2] // 2)
    for group, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        if start < end:
            sums = integer_product(x[start:end], weight[0][group]).float()
            first, second = (sums * weight_scale[0][group] * x_scale[start:end].unsqueeze(1)).chunk(2, -1)
            made[start:end] = torch.nn.functional.silu(first) * second
    scale = made.abs().amax(-1) / 127
    return to_int8(made / scale.unsqueeze(-1)), scale


def _check(
    x: Tensor,
    weight: Sequence[Tensor],
    weight_scale: Sequence[Tensor],
    x_scale: Tensor,
    group_list: Tensor,
    group_list_type: int | None,
) -> None:
    if len(weight) != 1 or len(weight_scale) != 1:
        refuse(_NAME, f"there are {len(weight)} weights and {len(weight_scale)} weight_scales; it takes one of each.")
    dimensions(_NAME, "x", x, (2,))
    dimensions(_NAME, "weight", weight[0], (3,))
    rows, (groups, length, columns) = len(x), weight[0].shape
    if x.dtype != torch.int8 or weight[0].dtype != torch.int8:
        refuse(_NAME, f"x is {x.dtype} and weight {weight[0].dtype}; the reference kernel takes int8 for both.")
    if x.shape[1] != length or length > _LONGEST or columns > _WIDEST or columns % 2 or not columns:
        text = f"x is {tuple(x.shape)} and weight {tuple(weight[0].shape)}"
        refuse(_NAME, f"{text}; it takes rows as long as a weight, to {_LONGEST}, and an even width to {_WIDEST}.")
    wanted = {
        "weight_scale": (weight_scale[0], (groups, columns), torch.float32),
        "x_scale": (x_scale, (rows,), torch.float32),
        "group_list": (group_list, (groups,), torch.int64),
    }
    for name, (tensor, shape, dtype) in wanted.items():
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            refuse(_NAME, f"{name} is {tuple(tensor.shape)} of {tensor.dtype}; it takes {shape} of {dtype}.")
    if group_list_type not in (_ENDS, _SIZES):
        refuse(_NAME, f"group_list_type is {group_list_type}; it takes 0 or 1.")


def _fake(
    x: Tensor, weight: Sequence[Tensor], weight_scale: Sequence[Tensor], *_: object, **options: object
) -> tuple[Tensor, Tensor]:
    width = weight_scale[0].shape[-1] // 2
    return x.new_empty((x.shape[0], width), dtype=torch.int8), x.new_empty(x.shape[:1], dtype=torch.float32)


KERNELS = (
    ReferenceKernel(
        schema=(
            f"{_NAME}(Tensor x, Tensor[] weight, Tensor[] weight_scale, Tensor x_scale, Tensor group_list, *, "
            "Tensor? smooth_scale=None, Tensor[]? weight_assist_matrix=None, Tensor? bias=None, int? dequant_mode=0, "
            "int? dequant_dtype=6, int? quant_mode=0, int? quant_dtype=1, int? group_list_type=0, "
            "int[]? tuning_config=None, int? x_dtype=None, int? weight_dtype=None, int? weight_scale_dtype=None, "
            "int? x_scale_dtype=None) -> (Tensor, Tensor)"
        ),
        cpu=npu_grouped_matmul_swiglu_quant_v2,
        fake=_fake,
        source=(
            "torch_npu 2.13 (schema, meta kernel, documentation inside the wheel), CANN aclnnGroupedMatmulSwigluQuant "
            "(formula, sizes)"
        ),
    ),
)
