"""The mask of causal attention, as npu_fused_infer_attention_score wants it."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


@functools.cache
def causal_mask(device: torch.device) -> Tensor:
    """Return the mask of sparse_mode 2, 3 and 4, whatever the lengths: (2048, 2048), bool, true above the diagonal."""
    return torch.ones(2048, 2048, dtype=torch.bool, device=device).triu_(1)
