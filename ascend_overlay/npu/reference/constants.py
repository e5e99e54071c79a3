"""Tensors that are made once: making a small one takes PyTorch longer than computing with it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import torch
from torch import Tensor

_Arguments = ParamSpec("_Arguments")
_Made = TypeVar("_Made")


def kept(count: int) -> Callable[[Callable[_Arguments, _Made]], Callable[_Arguments, _Made]]:
    """Return a decorator for functions that make tensors: the last `count` results are kept, and nobody writes to them.

    They serve with gradients and without, whoever asked first: a tensor that is made in inference mode, as vLLM's steps
    are, could not be used where gradients are wanted later.
    """

    def keeping(make: Callable[_Arguments, _Made]) -> Callable[_Arguments, _Made]:
        @functools.lru_cache(maxsize=count)
        @functools.wraps(make)
        def made(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Made:
            with torch.inference_mode(False):
                return make(*args, **kwargs)

        # The stubs of functools do not keep the parameters.
        return cast("Callable[_Arguments, _Made]", made)

    return keeping


@kept(64)
def number(value: float) -> Tensor:
    """Return `value` in float32, as a tensor without dimensions, on the CPU."""
    return torch.tensor(value, dtype=torch.float32, device="cpu")
