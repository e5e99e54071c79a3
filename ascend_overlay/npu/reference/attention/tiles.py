"""A paged cache in NZ: in a block, of each 16 elements of a head those of all its tokens.

It is read as the cache with whole tokens that it stands for, of the blocks that the sequences have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ascend_overlay.npu.reference.checks import contiguous, refuse

TILE = 16
"""Elements of float16 and bfloat16 in a row of a tile."""

DIMENSIONS = 5


def whole(
    operator: str, key: Tensor, value: Tensor, options: Mapping[str, Any]
) -> tuple[Tensor, Tensor, Mapping[str, Any]]:
    """Return caches (blocks, block size, N * D) with the blocks of the block table, and options with a table of those.

    Args:
        operator: for errors.
        key: (blocks, N, D / 16, block size, 16).
        value: likewise.
        options: of the operator.

    Raises:
        RuntimeError: another shape, or a call for which no cache in NZ is taken.
    """
    table = options["block_table"]
    for name, cache in (("key", key), ("value", value)):
        if cache.dim() != DIMENSIONS or cache.shape[4] != TILE:
            refuse(operator, f"{name} is {tuple(cache.shape)}; a cache in NZ is (blocks, N, D / 16, block size, 16).")
        contiguous(operator, name, cache)
    if options.get("query_rope") is not None:
        refuse(operator, "the reference kernel takes no cache in NZ beside query_rope; leave one out.")
    layout = options.get("input_layout", "BSH")
    if layout.startswith("BNSD") or key.shape[3] == TILE:
        text = f"input_layout is {layout} and the block size {key.shape[3]}"
        refuse(operator, f"{text}; a cache in NZ goes neither with BNSD nor with blocks of {TILE} tokens.")
    if table.dim() != 2 or table.dtype != torch.int32:
        text = f"block_table is {tuple(table.shape)} of {table.dtype}"
        refuse(operator, f"{text}; it takes (sequences, blocks a sequence) of int32.")
    # What is behind the last key of a sequence is not looked at, and may be anything.
    used, places = table.clamp(0, max(len(key) - 1, 0)).unique(return_inverse=True)
    caches = [cache.index_select(0, used).permute(0, 3, 1, 2, 4).flatten(2) for cache in (key, value)]
    return caches[0], caches[1], {**options, "block_table": places.to(torch.int32)}
