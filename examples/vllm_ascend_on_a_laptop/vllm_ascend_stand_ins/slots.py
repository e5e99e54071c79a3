"""In the place of the Triton kernel that finds the slots of a step's tokens in the KV cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Kernel:
    """Called as a Triton kernel is: ``kernel[grid](...)``."""

    def __getitem__(self, grid: object) -> Callable[..., None]:
        return compute_slot_mapping


kernel = Kernel()


def compute_slot_mapping(
    num_tokens: int,
    max_num_tokens: int,
    query_start_loc: Tensor,
    positions: Tensor,
    block_table: Tensor,
    block_table_stride: int,
    block_size: int,
    slot_mapping: Tensor,
    *,
    PAD_ID: int,
    TOTAL_CP_WORLD_SIZE: int = 1,
    IS_CIRCULAR: bool = False,
    **sizes: Any,
) -> None:
    """Write the slot of each token to `slot_mapping`, and PAD_ID behind the last.

    Args:
        num_tokens: tokens of the step.
        max_num_tokens: up to which slots are written.
        query_start_loc: (requests + 1,); where the tokens of each request begin.
        positions: (num_tokens or more,); the position of each token in its request.
        block_table: (requests or more, blocks of one); the blocks of each request.
        block_table_stride: elements of a row of it.
        block_size: tokens of a block.
        slot_mapping: written; (max_num_tokens or more,).
        PAD_ID: the slot of no token.
        TOTAL_CP_WORLD_SIZE: ranks of context parallelism; 1.
        IS_CIRCULAR: whether the blocks of a request are used in turn; False.
        **sizes: how the kernel divides its work; without meaning here.

    Raises:
        NotImplementedError: for several ranks, or circular blocks.
    """
    if TOTAL_CP_WORLD_SIZE != 1 or IS_CIRCULAR:
        raise NotImplementedError(
            "vllm_ascend_stand_ins finds slots for one rank of context parallelism and blocks that are not circular; "
            "serve without decode_context_parallel_size, and a model without circular caches."
        )
    place = positions[:num_tokens].long()
    tokens = torch.arange(num_tokens, device=place.device, dtype=query_start_loc.dtype)
    request = torch.searchsorted(query_start_loc[1:].contiguous(), tokens, right=True).clamp(max=len(block_table) - 1)
    blocks = block_table[request, place // block_size].long()
    slot_mapping[:num_tokens] = (blocks * block_size + place % block_size).to(slot_mapping.dtype)
    slot_mapping[num_tokens:max_num_tokens] = PAD_ID
