"""Quantizing activations, and the form in which the NPU takes a scale.

NaN becomes 0 in a quantized tensor; infinity saturates where the scale is given, and becomes 0 where an infinite scale
is computed from it. The NPU's kernels leave both undefined.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ascend_overlay.npu.kernel import ReferenceKernel
from ascend_overlay.npu.reference.checks import dimensions, float_tensor, refuse
from ascend_overlay.npu.reference.dtypes import dtype_argument

_HALVES = (torch.float16, torch.bfloat16)
_ZERO_POINTS = (torch.int8, torch.uint8, torch.int32, torch.bfloat16)
_RANGES = {torch.int8: (-128, 127), torch.uint8: (0, 255), torch.int32: (-(2**31), 2**31 - 1)}
_OFFSET_BITS, _OFFSET_PLACE = 0x1FF, 37
_MARK = 1 << 46
_FP19 = 0xFFFFE000
"""Of the 32 bits of a scale that is carried in an int64, the 19 that the NPU reads: sign, exponent, 10 of mantissa."""


def npu_quantize(
    input: Tensor, scales: Tensor, zero_points: Tensor | None, dtype: int, axis: int = 1, div_mode: bool = True
) -> Tensor:
    """Return ``round(input / scales + zero_points)``, or ``round(input * scales + zero_points)``, within the dtype.

    Halves are rounded to even.

    Args:
        input: 1 to 8 dimensions; float16, bfloat16 or float32.
        scales: one element, or as many as `input` has along `axis`; 1-dimensional, or of the dimensions of `input`.
            With `div_mode` float32 or bfloat16, without it the dtype of `input`.
        zero_points: shape of `scales`. With `div_mode` int8, uint8, int32 or bfloat16, without it the dtype of
            `scales`.
        dtype: torch.qint8; with `div_mode` also torch.quint8 or torch.int32.
        axis: dimension that `scales` goes along. Without `div_mode`, -2 is the last but one and anything else the last.
        div_mode: divide by the scales.

    Returns:
        Shape of `input`; int8, uint8 or int32.

    Raises:
        RuntimeError: a shape, dtype or axis that the NPU does not take.
    """
    result = _check_quantize(input, scales, zero_points, dtype, axis, div_mode)
    along = _axis(input, axis, div_mode)
    factor = _spread(input, scales, along)
    value = input.float() / factor if div_mode else input.float() * factor
    if zero_points is not None:
        value += _spread(input, zero_points, along)
    return _rounded(value, torch.empty_like(input, dtype=result))


def npu_dynamic_quant(
    input: Tensor,
    *,
    smooth_scales: Tensor | None = None,
    group_index: Tensor | None = None,
    dst_type: int | None = None,
    quant_mode: str = "pertoken",
    dst_type_max: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Return (y, scale): ``scale = max(abs(row)) / 127`` and ``y = round(row / scale)`` for each row of `input`.

    Halves are rounded to even. A row of zeros has the scale 0, and zeros.

    Args:
        input: 2 to 8 dimensions; float16 or bfloat16.
        smooth_scales: what `input` is multiplied with before; its dtype. The length of a row; with `group_index`
            (groups, length of a row).
        group_index: int32, (groups,): where the rows of each group end, ascending, the last at the number of rows.
        dst_type: torch.int8; None stands for it.
        quant_mode: "pertoken".
        dst_type_max: 0.

    Returns:
        y: shape of `input`; int8.
        scale: shape of `input` without its last dimension; float32.

    Raises:
        RuntimeError: a shape or dtype that the NPU does not take, or an argument that is not supported.
    """
    _check_dynamic_quant(input, smooth_scales, group_index, dst_type, quant_mode, dst_type_max)
    value = input.float()
    if smooth_scales is not None and group_index is None:
        value = value * smooth_scales.float()
    elif smooth_scales is not None and group_index is not None:
        rows = torch.arange(value[..., 0].numel(), dtype=torch.int32)
        group = torch.searchsorted(group_index.contiguous(), rows, right=True)
        # Rows beyond the last end are undefined on the NPU; they take the last group here.
        chosen = smooth_scales.float()[group.clamp(max=len(group_index) - 1)]
        value = value * chosen.reshape(value.shape)
    scale = (value.abs().amax(-1) if value.shape[-1] else value.new_zeros(value.shape[:-1])) / 127
    y = _rounded(value / scale.unsqueeze(-1), torch.empty_like(input, dtype=torch.int8))
    return y, scale.contiguous()


def npu_trans_quant_param(scale: Tensor, offset: Tensor | None = None, round_mode: int | None = 0) -> Tensor:
    """Return `scale` as the int64 in which the NPU's matrix unit takes it where it writes float16 or int8.

    The low half carries the bits of the float32 number, of which the last 13 are cut off; bit 46 is set; bits 37 to 45
    carry `offset`, rounded and limited to -256 .. 255.

    Args:
        scale: (n,) or (1, n) float32.
        offset: (n,), or the shape of `scale`; float32.
        round_mode: 1 rounds to the 19 bits that stay, halves to even; 0 cuts.

    Returns:
        int64, in the shape of the longer one.

    Raises:
        RuntimeError: a shape or dtype that the NPU does not take.
    """
    shape = _check_trans_quant_param(scale, offset, round_mode)
    bits = scale.contiguous().view(torch.int32).long() & 0xFFFFFFFF
    if round_mode:
        bits = bits + 0xFFF + ((bits >> 13) & 1)
    carried = (bits & _FP19) | _MARK
    if offset is not None:
        whole = offset.round().nan_to_num(0.0).clamp(-256, 255).long()
        carried = carried | ((whole & _OFFSET_BITS) << _OFFSET_PLACE)
    return carried.expand(shape).clone(memory_format=torch.contiguous_format)


def carried_scale(scale: Tensor) -> Tensor:
    """Return the float32 numbers that `scale`, an int64 made by npu_trans_quant_param, carries for the matrix unit."""
    low = scale & _FP19
    return torch.where(low >= 2**31, low - 2**32, low).int().view(torch.float32)


def carried_offset(scale: Tensor) -> Tensor:
    """Return the offsets that `scale`, an int64 made by npu_trans_quant_param, carries, as float32."""
    bits = (scale >> _OFFSET_PLACE) & _OFFSET_BITS
    return torch.where(bits > 255, bits - 512, bits).float()


def to_int8(value: Tensor) -> Tensor:
    """Return float32 numbers rounded, halves to even, and limited to int8; NaN becomes 0."""
    return _rounded(value, torch.empty_like(value, dtype=torch.int8))


def _rounded(value: Tensor, out: Tensor) -> Tensor:
    low, high = _RANGES[out.dtype]
    if out.dtype == torch.int32:
        # float32 has no 2**31 - 1.
        value = value.double()
    return out.copy_(value.round().nan_to_num_(0.0, posinf=high, neginf=low).clamp_(low, high))


def _axis(input: Tensor, axis: int, div_mode: bool) -> int:
    if div_mode:
        return axis % input.dim()
    return input.dim() - 2 if axis == -2 else input.dim() - 1


def _spread(input: Tensor, values: Tensor, axis: int) -> Tensor:
    values = values.float()
    if values.dim() != 1:
        return values
    return values.reshape([-1 if place == axis else 1 for place in range(input.dim())])


def _check_quantize(
    input: Tensor, scales: Tensor, zero_points: Tensor | None, dtype: int, axis: int, div_mode: bool
) -> torch.dtype:
    operator = "npu_quantize"
    dimensions(operator, "input", input, range(1, 9))
    float_tensor(operator, "input", input)
    if div_mode and not -input.dim() <= axis < input.dim():
        refuse(operator, f"axis is {axis}, but input has {input.dim()} dimensions.")
    if not div_mode and (axis < -2 or axis >= input.dim() or (axis == -2 and input.dim() < 2)):
        refuse(operator, f"axis is {axis} for an input of {input.dim()} dimensions; it takes -2 or what exists.")
    allowed = (torch.float32, torch.bfloat16) if div_mode else (input.dtype,)
    if scales.dtype not in allowed:
        wanted = "float32 or bfloat16" if div_mode else f"that of the input, {input.dtype}"
        refuse(operator, f"scales is {scales.dtype}; with div_mode={div_mode} it takes {wanted}.")
    along = _axis(input, axis, div_mode)
    spread = [1] * input.dim()
    spread[along] = input.shape[along]
    if scales.numel() != 1 and list(scales.shape) not in ([input.shape[along]], spread):
        shapes = f"scales has the shape {tuple(scales.shape)} for an input of {tuple(input.shape)}"
        refuse(operator, f"{shapes}; it takes one element, or {input.shape[along]} along the dimension {along}.")
    if zero_points is not None:
        points = _ZERO_POINTS if div_mode else (scales.dtype,)
        if zero_points.shape != scales.shape or zero_points.dtype not in points:
            refuse(
                operator,
                f"zero_points is {zero_points.dtype} of the shape {tuple(zero_points.shape)}; it takes the shape of "
                f"scales, {tuple(scales.shape)}, and {' or '.join(map(str, points))}.",
            )
    kinds = (torch.qint8, torch.quint8, torch.int32) if div_mode else (torch.qint8,)
    chosen = dtype_argument(operator, "dtype", dtype, kinds, torch.qint8)
    return {torch.qint8: torch.int8, torch.quint8: torch.uint8, torch.int32: torch.int32}[chosen]


def _check_dynamic_quant(
    input: Tensor,
    smooth_scales: Tensor | None,
    group_index: Tensor | None,
    dst_type: int | None,
    quant_mode: str,
    dst_type_max: float,
) -> None:
    operator = "npu_dynamic_quant"
    dimensions(operator, "input", input, range(2, 9))
    if input.dtype not in _HALVES:
        refuse(operator, f"input is {input.dtype}; it takes float16 or bfloat16.")
    dtype_argument(operator, "dst_type", dst_type, (torch.int8,), torch.int8)
    if quant_mode != "pertoken" or dst_type_max:
        refuse(operator, "without an NPU it takes quant_mode='pertoken' and dst_type_max=0 only.")
    if group_index is not None and smooth_scales is None:
        refuse(operator, "group_index divides smooth_scales among the rows, and there is no smooth_scales.")
    if smooth_scales is None:
        return
    if smooth_scales.dtype != input.dtype:
        refuse(operator, f"smooth_scales is {smooth_scales.dtype}; it takes that of the input, {input.dtype}.")
    wanted: tuple[int, ...] = (input.shape[-1],)
    if group_index is not None:
        if group_index.dtype != torch.int32 or group_index.dim() != 1 or not len(group_index):
            refuse(
                operator,
                f"group_index is {group_index.dtype} of the shape {tuple(group_index.shape)}; it takes "
                f"int32 in one dimension, an element a group.",
            )
        wanted = (group_index.shape[0], *wanted)
    if smooth_scales.shape != wanted:
        refuse(operator, f"smooth_scales has the shape {tuple(smooth_scales.shape)}; it takes {wanted}.")


def _check_trans_quant_param(scale: Tensor, offset: Tensor | None, round_mode: int | None) -> torch.Size:
    operator = "npu_trans_quant_param"
    for name, tensor in (("scale", scale), ("offset", offset)):
        if tensor is None:
            continue
        if tensor.dtype != torch.float32:
            refuse(operator, f"{name} is {tensor.dtype}; it takes float32.")
        if tensor.dim() not in (1, 2) or (tensor.dim() == 2 and tensor.shape[0] != 1) or not tensor.numel():
            refuse(operator, f"{name} has the shape {tuple(tensor.shape)}; it takes (n,) or (1, n).")
    if round_mode not in (None, 0, 1):
        refuse(operator, f"round_mode is {round_mode}; it takes 0 or 1.")
    if offset is None:
        return scale.shape
    if scale.dim() == 2 and offset.shape != scale.shape:
        refuse(operator, f"offset has the shape {tuple(offset.shape)}; for a scale of (1, n) it takes the same.")
    if scale.dim() != offset.dim() or (scale.numel() != offset.numel() and 1 not in (scale.numel(), offset.numel())):
        refuse(operator, f"offset has {offset.numel()} elements for {scale.numel()} of scale; it takes 1 or as many.")
    return scale.shape if scale.numel() > 1 else offset.shape


def _fake_quantize(
    input: Tensor, scales: Tensor, zero_points: Tensor | None, dtype: int, axis: int = 1, div_mode: bool = True
) -> Tensor:
    return torch.empty_like(input, dtype=_check_quantize(input, scales, zero_points, dtype, axis, div_mode))


def _fake_dynamic_quant(
    input: Tensor,
    *,
    smooth_scales: Tensor | None = None,
    group_index: Tensor | None = None,
    dst_type: int | None = None,
    quant_mode: str = "pertoken",
    dst_type_max: float = 0.0,
) -> tuple[Tensor, Tensor]:
    _check_dynamic_quant(input, smooth_scales, group_index, dst_type, quant_mode, dst_type_max)
    scale = input.new_empty(input.shape[:-1], dtype=torch.float32)
    return torch.empty_like(input, dtype=torch.int8), scale


def _fake_trans_quant_param(scale: Tensor, offset: Tensor | None = None, round_mode: int | None = 0) -> Tensor:
    return scale.new_empty(_check_trans_quant_param(scale, offset, round_mode), dtype=torch.int64)


KERNELS = (
    ReferenceKernel(
        schema=(
            "npu_quantize(Tensor input, Tensor scales, Tensor? zero_points, int dtype, int axis=1, "
            "bool div_mode=True) -> Tensor"
        ),
        cpu=npu_quantize,
        fake=_fake_quantize,
        source="torch_npu 2.13 (schema, meta kernel, documentation inside the wheel), CANN aclnnAscendQuantV3 (dtypes)",
    ),
    ReferenceKernel(
        schema=(
            "npu_dynamic_quant(Tensor input, *, Tensor? smooth_scales=None, Tensor? group_index=None, "
            'int? dst_type=None, str quant_mode="pertoken", float dst_type_max=0.) -> (Tensor, Tensor)'
        ),
        cpu=npu_dynamic_quant,
        fake=_fake_dynamic_quant,
        source="torch_npu 2.13 (schema, meta kernel, documentation inside the wheel), CANN aclnnDynamicQuantV2",
    ),
    ReferenceKernel(
        schema="npu_trans_quant_param(Tensor scale, Tensor? offset=None, int? round_mode=0) -> Tensor",
        cpu=npu_trans_quant_param,
        fake=_fake_trans_quant_param,
        source="torch_npu 2.13 (schema, meta kernel, documentation inside the wheel), CANN aclnnTransQuantParamV3",
    ),
)
