"""PyTorch in place of the Triton kernels without which vLLM's model runner serves nothing."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ascend_overlay.errors import OverlayError


def slot_mapping(
    num_tokens: int,
    max_num_tokens: int,
    query_start_loc_ptr: Tensor,
    positions_ptr: Tensor,
    block_table_ptr: Tensor,
    block_table_stride: int,
    slot_mapping_ptr: Tensor,
    KV_CACHE_BLOCK_SIZE: int,
    TOTAL_CP_WORLD_SIZE: int,
    TOTAL_CP_RANK: int,
    CP_KV_CACHE_INTERLEAVE_SIZE: int,
    PAD_ID: int,
    BLOCK_SIZE: int,
) -> None:
    """Write where in the cache each token goes: vllm.v1.worker.block_table.ComputeSlotMappingKernel.

    Args:
        num_tokens: how many tokens the batch has.
        max_num_tokens: how many slots are written; those behind the tokens become `PAD_ID`.
        query_start_loc_ptr: where the tokens of each request begin, (requests + 1,) of int32.
        positions_ptr: of each token in its request, of int64.
        block_table_ptr: the blocks of each request, (most requests, most blocks) of int32.
        block_table_stride: blocks in a row of it.
        slot_mapping_ptr: what is written, of int64.
        KV_CACHE_BLOCK_SIZE: tokens of a block.
        TOTAL_CP_WORLD_SIZE: over how many processes a request's tokens are spread.
        TOTAL_CP_RANK: which of them this is.
        CP_KV_CACHE_INTERLEAVE_SIZE: tokens that stay together there.
        PAD_ID: the slot of nobody.
        BLOCK_SIZE: of Triton's programs.
    """
    if TOTAL_CP_WORLD_SIZE != 1:
        raise OverlayError("context parallelism is not served on an NPU; leave its options out.")
    positions, slots = positions_ptr[:num_tokens], slot_mapping_ptr[:num_tokens]
    table, nth = block_table_ptr.view(-1, block_table_stride), positions // KV_CACHE_BLOCK_SIZE
    # Every call is a launch, and each of these is one.
    if query_start_loc_ptr.shape[0] == num_tokens + 1:
        # No request is without tokens, so each has one.
        block = table[:num_tokens].gather(1, nth.unsqueeze(1)).squeeze(1)
    elif query_start_loc_ptr.shape[0] == 2:
        block = table[0, nth]
    else:
        # How many requests but the first begin at or before a token tells which one it belongs to. The result's size
        # is known, so that the host does not wait.
        tokens = _numbers(slot_mapping_ptr.shape[0], positions.device)[:num_tokens]
        block = table[torch.searchsorted(query_start_loc_ptr[1:-1], tokens, right=True), nth]
    # The block's first slot and the place in it, in one.
    torch.add(positions, block - nth, alpha=KV_CACHE_BLOCK_SIZE, out=slots)
    padded_from = getattr(slot_mapping_ptr, _PADDED_FROM, max_num_tokens)
    if num_tokens < padded_from:
        slot_mapping_ptr[num_tokens:padded_from].fill_(PAD_ID)
    setattr(slot_mapping_ptr, _PADDED_FROM, num_tokens)


_PADDED_FROM = "padded_from"
"""Attribute of a tensor of slots: where those of nobody begin, which are not written again."""


@functools.lru_cache(maxsize=8)
def _numbers(most: int, device: torch.device) -> Tensor:
    """Return the numbers below `most`, (most,) of int32, which nobody changes."""
    return torch.arange(most, device=device, dtype=torch.int32)


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


OVERRIDES = {"vllm.v1.worker.block_table.ComputeSlotMappingKernel.kernel": slot_mapping}
"""vLLM's name of a kernel -> what it calls in its place."""
