"""Activations, gated and not."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ascend_overlay.npu.case import Arguments, OperatorCase
from ascend_overlay.npu.cases.numbers import FLOATS, HALF_UNIT, normal

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from ascend_overlay.npu.cases.lazy import torch

_SHAPES = {"one token": (1, 256), "7 tokens, 3 dimensions": (7, 3, 96), "no token": (0, 64)}


def cases() -> Iterator[OperatorCase]:
    """Yield the cases of npu_swiglu, npu_clipped_swiglu, npu_geglu, npu_gelu and npu_fast_gelu."""
    for operator, what, options, baseline in _CALLS:
        for dtype in FLOATS:
            for label, shape in _SHAPES.items():
                yield OperatorCase(
                    operator=operator,
                    label=f"{label}, {what}" if what else label,
                    dtype=dtype,
                    arguments=functools.partial(_arguments, shape, dtype, options),
                    baseline=baseline,
                    against="formula",
                    rtol=HALF_UNIT[dtype],
                    # GELU takes one from what is nearly one; the elements are at most about 4.
                    atol=1e-6,
                )


def _arguments(shape: tuple[int, ...], dtype: str, options: dict[str, Any]) -> Arguments:
    return (normal(1, *shape, dtype=dtype),), dict(options)


def _swiglu(x: Tensor, dim: int = -1) -> Tensor:
    a, b = x.double().chunk(2, dim)
    return a / (1 + (-a).exp()) * b


def _clipped(x: Tensor, *, alpha: float, limit: float, bias: float, interleaved: bool) -> Tensor:
    a, b = (x[..., ::2], x[..., 1::2]) if interleaved else x.chunk(2, -1)
    a, b = a.double().clamp(max=limit), b.double().clamp(-limit, limit)
    return a / (1 + (-alpha * a).exp()) * (b + bias)


def _gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    x = x.double()
    if approximate == "none":
        return x * (1 + torch.erf(x / math.sqrt(2))) / 2
    return x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def _fast_gelu(x: Tensor) -> Tensor:
    x = x.double()
    return x / (1 + (-1.702 * x).exp())


def _geglu(x: Tensor, *, approximate: int, activate_left: bool) -> tuple[Tensor, Tensor]:
    a, b = x.double().chunk(2, -1)
    activated, other = (a, b) if activate_left else (b, a)
    gelu = _gelu(activated, approximate=("none", "tanh")[approximate])
    return gelu * other, gelu


_CALLS: tuple[tuple[str, str, dict[str, Any], Callable[..., Any]], ...] = (
    ("npu_swiglu", "", {}, _swiglu),
    (
        "npu_clipped_swiglu",
        "halves, clipped at 0.7",
        {"alpha": 1.0, "limit": 0.7, "bias": 0.0, "interleaved": False},
        _clipped,
    ),
    (
        "npu_clipped_swiglu",
        "even and odd, clipped at 7",
        {"alpha": 1.702, "limit": 7.0, "bias": 1.0, "interleaved": True},
        _clipped,
    ),
    ("npu_geglu", "first half, erf", {"approximate": 0, "activate_left": True}, _geglu),
    ("npu_geglu", "second half, tanh", {"approximate": 1, "activate_left": False}, _geglu),
    ("npu_gelu", "erf", {"approximate": "none"}, _gelu),
    ("npu_gelu", "tanh", {"approximate": "tanh"}, _gelu),
    ("npu_fast_gelu", "", {}, _fast_gelu),
)
"""Operator, what is special about the call, its keyword arguments, baseline."""
