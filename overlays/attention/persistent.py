"""What a captured graph reads of a batch lies where it lay when the graph was captured, and is as wide.

A replay reads the addresses of the capture. So the block table, at its full width, and the slots of a batch of single
tokens are copied to memory that stays; whatever is behind the batch in there is left as it is, and not read.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ascend_overlay.overlays.attention import cache


class Persistent:
    """Room for the block tables and slots of batches of at most `most` requests, one token each."""

    def __init__(self, most: int) -> None:
        self.most = most
        # By the width of vLLM's table, which an engine never changes.
        self._rooms: dict[int, tuple[Tensor, Tensor]] = {}

    def block_table(self, batch: Any) -> Tensor:
        """Return the operators' block table for a batch: (requests, most blocks)."""
        table = batch.block_table_tensor[: batch.num_reqs]
        room = self._of(batch)[0][: batch.num_reqs]
        return torch.add(table, table, out=room)

    def slots(self, batch: Any, block_size: int) -> Tensor:
        """Return the operators' slots for a batch: (requests,)."""
        slots = batch.slot_mapping[: batch.num_reqs]
        room = self._of(batch)[1][: batch.num_reqs]
        return torch.add(slots, cache.blocks_of(slots, block_size), alpha=block_size, out=room)

    def _of(self, batch: Any) -> tuple[Tensor, Tensor]:
        table, slots = batch.block_table_tensor, batch.slot_mapping
        width = table.shape[1]
        if width not in self._rooms:
            self._rooms[width] = table.new_zeros(self.most, width), slots.new_full((self.most,), -1)
        return self._rooms[width]


def lengths(ends: list[int], known: list[int]) -> list[int]:
    """Return how many keys each request of a padded batch has.

    Args:
        ends: where the new tokens of each request begin, and where those of the last one end. Requests that pad the
            batch have none.
        known: how many tokens each request has, as vLLM says; of those that pad the batch it says anything.
    """
    return [length if ends[i + 1] > ends[i] else 0 for i, length in enumerate(known)]
