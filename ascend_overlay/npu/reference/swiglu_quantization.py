"""The gated activation between two quantized products: from the sums of the first to the integers of the second."""

from __future__ import annotations

import torch
from torch import Tensor

from ascend_overlay.npu.kernel import ReferenceKernel
from ascend_overlay.npu.reference.checks import contiguous, dimensions, refuse
from ascend_overlay.npu.reference.quantization import to_int8

_NAME = "npu_dequant_swiglu_quant"
_DYNAMIC = 1
_MEMORY = 192 * 1024
"""Bytes of which CANN gives each row ten times what it takes, and the scales a fortieth."""


def npu_dequant_swiglu_quant(
    x: Tensor,
    *,
    weight_scale: Tensor | None = None,
    activation_scale: Tensor | None = None,
    bias: Tensor | None = None,
    quant_scale: Tensor | None = None,
    quant_offset: Tensor | None = None,
    group_index: Tensor | None = None,
    activate_left: bool = False,
    quant_mode: int = 0,
    dst_type: int | None = None,
    round_mode: int | None = None,
    activate_dim: int | None = None,
    swiglu_mode: int = 0,
    clamp_limit: float = 7.0,
    glu_alpha: float = 1.702,
    glu_bias: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Return ``a * sigmoid(a) * b`` of the halves of each row, quantized to int8 by its largest element, and the scale.

    Halves are rounded to even. A row of zeros has the scale 0, and zeros.

    Args:
        x: (rows, 2 d), contiguous; float16, bfloat16 or int32. 2 d is at most what CANN has room for: see `_MEMORY`.
        weight_scale: with int32 only, and needed there: (groups, 2 d), or (2 d,) without groups; float32.
        activation_scale: with int32 only, and needed there: (rows,) or (rows, 1); float32.
        bias: None; not computed here, as all that follows but `group_index`.
        quant_scale: None.
        quant_offset: None.
        group_index: (groups,), int64: how many rows each group has. The rows behind are not computed: here they become
            zeros, on an NPU they may be anything. d is then a multiple of 64, at most 10496. None: all are of one.
        activate_left: a is the first half; else the second.
        quant_mode: 1, dynamic.
        dst_type: None, int8.
        round_mode: None, to even.
        activate_dim: None, the last.
        swiglu_mode: 0.
        clamp_limit: without meaning here, as the two that follow.
        glu_alpha: see `clamp_limit`.
        glu_bias: see `clamp_limit`.

    Returns:
        y: (rows, d), int8.
        scale: (rows,), float32.

    Raises:
        RuntimeError: a shape or dtype that the NPU does not take, or what is not computed here.
    """
    left_out = (bias, quant_scale, quant_offset, dst_type, round_mode, activate_dim)
    if any(value is not None for value in left_out) or swiglu_mode or quant_mode != _DYNAMIC:
        refuse(_NAME, "the reference kernel quantizes dynamically (quant_mode 1), to int8, without bias and scales.")
    _check(x, weight_scale, activation_scale, group_index)
    group = _groups(x, group_index)
    value = x.float()
    if weight_scale is not None and activation_scale is not None:
        scales = weight_scale.view(-1, x.shape[1])
        chosen = scales[group.clamp(max=len(scales) - 1)]
        value = value * chosen * activation_scale.view(-1, 1)
    a, b = value.chunk(2, -1) if activate_left else reversed(value.chunk(2, -1))
    made = torch.nn.functional.silu(a) * b
    if group_index is not None:
        made = made.masked_fill((group >= len(group_index)).unsqueeze(1), 0)
    scale = (made.abs().amax(-1) if made.shape[-1] else made.new_zeros(made.shape[:-1])) / 127
    return to_int8(made / scale.unsqueeze(-1)), scale


def _groups(x: Tensor, counts: Tensor | None) -> Tensor:
    """Return the group of each row; of one behind the last, how many there are."""
    if counts is None:
        return torch.zeros(len(x), dtype=torch.int64)
    rows = torch.arange(len(x))
    return torch.searchsorted(counts.cumsum(0), rows, right=True)


def _check(x: Tensor, weight: Tensor | None, activation: Tensor | None, groups: Tensor | None) -> None:
    dimensions(_NAME, "x", x, (2,))
    contiguous(_NAME, "x", x)
    rows, width = x.shape
    if x.dtype not in (torch.float16, torch.bfloat16, torch.int32):
        refuse(_NAME, f"x is {x.dtype}; it takes float16, bfloat16 or int32.")
    if width % 2:
        refuse(_NAME, f"a row of x has {width} elements; it takes an even number.")
    if 10 * width * x.element_size() + rows // 10 >= _MEMORY:
        refuse(_NAME, f"x is {tuple(x.shape)} of {x.dtype}, for whose rows CANN has no room.")
    integers = x.dtype == torch.int32
    if integers != (weight is not None) or integers != (activation is not None):
        refuse(_NAME, f"x is {x.dtype}; weight_scale and activation_scale go with int32, and only with it.")
    if groups is not None:
        if groups.dtype != torch.int64 or groups.dim() != 1:
            refuse(_NAME, f"group_index is {groups.dtype} of {groups.dim()} dimensions; it takes int64 of 1.")
        if width % 128 or width > 2 * 10496:
            refuse(_NAME, f"a row of x has {width} elements; with group_index half of it is a multiple of 64 to 10496.")
    if weight is None or activation is None:
        return
    shapes = {(1 if groups is None else len(groups), width)} | ({(width,)} if groups is None else set())
    if tuple(weight.shape) not in shapes or weight.dtype != torch.float32:
        refuse(_NAME, f"weight_scale is {tuple(weight.shape)} of {weight.dtype}; it takes {min(shapes)} of float32.")
    if tuple(activation.shape) not in ((rows,), (rows, 1)) or activation.dtype != torch.float32:
        text = f"activation_scale is {tuple(activation.shape)} of {activation.dtype}"
        refuse(_NAME, f"{text}; it takes ({rows},) of float32.")


def _fake(x: Tensor, **options: object) -> tuple[Tensor, Tensor]:
    return x.new_empty((x.shape[0], x.shape[1] // 2), dtype=torch.int8), x.new_empty(x.shape[:1], dtype=torch.float32)


KERNELS = (
    ReferenceKernel(
        schema=(
            "npu_dequant_swiglu_quant(Tensor x, *, Tensor? weight_scale=None, Tensor? activation_scale=None, "
            "Tensor? bias=None, Tensor? quant_scale=None, Tensor? quant_offset=None, Tensor? group_index=None, "
            "bool activate_left=False, int quant_mode=0, int? dst_type=None, int? round_mode=None, "
            "int? activate_dim=None, int swiglu_mode=0, float clamp_limit=7.0, float glu_alpha=1.702, "
            "float glu_bias=1.0) -> (Tensor, Tensor)"
        ),
        cpu=npu_dequant_swiglu_quant,
        fake=_fake,
        source=(
            "torch_npu 2.13 (schema, meta kernel, documentation inside the wheel), CANN aclnnDequantSwigluQuant "
            "(room for a row)"
        ),
    ),
)
