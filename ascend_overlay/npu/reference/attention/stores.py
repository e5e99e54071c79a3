"""Where keys and values are read from: tensors beside the queries, or the blocks of a paged cache."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """Keys or values as rows, (tokens, N, D).

    Attributes:
        rows: the tensor.
        starts: the row of the first token of each sequence, (B,), int64.
    """

    rows: Tensor
    starts: Tensor

    @property
    def heads(self) -> int:
        """N."""
        return self.rows.shape[1]

    def take(self, sequences: Tensor, positions: Tensor) -> Tensor:
        """Return the tokens at `positions`, (b, length), of `sequences`, (b,): (b, N, length, D), in float32."""
        tokens = (self.starts[sequences].unsqueeze(1) + positions).flatten()
        taken = self.rows.index_select(0, tokens).view(*positions.shape, *self.rows.shape[1:])
        return taken.transpose(1, 2).to(torch.float32, memory_format=torch.contiguous_format)


@dataclass(frozen=True)
class Paged:
    """Keys or values in blocks, of which the block table names those of each sequence.

    Attributes:
        cache: (blocks, block size, N * D), or (blocks, N, block size, D).
        heads: N.
        table: (B, blocks a sequence), int32.
    """

    cache: Tensor
    heads: int
    table: Tensor

    def take(self, sequences: Tensor, positions: Tensor) -> Tensor:
        """Return the tokens at `positions`, (b, length), of `sequences`, (b,): (b, N, length, D), in float32."""
        by_head = self.cache.dim() == 4
        size = self.cache.shape[2 if by_head else 1]
        blocks = self.table[sequences].long().gather(1, positions // size)
        offsets = positions % size
        if by_head:
            heads = torch.arange(self.heads).view(-1, 1)
            index = (blocks.unsqueeze(1) * self.heads + heads) * size + offsets.unsqueeze(1)
            flat = self.cache.view(-1, self.cache.shape[-1])
            return flat.index_select(0, index.flatten()).view(*index.shape, -1).float()
        tokens = (blocks * size + offsets).flatten()
        flat = self.cache.view(-1, self.cache.shape[-1])
        taken = flat.index_select(0, tokens).view(*positions.shape, self.heads, -1)
        return taken.transpose(1, 2).to(torch.float32, memory_format=torch.contiguous_format)
