"""The activations between the two products of an expert, by the names that vLLM gives them."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from ascend_overlay import npu

Activation = Callable[[Tensor], Tensor]


def activation(name: str, *, limit: float | None = None, alpha: float = 1.0, beta: float = 0.0) -> Activation | None:
    """Return the activation `name`, or None where no operator computes it.

    Args:
        name: value of vLLM's MoEActivation: "silu", "gelu_tanh", "relu2_no_mul" ...; without "_no_mul" the first half
            of a row is activated and multiplied with the second.
        limit: where the halves are clipped, of "silu" and "swigluoai_uninterleave".
        alpha: steepness of the sigmoid of "swigluoai_uninterleave".
        beta: what it adds to the second half.
    """
    if name == "silu":
        return _swiglu() if limit is None else _clipped(limit, 1.0, 0.0, interleaved=False)
    if name == "swigluoai":
        return _clipped(7.0, 1.702, 1.0, interleaved=True)
    if name == "swigluoai_uninterleave" and limit is not None:
        return _clipped(limit, alpha, beta, interleaved=False)
    if name in _GEGLU:
        return _geglu(_GEGLU[name])
    return _PLAIN.get(name)


def _swiglu() -> Activation:
    npu.load("npu_swiglu")
    return lambda x: torch.ops.npu.npu_swiglu.default(x)


def _clipped(limit: float, alpha: float, beta: float, *, interleaved: bool) -> Activation:
    npu.load("npu_clipped_swiglu")
    return lambda x: torch.ops.npu.npu_clipped_swiglu.default(
        x, alpha=alpha, limit=limit, bias=beta, interleaved=interleaved
    )


def _geglu(approximate: int) -> Activation:
    npu.load("npu_geglu")
    return lambda x: torch.ops.npu.npu_geglu.default(x, -1, approximate, True)[0]


def _squared_relu(x: Tensor) -> Tensor:
    return torch.relu(x).square()


_GEGLU = {"gelu": 0, "gelu_tanh": 1}
_PLAIN: dict[str, Activation] = {
    "silu_no_mul": torch.nn.functional.silu,
    "gelu_no_mul": torch.nn.functional.gelu,
    "gelu_tanh_no_mul": functools.partial(torch.nn.functional.gelu, approximate="tanh"),
    "relu2_no_mul": _squared_relu,
}
