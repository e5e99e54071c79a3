"""PyTorch in place of the Triton kernels without which vLLM's model runner serves nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def zero_blocks(caches: Iterable[Tensor], blocks: Sequence[int], of: int) -> None:
    """Clear `blocks` in each cache: vllm.v1.worker.utils.KVBlockZeroer, which writes to bare addresses.

    Args:
        caches: with blocks in the first dimension, as many as vLLM's or a multiple.
        blocks: which of vLLM's.
        of: how many vLLM has.
    """
    for cache in caches:
        parts = cache.shape[0] // of
        index = [block * parts + part for block in blocks for part in range(parts)]
        cache.index_fill_(0, torch.tensor(index, device=cache.device), 0)
