"""A norm whose result is quantized, in one operator: by rows, or with scales that are known before."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ascend_overlay.npu.case import Arguments, OperatorCase
from ascend_overlay.npu.cases.numbers import HALF_UNIT, dtype_of, normal

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from ascend_overlay.npu.cases.lazy import torch

_SHAPES = {"one token": (1, 256), "33 tokens": (33, 768), "7 tokens, 3 heads": (7, 3, 96)}
_ONCE, _TWICE = {"output_mask": [True, False]}, {"output_mask": [True, True]}


def cases() -> Iterator[OperatorCase]:
    """Yield the cases of npu_add_rms_norm_dynamic_quant and npu_add_rms_norm_quant."""
    for dtype in ("bfloat16", "float16"):
        for label, shape in _SHAPES.items():
            for named, more in (("", ()), ("smoothed, with a bias", ("smooth_scale1", "beta"))):
                yield _case(f"{label}, {named}".rstrip(", "), shape, dtype, more, _ONCE)
        yield _case("33 tokens, twice", (33, 768), dtype, ("smooth_scale1", "smooth_scale2"), _TWICE)
        for label, shape in _SHAPES.items():
            for named, biased in (("", False), (", with a bias", True)):
                yield OperatorCase(
                    operator="npu_add_rms_norm_quant",
                    label=f"{label}{named}",
                    dtype=dtype,
                    arguments=functools.partial(_static, shape, dtype, biased),
                    baseline=_static_baseline,
                    against="formula",
                    rtol=HALF_UNIT[dtype],
                    atol=1e-5,
                    # In float16 the kernels round in between.
                    units=1,
                )


def _case(
    label: str, shape: tuple[int, ...], dtype: str, more: tuple[str, ...], mask: dict[str, list[bool]]
) -> OperatorCase:
    return OperatorCase(
        operator="npu_add_rms_norm_dynamic_quant",
        label=label,
        dtype=dtype,
        arguments=functools.partial(_arguments, shape, dtype, more, mask),
        baseline=_baseline,
        against="formula",
        # Of the sum; and of scales, whose row may be off by the order of operations.
        rtol=HALF_UNIT[dtype] + 4e-6,
        atol=1e-5,
        units=1,
    )


def _arguments(shape: tuple[int, ...], dtype: str, more: tuple[str, ...], mask: dict[str, list[bool]]) -> Arguments:
    x1, x2, gamma = (normal(seed, *size, dtype=dtype) for seed, size in ((1, shape), (3, shape), (2, shape[-1:])))
    rows = {name: normal(seed, shape[-1], dtype=dtype) for seed, name in enumerate(more, start=4)}
    return (x1, x2, gamma), {**rows, "epsilon": 1e-5, **mask}


def _baseline(
    x1: Tensor,
    x2: Tensor,
    gamma: Tensor,
    *,
    epsilon: float,
    output_mask: list[bool],
    beta: Tensor | None = None,
    **smooth: Any,
) -> tuple[Tensor, ...]:
    total = x1.double() + x2.double()
    norm = total / torch.sqrt(total.square().mean(-1, keepdim=True) + epsilon) * gamma.double()
    if beta is not None:
        norm = norm + beta.double()
    ys, scales = [], []
    for asked, name in zip(output_mask, ("smooth_scale1", "smooth_scale2"), strict=True):
        value = norm * smooth[name].double() if name in smooth else norm
        scale = value.abs().amax(-1) / 127
        ys.append((value / scale.unsqueeze(-1)).round().to(torch.int8) if asked else torch.empty(0, dtype=torch.int8))
        scales.append(scale if asked else torch.empty(0))
    return ys[0], ys[1], total, scales[0], scales[1]


def _static(shape: tuple[int, ...], dtype: str, biased: bool) -> Arguments:
    x1, x2, gamma = (normal(seed, *size, dtype=dtype) for seed, size in ((1, shape), (3, shape), (2, shape[-1:])))
    beta = normal(4, shape[-1], dtype=dtype) if biased else None
    half = dtype == "float16"
    # Some numbers are beyond the range of int8.
    scales = (0.01 + normal(5, shape[-1]).abs() / 60).to(torch.float32 if half else dtype_of(dtype))
    zeros = (5 * normal(6, shape[-1])).round().to(torch.int32 if half else dtype_of(dtype))
    return (x1, x2, gamma, scales, zeros, beta), {"epsilon": 1e-5}


def _static_baseline(
    x1: Tensor, x2: Tensor, gamma: Tensor, scales: Tensor, zeros: Tensor, beta: Tensor | None, *, epsilon: float
) -> tuple[Tensor | None, ...]:
    total = x1.double() + x2.double()
    norm = total / torch.sqrt(total.square().mean(-1, keepdim=True) + epsilon) * gamma.double()
    if beta is not None:
        norm = norm + beta.double()
    quantized = (norm / scales.double() + zeros.double()).round().clamp(-128, 127).to(torch.int8)
    # The second result has no meaning.
    return quantized, None, total
