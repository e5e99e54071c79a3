"""A norm whose result is quantized with scales that are known before: from a row and its residual to integers."""

from __future__ import annotations

import torch
from torch import Tensor

from ascend_overlay.npu.kernel import ReferenceKernel
from ascend_overlay.npu.reference.checks import dimensions, once_for_alike, refuse
from ascend_overlay.npu.reference.dtypes import dtype_argument
from ascend_overlay.npu.reference.quantization import to_int8

_NAME = "npu_add_rms_norm_quant"
_BESIDE = {torch.float16: (torch.float32, torch.int32), torch.bfloat16: (torch.bfloat16, torch.bfloat16)}
"""Dtype of `x1` -> those of scales and zero points."""


def npu_add_rms_norm_quant(
    x1: Tensor,
    x2: Tensor,
    gamma: Tensor,
    scales1: Tensor,
    zero_points1: Tensor | None,
    beta: Tensor | None = None,
    scales2: Tensor | None = None,
    zero_points2: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-6,
    div_mode: bool = True,
    dst_type: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (y1, y2, x): ``x = x1 + x2``, and its norm quantized, ``round(norm / scales1 + zero_points1)``.

    The norm is ``x / sqrt(mean(x**2) + epsilon) * gamma + beta``. As CANN's kernels have it, it is not rounded in
    bfloat16, nor is the sum, unless there is a beta; in float16 the sum, what the weight is multiplied with, and the
    product are. Halves are rounded to even.

    Args:
        x1: 1 to 8 dimensions, not empty; float16 or bfloat16.
        x2: shape and dtype of `x1`.
        gamma: (length of a row,); dtype of `x1`.
        scales1: as `gamma`; float32 with float16, bfloat16 with bfloat16.
        zero_points1: as `gamma`; int32 with float16, bfloat16 with bfloat16.
        beta: as `gamma`, in its dtype.
        scales2: None: torch_npu takes no other.
        zero_points2: likewise.
        axis: -1.
        epsilon: added under the root.
        div_mode: True.
        dst_type: torch.int8; None stands for it.

    Returns:
        y1: shape of `x1`, int8.
        y2: likewise, without meaning.
        x: shape and dtype of `x1`.

    Raises:
        RuntimeError: a shape, dtype or argument that the NPU does not take.
    """
    _check(x1, x2, gamma, scales1, zero_points1, beta)
    if scales2 is not None or zero_points2 is not None or axis != -1 or not div_mode:
        text = f"axis is {axis} and div_mode {div_mode}" if scales2 is zero_points2 is None else "there is a second"
        refuse(_NAME, f"{text}; it takes axis -1, div_mode True, and no second scales or zero points.")
    dtype_argument(_NAME, "dst_type", dst_type, (torch.int8,), torch.int8)
    total = x1.float() + x2
    x = total.to(dtype=x1.dtype)
    half = x1.dtype == torch.float16
    if half or beta is not None:
        total = x.float()
    norm = total * (total.square().mean(-1, keepdim=True) + epsilon).rsqrt()
    norm = (norm.half() * gamma).float() if half else norm * gamma
    if beta is not None:
        norm = norm + beta
    value = norm / scales1
    if zero_points1 is not None:
        value = value + zero_points1
    return to_int8(value).contiguous(), torch.zeros_like(x1, dtype=torch.int8), x


@once_for_alike
def _check(x1: Tensor, x2: Tensor, gamma: Tensor, scales: Tensor, zeros: Tensor | None, beta: Tensor | None) -> None:
    dimensions(_NAME, "x1", x1, range(1, 9))
    if x1.dtype not in _BESIDE or x2.dtype != x1.dtype:
        refuse(_NAME, f"x1 is {x1.dtype} and x2 {x2.dtype}; both are float16, or both bfloat16.")
    if x1.shape != x2.shape or not x1.numel():
        refuse(_NAME, f"x1 has the shape {tuple(x1.shape)} and x2 {tuple(x2.shape)}; they are equal, and not empty.")
    dtypes = dict(zip(("scales1", "zero_points1"), _BESIDE[x1.dtype], strict=True))
    rows = {"gamma": gamma, "scales1": scales, "zero_points1": zeros, "beta": beta}
    for name, row in rows.items():
        wanted = dtypes.get(name, x1.dtype)
        if row is not None and (row.shape != x1.shape[-1:] or row.dtype != wanted):
            text = f"{name} is {tuple(row.shape)} of {row.dtype}"
            refuse(_NAME, f"{text}; with {x1.dtype} it takes {tuple(x1.shape[-1:])} of {wanted}.")


def _fake(x1: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor, Tensor]:
    y1, y2 = (x1.new_empty(x1.shape, dtype=torch.int8) for _ in range(2))
    return y1, y2, x1.new_empty(x1.shape)


KERNELS = (
    ReferenceKernel(
        schema=(
            f"{_NAME}(Tensor x1, Tensor x2, Tensor gamma, Tensor scales1, Tensor? zero_points1, Tensor? beta=None, "
            "Tensor? scales2=None, Tensor? zero_points2=None, *, int axis=-1, float epsilon=1e-06, "
            "bool div_mode=True, int? dst_type=None) -> (Tensor, Tensor, Tensor)"
        ),
        cpu=npu_add_rms_norm_quant,
        fake=_fake,
        source=(
            "torch_npu 2.13 (schema, meta kernel, documentation inside the wheel), its source (what it refuses), CANN "
            "aclnnAddRmsNormQuantV2 (formula, dtypes), its source (what is rounded)"
        ),
    ),
)
