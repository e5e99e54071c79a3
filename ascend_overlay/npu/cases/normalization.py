"""Root mean square normalization."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ascend_overlay.npu.case import Arguments, OperatorCase
from ascend_overlay.npu.cases.numbers import FLOATS, HALF_UNIT, normal

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from ascend_overlay.npu.cases.lazy import torch

_SHAPES = {"one token": (1, 256), "7 tokens, 3 heads": (7, 3, 96), "odd row": (5, 769)}
_EPSILON = 1e-5


def cases() -> Iterator[OperatorCase]:
    """Yield the cases of npu_rms_norm, npu_add_rms_norm and npu_gemma_rms_norm."""
    for operator, what, arguments, baseline in _CALLS:
        for dtype in FLOATS:
            for label, shape in _SHAPES.items():
                yield OperatorCase(
                    operator=operator,
                    label=f"{label}, {what}" if what else label,
                    dtype=dtype,
                    arguments=functools.partial(arguments, shape, dtype),
                    baseline=baseline,
                    against="formula",
                    rtol=HALF_UNIT[dtype] + 4e-6,
                    # Sums that nearly cancel, of numbers of about 4.
                    atol=1e-5,
                )


def _row(shape: tuple[int, ...], dtype: str, weight: str | None = None) -> Arguments:
    return (normal(1, *shape, dtype=dtype), normal(2, shape[-1], dtype=weight or dtype), _EPSILON), {}


def _two_rows(shape: tuple[int, ...], dtype: str) -> Arguments:
    (x, gamma, epsilon), _ = _row(shape, dtype)
    return (x, normal(3, *shape, dtype=dtype), gamma, epsilon), {}


def _rms_norm(x: Tensor, gamma: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    rstd = 1 / torch.sqrt(x.double().square().mean(-1, keepdim=True) + epsilon)
    return x.double() * rstd * gamma.double(), rstd


def _add_rms_norm(x1: Tensor, x2: Tensor, gamma: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    total = x1.double() + x2.double()
    return *_rms_norm(total, gamma, epsilon), total


def _gemma_rms_norm(x: Tensor, gamma: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    return _rms_norm(x, 1 + gamma.double(), epsilon)


_CALLS: tuple[tuple[str, str, Callable[..., Arguments], Callable[..., Any]], ...] = (
    ("npu_rms_norm", "", _row, _rms_norm),
    ("npu_rms_norm", "float32 weight", functools.partial(_row, weight="float32"), _rms_norm),
    ("npu_add_rms_norm", "", _two_rows, _add_rms_norm),
    ("npu_gemma_rms_norm", "", _row, _gemma_rms_norm),
)
"""Operator, what is special about the call, its arguments by shape and dtype, baseline."""
