"""What the cases share: dtypes with their tolerances, and random numbers."""

from __future__ import annotations

import torch

FLOATS = ("float32", "bfloat16", "float16")

HALF_UNIT = {"float32": 4e-6, "bfloat16": 2**-8, "float16": 2**-11}
"""Relative error of an exact result that is rounded once to a dtype; for float32, of a few of its operations."""


def dtype_of(name: str) -> torch.dtype:
    """Return the dtype of torch that is called `name`."""
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def normal(seed: int, *shape: int, dtype: str = "float32", scale: float = 1.0) -> torch.Tensor:
    """Return normally distributed numbers of the size `scale`."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * scale).to(dtype_of(dtype))
