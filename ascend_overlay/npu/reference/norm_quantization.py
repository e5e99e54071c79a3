"""A norm whose result is quantized: from a row and its residual to integers, and the sum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ascend_overlay.npu.kernel import ReferenceKernel
from ascend_overlay.npu.reference.checks import dimensions, once_for_alike, refuse
from ascend_overlay.npu.reference.dtypes import dtype_argument
from ascend_overlay.npu.reference.normalization import normalize
from ascend_overlay.npu.reference.quantization import to_int8

_NAME = "npu_add_rms_norm_dynamic_quant"
_DTYPES = (torch.float16, torch.bfloat16)

Results = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def npu_add_rms_norm_dynamic_quant(
    x1: Tensor,
    x2: Tensor,
    gamma: Tensor,
    *,
    smooth_scale1: Tensor | None = None,
    smooth_scale2: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-6,
    output_mask: Sequence[bool] | None = None,
    y_dtype: int | None = None,
) -> Results:
    """Return (y1, y2, x, scale1, scale2): ``x = x1 + x2``, and its norm quantized to int8 by rows, once or twice.

    The norm is ``x / sqrt(mean(x**2) + epsilon) * gamma + beta``, of the sum before it is rounded, and is not rounded
    before ``scale = max(abs(row)) / 127`` and ``y = round(row / scale)`` are made of it. Halves are rounded to even. A
    row of zeros has the scale 0, and zeros.

    Args:
        x1: 2 to 8 dimensions, not empty; float16 or bfloat16.
        x2: shape and dtype of `x1`.
        gamma: (length of a row,); dtype of `x1`.
        smooth_scale1: what the norm is multiplied with before it is quantized for the first time; as `gamma`.
        smooth_scale2: for the second time.
        beta: as `gamma`.
        epsilon: added under the root.
        output_mask: whether to quantize for the first and for the second time. None or empty: for the first, and for
            the second if there are both scales.
        y_dtype: torch.int8; None stands for it.

    Returns:
        y1: shape of `x1`, int8; (0,) where it is not asked for, as the others.
        y2: likewise.
        x: shape and dtype of `x1`.
        scale1: shape of `x1` without its last dimension; float32.
        scale2: likewise.

    Raises:
        RuntimeError: a shape, dtype or combination that the NPU does not take.
    """
    mask = None if output_mask is None else tuple(output_mask)
    wanted = _wanted(mask, smooth_scale1, smooth_scale2)
    _check(x1, x2, gamma, smooth_scale1, smooth_scale2, beta)
    dtype_argument(_NAME, "y_dtype", y_dtype, (torch.int8,), torch.int8)
    total = x1.float() + x2
    norm, _ = normalize(total, gamma, epsilon, torch.float32)
    if beta is not None:
        norm = norm + beta
    made = [
        _quantized(norm, smooth) if asked else (_nothing(x1, torch.int8), _nothing(x1, torch.float32))
        for asked, smooth in zip(wanted, (smooth_scale1, smooth_scale2), strict=True)
    ]
    return made[0][0], made[1][0], total.to(dtype=x1.dtype), made[0][1], made[1][1]


def _quantized(norm: Tensor, smooth: Tensor | None) -> tuple[Tensor, Tensor]:
    value = norm if smooth is None else norm * smooth
    scale = value.abs().amax(-1) / 127
    return to_int8(value / scale.unsqueeze(-1)).contiguous(), scale.contiguous()


def _nothing(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.new_empty((0,), dtype=dtype)


def _wanted(mask: tuple[bool, ...] | None, first: Tensor | None, second: Tensor | None) -> tuple[bool, bool]:
    if not mask:
        if second is not None and first is None:
            refuse(
                _NAME, "there is a smooth_scale2 without smooth_scale1; without output_mask it takes both, or neither."
            )
        return True, first is not None and second is not None
    if len(mask) != 2 or not any(mask):
        refuse(_NAME, f"output_mask is {list(mask)}; it takes two flags, of which one is set.")
    for number, (asked, smooth) in enumerate(zip(mask, (first, second), strict=True), start=1):
        if smooth is not None and not asked:
            refuse(_NAME, f"there is a smooth_scale{number}, and output_mask is {list(mask)}.")
    return bool(mask[0]), bool(mask[1])


@once_for_alike
def _check(
    x1: Tensor, x2: Tensor, gamma: Tensor, first: Tensor | None, second: Tensor | None, beta: Tensor | None
) -> None:
    dimensions(_NAME, "x1", x1, range(2, 9))
    if x1.dtype not in _DTYPES or x2.dtype != x1.dtype:
        refuse(_NAME, f"x1 is {x1.dtype} and x2 {x2.dtype}; both are float16, or both bfloat16.")
    if x1.shape != x2.shape or not x1.numel():
        refuse(_NAME, f"x1 has the shape {tuple(x1.shape)} and x2 {tuple(x2.shape)}; they are equal, and not empty.")
    rows = {"gamma": gamma, "smooth_scale1": first, "smooth_scale2": second, "beta": beta}
    for name, row in rows.items():
        if row is not None and (row.shape != x1.shape[-1:] or row.dtype != x1.dtype):
            text = f"{name} is {tuple(row.shape)} of {row.dtype}"
            refuse(_NAME, f"{text}; it takes {tuple(x1.shape[-1:])} of {x1.dtype}.")


def _fake(
    x1: Tensor,
    x2: Tensor,
    gamma: Tensor,
    *,
    smooth_scale1: Tensor | None = None,
    smooth_scale2: Tensor | None = None,
    output_mask: Sequence[bool] | None = None,
    **options: object,
) -> Results:
    mask = None if output_mask is None else tuple(output_mask)
    wanted = _wanted(mask, smooth_scale1, smooth_scale2)
    ys = [x1.new_empty(x1.shape if asked else (0,), dtype=torch.int8) for asked in wanted]
    scales = [x1.new_empty(x1.shape[:-1] if asked else (0,), dtype=torch.float32) for asked in wanted]
    return ys[0], ys[1], x1.new_empty(x1.shape), scales[0], scales[1]


KERNELS = (
    ReferenceKernel(
        schema=(
            f"{_NAME}(Tensor x1, Tensor x2, Tensor gamma, *, Tensor? smooth_scale1=None, Tensor? smooth_scale2=None, "
            "Tensor? beta=None, float epsilon=1e-6, bool[2]? output_mask=None, int? y_dtype=None) -> "
            "(Tensor, Tensor, Tensor, Tensor, Tensor)"
        ),
        cpu=npu_add_rms_norm_dynamic_quant,
        fake=_fake,
        source=(
            "torch_npu 2.13 (schema, meta kernel, documentation inside the wheel), CANN aclnnAddRmsNormDynamicQuantV2 "
            "(formula), its source (what is rounded)"
        ),
    ),
)
