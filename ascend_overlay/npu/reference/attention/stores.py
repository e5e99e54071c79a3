"""Where keys and values are read from: tensors beside the queries, or the blocks of a paged cache.

Keys, values and the rotated parts of keys lie alike, so that a token has one number in all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """Sequences that lie one after the other.

    Attributes:
        starts: the number of the first token of each sequence, (B,), int64.
    """

    starts: Tensor

    def find(self, sequences: Tensor | None, positions: Tensor) -> Tensor:
        """Return the numbers of the tokens at `positions`, (b, length), of `sequences`, (b,), or of all."""
        starts = self.starts if sequences is None else self.starts[sequences]
        return starts.unsqueeze(1) + positions


@dataclass(frozen=True)
class Paged:
    """Sequences in blocks.

    Attributes:
        table: the blocks of each sequence, in order, (B, blocks a sequence), int32.
        size: tokens of a block.
    """

    table: Tensor
    size: int

    def find(self, sequences: Tensor | None, positions: Tensor) -> Tensor:
        """Return the numbers of the tokens at `positions`, (b, length), of `sequences`, (b,), or of all."""
        table = self.table if sequences is None else self.table[sequences]
        if table.shape[1] == 1:
            return table * self.size + positions
        blocks = table.gather(1, positions // self.size)
        return blocks * self.size + positions % self.size


# Not frozen, because that takes several times as long to make.
@dataclass(slots=True, eq=False)
class Store:
    """A tensor of keys, values or rotated parts.

    Attributes:
        tensor: (tokens, N, D) in any shape of that order, or (blocks, N, block size, D).
        heads: N.
        size: D.
        block_size: tokens of a block if the heads come before the tokens; else 0.
    """

    tensor: Tensor
    heads: int
    size: int
    block_size: int = 0

    def index(self, tokens: Tensor) -> Tensor:
        """Return the rows that `take` reads, for tokens of these numbers, (b, length)."""
        return rows_of(tokens, self.heads, self.block_size)

    def take(self, sequences: int, length: int, index: Tensor) -> Tensor:
        """Return so many tokens of so many sequences, whose `index` this is: (b * N, length, D), in float32."""
        row = self.row(sequences)
        rows = self.tensor.view(-1, row).index_select(0, index).float()
        if row == self.size:
            return rows.view(-1, length, row)
        return rows.view(length, self.heads, self.size).transpose(0, 1)

    def row(self, sequences: int) -> int:
        """Return the elements of a row that `take` reads: those of a head, or of a token."""
        return self.heads * self.size if _whole(sequences, self.block_size) else self.size

    def like(self, other: Store) -> bool:
        """Tell whether `index` is the same for both."""
        return (self.heads, self.block_size) == (other.heads, other.block_size)


def behind(keys: Store, values: Store, sequences: int) -> int:
    """Return how many of the rows that `take` reads `values` begin behind `keys`, in one piece of memory; 0: not so."""
    between = values.tensor.data_ptr() - keys.tensor.data_ptr()
    if between <= 0 or keys.size != values.size:
        return 0
    if keys.tensor.untyped_storage().data_ptr() != values.tensor.untyped_storage().data_ptr():
        return 0
    rows, rest = divmod(between, keys.row(sequences) * keys.tensor.itemsize)
    return 0 if rest else rows


def take_both(keys: Store, sequences: int, length: int, apart: int, index: Tensor) -> tuple[Tensor, Tensor]:
    """Return what `take` does of `keys`, and of the values that are `behind` them, in fewer calls of PyTorch.

    Args:
        keys: of which `index` counts the rows.
        sequences: as in Store.take.
        length: likewise.
        apart: how many rows the values are behind.
        index: the rows of the keys, and after them those of the values.
    """
    tensor, row = keys.tensor, keys.row(sequences)
    rows = tensor.as_strided((tensor.numel() // row + apart, row), (row, 1)).index_select(0, index).float()
    if row == keys.size:
        both = rows.view(2, -1, length, row).unbind()
    else:
        both = rows.view(2, length, keys.heads, keys.size).transpose(1, 2).unbind()
    return both[0], both[1]


def rows_of(tokens: Tensor, heads: int, block_size: int) -> Tensor:
    """Return the rows that `Store.take` reads, for tokens of these numbers, (b, length)."""
    if _whole(tokens.shape[0], block_size):
        return tokens.flatten()
    by_head = torch.arange(heads).view(-1, 1)
    tokens = tokens.unsqueeze(1)
    if not block_size:
        return (tokens * heads + by_head).flatten()
    block, place = tokens // block_size, tokens % block_size
    return ((block * heads + by_head) * block_size + place).flatten()


def _whole(sequences: int, block_size: int) -> bool:
    # Whole tokens are quicker to read, and a product takes heads that lie apart if there is one sequence.
    return sequences == 1 and not block_size
