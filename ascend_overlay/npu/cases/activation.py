"""Gated activations."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from torch import Tensor

from ascend_overlay.npu.cases.numbers import FLOATS, HALF_UNIT, normal
from ascend_overlay.verify.case import Arguments, OperatorCase

_SHAPES = {"one token": (1, 256), "7 tokens, 3 dimensions": (7, 3, 96), "no token": (0, 64)}


def cases() -> Iterator[OperatorCase]:
    """Yield the cases of npu_swiglu."""
    for dtype in FLOATS:
        for label, shape in _SHAPES.items():
            yield OperatorCase(
                operator="npu_swiglu",
                label=label,
                dtype=dtype,
                arguments=functools.partial(_arguments, shape, dtype),
                baseline=_swiglu,
                against="formula",
                rtol=HALF_UNIT[dtype],
                atol=1e-6,
            )


def _arguments(shape: tuple[int, ...], dtype: str) -> Arguments:
    return (normal(1, *shape, dtype=dtype),), {}


def _swiglu(x: Tensor, dim: int = -1) -> Tensor:
    a, b = x.double().chunk(2, dim)
    return a / (1 + (-a).exp()) * b
