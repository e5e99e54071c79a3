"""Single queries over a paged cache, as in a step of decoding.

For few short sequences most of the time goes into calling PyTorch, not into computing. So there are few calls, and what
leads to the keys is kept: all layers of a step read the same tokens, and the next step reads them again and one more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ascend_overlay.npu.reference.attention.band import Band
from ascend_overlay.npu.reference.attention.stores import Paged, Store, behind, rows_of, take_both
from ascend_overlay.npu.reference.constants import kept, number

_MOST = 1 << 20
"""Elements of keys that are held at a time."""
_STEPS = 16
"""Steps that are planned at once; all sizes of blocks are multiples of it."""

Blocks = tuple[tuple[int, ...], ...]


# Not frozen, because that takes several times as long to make, and a plan is made for many steps at once.
@dataclass(slots=True, eq=False)
class _Plan:
    """What is read, and what of it is seen. All layers of a step have the same.

    Attributes:
        length: how many tokens of each sequence are read.
        index: the rows that Store.take reads, or take_both.
        hidden: what is added to the scores: 0, or -inf where a token is not seen; (b * kv heads or 1, 1, length).
    """

    length: int
    index: Tensor
    hidden: Tensor


def attend(
    place: Paged, parts: Sequence[tuple[Tensor, Store]], values: Store, scale: float, band: Band, lengths: list[int]
) -> Tensor | None:
    """Return the attention of one query a sequence, (B, N, D) in float32; None where another way is quicker.

    Args:
        place: where the tokens are.
        parts: as in Attention, with stores that are like `values`.
        values: likewise.
        scale: likewise.
        band: what the query of a sequence sees; that is one key at least.
        lengths: how many keys each sequence has.
    """
    heads, batch, longest, blocks = values.heads, len(lengths), max(lengths), place.table
    needed = -(-longest // place.size)
    if needed < blocks.shape[1]:
        blocks = blocks[:, :needed]
    # Counted from the first of the steps that are planned at once, so that all of them find the same plans.
    step = (longest - 1) % _STEPS
    first = tuple([length - step for length in lengths])
    keys = parts[0][1]
    apart = behind(keys, values, batch) if len(parts) == 1 else 0
    listed = tuple(map(tuple, blocks.tolist()))
    plans = _plans(listed, first, band, place.size, heads, values.size, values.block_size, apart)
    if plans is None:
        return None
    plan = plans[step]
    scores, found = plan.hidden, None
    both = take_both(keys, batch, plan.length, apart, plan.index) if apart else None
    for queries, store in parts:
        read = store.take(batch, plan.length, plan.index) if both is None else both[0]
        if store is values:
            found = read
        # (b, N, D) -> (b * kv heads, heads of each, D)
        taken = queries.float().view(batch * heads, -1, store.size)
        scores = torch.baddbmm(scores, taken, read.transpose(1, 2), alpha=scale)
    if found is None:
        found = values.take(batch, plan.length, plan.index) if both is None else both[1]
    return torch.bmm(scores.softmax(-1), found).view(batch, -1, values.size)


@kept(4)
def _plans(
    blocks: Blocks,
    first: tuple[int, ...],
    band: Band,
    size: int,
    heads: int,
    width: int,
    block_size: int,
    apart: int,
) -> tuple[_Plan, ...] | None:
    """Return the plans of the steps in which each sequence gets one more key; None where another way is quicker.

    Args:
        blocks: the block table.
        first: how many keys each sequence has in the first step. Below 1 are those that begin later: what such a step
            has of them does not matter.
        band: as in `attend`.
        size: tokens of a block.
        heads: heads of the keys.
        width: elements of one.
        block_size: as in Store.
        apart: as in take_both; 0: keys are read alone.
    """
    batch = len(first)
    lengths = torch.tensor(first) + torch.arange(_STEPS).unsqueeze(1)
    begins, ends = band.limits_of_one(lengths)
    start, last = begins[0], ends - 1
    numbers = ends - start
    longest, total = int(numbers[-1].max()), int(numbers[-1].sum())
    # Sequences are padded to the longest.
    if batch * longest * heads * width > _MOST or batch * longest > 2 * total + 128 * batch:
        return None
    positions = start.unsqueeze(1) + torch.arange(longest)
    table = torch.tensor(blocks)
    tokens = Paged(table, size).find(None, positions.clamp(max=table.shape[1] * size - 1))
    # (b * kv heads or 1, tokens); likewise what is seen of it, (steps, b * kv heads or 1, tokens).
    rows = rows_of(tokens, heads, block_size).view(-1, longest)
    columns = torch.arange(longest)
    of_each = rows.shape[0] // batch
    begins, last = ((x - start).repeat_interleave(of_each, 1).unsqueeze(2) for x in (begins, last))
    visible = (columns >= begins) & (columns <= last)
    # What is not seen may be anything, so the last token is read in its place.
    instead = rows.expand(_STEPS, -1, -1).gather(2, last.clamp(0, longest - 1))
    index = torch.where(visible, rows, instead)
    if apart:
        index = torch.cat((index, index + apart), 1)
    hidden = torch.where(visible, number(0.0), number(-torch.inf)).unsqueeze(2)
    read = numbers.amax(1).clamp(min=1).tolist()
    return tuple([_Plan(n, index[i, :, :n].flatten(), hidden[i, ..., :n]) for i, n in enumerate(read)])
