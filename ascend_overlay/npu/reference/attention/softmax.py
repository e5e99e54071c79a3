"""softmax(scale * Q K^T + mask) V over sequences of different lengths, in float32.

Sequences with as many queries, and with numbers of keys that are alike, are computed as one batch: those that decode a
token each are one product, whatever their number. What is left is a loop over such batches, because a prompt's scores
are far too many to be padded to the longest of all prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ascend_overlay.npu.reference.attention.band import Band
from ascend_overlay.npu.reference.attention.stores import Packed, Paged

_MOST_SCORES = 1 << 22
"""Scores that are held at a time."""
_MOST_ELEMENTS = 1 << 23
"""Elements of keys and values that are read into one batch, unless one sequence has more."""

Store = Packed | Paged


@dataclass(frozen=True)
class Attention:
    """What is the same for all sequences.

    Attributes:
        parts: (queries, keys) whose products add up to the scores: rows (tokens, N, D), and where the keys are.
        values: where the values are.
        scale: factor of the scores.
        band: what each query sees.
        mask: (B or 1, queries, keys) of bool, true where hidden; or None.
        sink: (N,): a score beside the others that brings no value; or None.
        with_lse: whether the logarithm of the sum of the exponentials is wanted.
    """

    parts: tuple[tuple[Tensor, Store], ...]
    values: Store
    scale: float
    band: Band
    mask: Tensor | None
    sink: Tensor | None
    with_lse: bool

    def run(
        self, starts: Sequence[int], queries: Sequence[int], keys: Sequence[int], size: int
    ) -> tuple[Tensor, Tensor]:
        """Return the result (tokens, N, size) in float32, and lse (tokens, N); 0 and -inf where there are no keys.

        Args:
            starts: the row of the first query of each sequence.
            queries: how many queries it has.
            keys: how many keys.
            size: elements of a value's head.
        """
        rows, heads = self.parts[0][0].shape[:2]
        out = torch.zeros(rows, heads, size, dtype=torch.float32)
        shape = (rows, heads) if self.with_lse else (0,)
        lse = torch.full(shape, -torch.inf, dtype=torch.float32)
        limits = [self.band.limits(*lengths) for lengths in zip(queries, keys, strict=True)]
        for batch in self._batches(queries, limits):
            first, span = torch.tensor([limits[i] for i in batch]).unbind(1)
            shift = torch.tensor([self.band.shift(queries[i], keys[i]) for i in batch])
            where = torch.tensor([starts[i] for i in batch])
            self._attend(torch.tensor(batch), where, queries[batch[0]], first, span, shift, out, lse)
        return out, lse

    def _batches(self, queries: Sequence[int], limits: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
        lengths = [end - first for first, end in limits]
        most = _MOST_ELEMENTS // max(1, self.values.heads * self.parts[0][0].shape[-1])
        order = sorted(
            (i for i in range(len(queries)) if queries[i] and lengths[i]), key=lambda i: (queries[i], lengths[i])
        )
        batch: list[int] = []
        for i in order:
            alike = batch and queries[i] == queries[batch[0]] and lengths[i] <= 2 * lengths[batch[0]] + 128
            if batch and not (alike and lengths[i] * (len(batch) + 1) <= most):
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def _attend(
        self,
        batch: Tensor,
        starts: Tensor,
        queries: int,
        first: Tensor,
        end: Tensor,
        shift: Tensor,
        out: Tensor,
        lse: Tensor,
    ) -> None:
        """Compute the sequences `batch`, which have `queries` queries each and see the keys from `first` to `end`."""
        length = int((end - first).max())
        wanted = first.unsqueeze(1) + torch.arange(length)
        ragged = bool(((end - first) != length).any())
        # A sequence that has fewer keys gets its last one again, which is hidden: what lies behind it may be anything.
        positions = torch.minimum(wanted, end.unsqueeze(1) - 1) if ragged else wanted
        keys = [store.take(batch, positions).flatten(0, 1) for _, store in self.parts]
        same = self.parts[0][1] is self.values
        values = keys[0] if same else self.values.take(batch, positions).flatten(0, 1)
        heads, kv_heads = out.shape[1], self.values.heads
        step = max(1, _MOST_SCORES // (len(batch) * heads * length))
        for begin in range(0, queries, step):
            count = min(step, queries - begin)
            tokens = (starts.unsqueeze(1) + torch.arange(begin, begin + count)).flatten()
            scores = torch.zeros((), dtype=torch.float32)
            for i, (rows, _) in enumerate(self.parts):
                # (b, count, kv heads, heads of each, D) -> (b * kv heads, heads of each * count, D)
                taken = rows.index_select(0, tokens).float().mul_(self.scale)
                taken = taken.view(len(batch), count, kv_heads, heads // kv_heads, -1).permute(0, 2, 3, 1, 4)
                taken = taken.reshape(len(batch) * kv_heads, -1, rows.shape[-1])
                product = torch.bmm(taken, keys[i].transpose(1, 2))
                scores = product if i == 0 else scores.add_(product)
            scores = scores.view(len(batch), heads, count, length)
            hidden = self._hidden(batch, wanted, end if ragged else None, shift, range(begin, begin + count), queries)
            if hidden is not None:
                scores.masked_fill_(hidden.unsqueeze(1), -torch.inf)
            weights, sums = self._softmax(scores, hidden)
            result = torch.bmm(weights.view(len(batch) * kv_heads, -1, length), values)
            result = result.view(len(batch), heads, count, -1).transpose(1, 2).flatten(0, 1)
            out.index_copy_(0, tokens, result)
            if sums is not None:
                lse.index_copy_(0, tokens, sums.transpose(1, 2).flatten(0, 1))

    def _hidden(
        self, batch: Tensor, wanted: Tensor, end: Tensor | None, shift: Tensor, numbers: range, queries: int
    ) -> Tensor | None:
        """Return what is hidden, (b, len(numbers), length), or None where nothing is."""
        parts = []
        at = wanted.unsqueeze(1)
        if end is not None:
            parts.append(at >= end.view(-1, 1, 1))
        # The limits say all about a single query.
        if queries > 1:
            diagonal = torch.tensor(list(numbers)).view(1, -1, 1) + shift.view(-1, 1, 1)
            if self.band.after < max(queries, int(wanted.max())):
                parts.append(at > diagonal + self.band.after)
            if self.band.before < int(diagonal.max()):
                parts.append(at < diagonal - self.band.before)
        if self.mask is not None:
            rows = self.mask[batch if self.mask.shape[0] > 1 else batch * 0, numbers.start : numbers.stop]
            last = rows.shape[-1] - 1
            parts.append(rows.gather(2, at.clamp(max=last).expand(-1, len(numbers), -1)))
        if not parts:
            return None
        hidden = parts[0]
        for part in parts[1:]:
            hidden = hidden | part
        return hidden.expand(-1, len(numbers), -1)

    def _softmax(self, scores: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor | None]:
        sums = scores.logsumexp(-1) if self.with_lse else None
        if self.sink is None:
            weights = scores.softmax(-1)
        else:
            sink = self.sink.float().view(1, -1, 1, 1).expand(*scores.shape[:-1], 1)
            weights = torch.cat((scores, sink), -1).softmax(-1)[..., :-1].contiguous()
        if hidden is not None and self.sink is None:
            blind = hidden.all(-1)
            if blind.any():
                weights = weights.masked_fill(blind.view(blind.shape[0], 1, -1, 1), 0.0)
        return weights, sums
