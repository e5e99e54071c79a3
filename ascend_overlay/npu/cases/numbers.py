"""What the cases share: dtypes with their tolerances, and random numbers, which are the same on every device."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
else:
    from ascend_overlay.npu.cases.lazy import torch

FLOATS = ("float32", "bfloat16", "float16")

HALF_UNIT = {"float32": 4e-6, "bfloat16": 2**-8, "float16": 2**-11}
"""Relative error of an exact result that is rounded once to a dtype; for float32, of a few of its operations."""


def dtype_of(name: str) -> torch.dtype:
    """Return the dtype of torch that is called `name`."""
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def normal(seed: int, *shape: int, dtype: str = "float32", scale: float = 1.0) -> torch.Tensor:
    """Return normally distributed numbers of the size `scale`, on torch's default device."""
    return here((torch.randn(shape, generator=_random(seed), device="cpu") * scale).to(dtype_of(dtype)))


def whole(seed: int, low: int, high: int, *shape: int) -> torch.Tensor:
    """Return whole numbers from `low` to `high`, both included, as int64 on torch's default device."""
    return here(torch.randint(low, high + 1, shape, generator=_random(seed), device="cpu"))


def here(tensor: torch.Tensor) -> torch.Tensor:
    """Return `tensor` on torch's default device."""
    return tensor.to(torch.get_default_device())


def _random(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)
