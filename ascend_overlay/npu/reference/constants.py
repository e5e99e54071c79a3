"""Numbers as tensors: PyTorch makes one of each number that it computes with, which takes longer than computing."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


@functools.lru_cache(maxsize=64)
def number(value: float) -> Tensor:
    """Return `value` in float32, as a tensor without dimensions, on the CPU, that nobody writes to."""
    return torch.tensor(value, dtype=torch.float32, device="cpu")
