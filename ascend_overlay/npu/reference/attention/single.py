"""Single queries over a paged cache, as in a step of decoding.

For few short sequences most of the time goes into calling PyTorch, not into computing. So there are few calls, and what
leads to the keys is kept: all layers of a step read the same tokens, and the next step reads them again and one more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ascend_overlay.npu.reference.attention.stores import Paged, Store, rows_of
from ascend_overlay.npu.reference.constants import kept, number

_MOST = 1 << 20
"""Elements of keys that are held at a time."""
_STEP = 16
"""Tokens by which what is read grows; all sizes of blocks are multiples of it."""

Limits = tuple[tuple[int, int], ...]
Blocks = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is read, and what of it is seen. All layers of a step have the same.

    Attributes:
        sequences: how many there are.
        length: how many tokens of each are read.
        index: the rows that Store.take reads.
        scores: what is added to the scores: 0, or -inf where a token is not seen; (b * kv heads or 1, 1, length).
    """

    sequences: int
    length: int
    index: Tensor
    scores: Tensor


def attend(
    place: Paged, parts: Sequence[tuple[Tensor, Store]], values: Store, scale: float, limits: Limits
) -> Tensor | None:
    """Return the attention of one query a sequence, (B, N, D) in float32; None where another way is quicker.

    Args:
        place: where the tokens are.
        parts: as in Attention.
        values: likewise.
        scale: likewise.
        limits: the first key that the query of a sequence sees, and the one after the last; there is one at least.
    """
    heads = values.heads
    if not all(store.like(values) for _, store in parts):
        return None
    blocks = place.table
    needed = -(-max([end for _, end in limits]) // place.size)
    if needed < blocks.shape[1]:
        blocks = blocks[:, :needed]
    plan = _plan(tuple(map(tuple, blocks.tolist())), limits, place.size, heads, values.size, values.block_size)
    if plan is None:
        return None
    scores, read = plan.scores, None
    for queries, store in parts:
        keys = store.take(plan.sequences, plan.length, plan.index)
        if store is values:
            read = keys
        # (b, N, D) -> (b * kv heads, heads of each, D)
        taken = queries.float().view(plan.sequences * heads, -1, store.size)
        scores = torch.baddbmm(scores, taken, keys.transpose(1, 2), alpha=scale)
    found = values.take(plan.sequences, plan.length, plan.index) if read is None else read
    return torch.bmm(scores.softmax(-1), found).view(plan.sequences, -1, values.size)


@kept(8)
def _plan(blocks: Blocks, limits: Limits, size: int, heads: int, width: int, block_size: int) -> _Plan | None:
    batch, longest = len(limits), max(end - first for first, end in limits)
    # Sequences are padded to the longest.
    if batch * longest * heads * width > _MOST:
        return None
    if batch * longest > 2 * sum(end - first for first, end in limits) + 128 * batch:
        return None
    starts = tuple(first // _STEP * _STEP for first, _ in limits)
    length = max(end - start for (_, end), start in zip(limits, starts, strict=True))
    rows = _rows(blocks, starts, -(-length // _STEP) * _STEP, size, heads, block_size)
    seen = [(first - start, end - start) for (first, end), start in zip(limits, starts, strict=True)]
    if all(some == seen[0] for some in seen):
        read = rows[:, slice(*seen[0])]
        return _Plan(batch, read.shape[1], read.flatten(), number(0.0).view(1, 1, 1))
    # Seen from the first of the steps that read these rows, so that all of them find the same.
    step = (max(end for _, end in limits) - 1) % _STEP
    base = tuple((first - step if first else None, end - step) for first, end in seen)
    index, hidden = _steps(rows, base)[step]
    return _Plan(batch, rows.shape[1], index, hidden)


@kept(4)
def _steps(rows: Tensor, base: tuple[tuple[int | None, int], ...]) -> tuple[tuple[Tensor, Tensor], ...]:
    """Return the index and what is added to the scores, for each of the steps in which a sequence gets one more key.

    Args:
        rows: of _rows, which keeps them, so that they are the same object.
        base: the limits in the first step, from the first of the rows on; None: the first key stays where it is.
    """
    length = rows.shape[1]
    columns, steps = torch.arange(length), torch.arange(_STEP).view(-1, 1, 1)
    of_each = range(rows.shape[0] // len(base))
    # In steps that these sequences have not, or not with these rows, it does not matter.
    last = (torch.tensor([[end - 1] for _, end in base for _ in of_each]) + steps).clamp(0, length - 1)
    visible = columns <= last
    if any(first is not None for first, _ in base):
        firsts = [[-_STEP if first is None else first] for first, _ in base for _ in of_each]
        visible &= columns >= torch.tensor(firsts) + steps
    # What is not seen may be anything, so the last token is read in its place.
    index = torch.where(visible, rows, rows.expand(_STEP, -1, -1).gather(2, last)).flatten(1)
    hidden = torch.where(visible, number(0.0), number(-torch.inf)).unsqueeze(2)
    return tuple(zip(index.unbind(), hidden.unbind(), strict=True))


@kept(8)
def _rows(blocks: Blocks, starts: tuple[int, ...], length: int, size: int, heads: int, block_size: int) -> Tensor:
    """Return the rows of `length` tokens from `starts` on, (b * kv heads or 1, length).

    They are the same in several steps, so the last ones are kept.
    """
    table = torch.tensor(blocks)
    positions = torch.tensor(starts).unsqueeze(1) + torch.arange(length)
    tokens = Paged(table, size).find(None, positions.clamp(max=table.shape[1] * size - 1))
    return rows_of(tokens, heads, block_size).view(-1, length)
