"""Refusing what the operators of torch_npu refuse."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import torch

_REMEMBERED = 1024
"""Signatures that `once_for_alike` remembers of a check."""
_FEW = 64
"""Numbers of which Python finds the lowest and the highest sooner than PyTorch does."""

_EQUAL = frozenset({int, float, bool, str, type(None)})
"""Types of which alike arguments are equal. To ask first whether something is a tensor takes longer."""

FLOATS = (torch.float16, torch.bfloat16, torch.float32)

_Found = TypeVar("_Found")


def refuse(operator: str, text: str) -> NoReturn:
    """Raise what a wrong argument of `operator` raises.

    Raises:
        RuntimeError: always; torch_npu raises the same type.
    """
    raise RuntimeError(f"npu::{operator}: {text}")


def once_for_alike(check: Callable[..., None]) -> Callable[..., None]:
    """Return `check` so that arguments like those that it let pass are let pass without it.

    Alike are tensors of one shape, dtype and contiguity, and other arguments that are equal, so `check` must look at
    nothing else. What it refuses, it refuses each time. For kernels that compute, where shapes are numbers, and where
    checking takes as long as computing a few tokens; arguments are passed by position and are tensors or hashable.
    """
    passed: dict[Any, None] = {}

    @functools.wraps(check)
    def remembering(*arguments: Any) -> None:
        signature = alike(arguments)
        if signature in passed:
            return
        check(*arguments)
        remember(passed, signature, None, _REMEMBERED)

    return remembering


def alike(x: Any) -> Any:
    """Return what alike arguments have in common: of a tensor the shape, dtype and contiguity; hashable."""
    if type(x) in _EQUAL:
        return x
    if isinstance(x, torch.Tensor):
        return x.shape, x.dtype, x.is_contiguous()
    if isinstance(x, (list, tuple)):
        return tuple([item if type(item) in _EQUAL else alike(item) for item in x])
    return x


def remember(known: dict[Any, _Found], signature: Any, found: _Found, most: int) -> None:
    """Keep what was found out about alike arguments, about `most` of them at the most."""
    if len(known) >= most:
        known.clear()
    known[signature] = found


def extremes(numbers: torch.Tensor) -> tuple[int, int]:
    """Return the lowest and the highest of whole numbers, (n,) with n at least 1."""
    few = numbers if numbers.numel() <= _FEW else torch.stack(numbers.aminmax())
    listed = few.tolist()
    return min(listed), max(listed)


def float_tensor(operator: str, name: str, tensor: torch.Tensor) -> None:
    """See that `tensor` has a dtype that the NPU computes with."""
    if tensor.dtype not in FLOATS:
        refuse(operator, f"{name} is {tensor.dtype}; it takes float16, bfloat16 or float32.")


def same_dtype(operator: str, **tensors: torch.Tensor) -> None:
    """See that all `tensors` have one floating dtype."""
    for name, tensor in tensors.items():
        float_tensor(operator, name, tensor)
    if len({tensor.dtype for tensor in tensors.values()}) > 1:
        listed = ", ".join(f"{name} {tensor.dtype}" for name, tensor in tensors.items())
        refuse(operator, f"all tensors must have one dtype, but they are {listed}.")


def contiguous(operator: str, name: str, tensor: torch.Tensor) -> None:
    """See that `tensor` is contiguous."""
    if not tensor.is_contiguous():
        refuse(operator, f"{name} is not contiguous.")


def dimensions(operator: str, name: str, tensor: torch.Tensor, allowed: Sequence[int]) -> None:
    """See that `tensor` has one of the `allowed` numbers of dimensions."""
    if tensor.dim() not in allowed:
        wanted = f"{allowed[0]} to {allowed[-1]}" if len(allowed) > 1 else str(allowed[0])
        refuse(operator, f"{name} has {tensor.dim()} dimensions; it takes {wanted}.")
