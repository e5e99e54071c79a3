"""Single queries over a paged cache, as in a step of decoding.

For few short sequences most of the time goes into calling PyTorch, not into computing. So there are few calls.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from ascend_overlay.npu.reference.attention.stores import Paged, Store, rows_of

_MOST = 1 << 20
"""Elements of keys that are held at a time."""

Limits = tuple[tuple[int, int], ...]


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
    lengths = [end - first for first, end in limits]
    batch, longest, heads = len(limits), max(lengths), values.heads
    # Sequences are padded to the longest.
    if batch * longest * heads * values.size > _MOST or batch * longest > 2 * sum(lengths) + 128 * batch:
        return None
    if not all(store.like(values) for _, store in parts):
        return None
    blocks = place.table[:, : -(-max(end for _, end in limits) // place.size)]
    plan = _plan(tuple(blocks.flatten().tolist()), limits, place.size, heads, values.block_size)
    tokens, index, scores = plan
    read: dict[int, Tensor] = {}
    for queries, store in parts:
        keys = read[id(store)] = store.take(tokens, index)
        # (b, N, D) -> (b * kv heads, heads of each, D)
        taken = queries.float().view(batch * heads, -1, store.size)
        scores = torch.baddbmm(scores, taken, keys.transpose(1, 2), alpha=scale)
    found = read[id(values)] if id(values) in read else values.take(tokens, index)
    return torch.bmm(scores.softmax(-1), found).view(batch, -1, values.size)


@functools.lru_cache(maxsize=8)
def _plan(
    blocks: tuple[int, ...], limits: Limits, size: int, heads: int, block_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the tokens (b, length), the rows that Store.take reads, and what is added to scores: 0, or -inf if hidden.

    All layers of a step have the same, so the last ones are kept. Nobody writes to them.
    """
    batch, longest = len(limits), max(end - first for first, end in limits)
    first, end = torch.tensor([[first for first, _ in limits], [end for _, end in limits]]).unsqueeze(-1)
    wanted = first + torch.arange(longest)
    # A sequence that has fewer keys gets its last one again: what lies behind it may be anything.
    place = Paged(torch.tensor(blocks).view(batch, -1), size)
    tokens = place.find(None, torch.minimum(wanted, end - 1))
    hidden = torch.where(wanted < end, 0.0, torch.tensor(-torch.inf, dtype=torch.float32)).unsqueeze(1)
    return tokens, rows_of(tokens, heads, block_size), hidden.expand(-1, heads, -1).reshape(-1, 1, longest)
