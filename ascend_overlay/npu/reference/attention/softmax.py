"""softmax(scale * Q K^T + mask) V over sequences of different lengths, in float32.

Short sequences with as many queries, and with numbers of keys that are alike, are computed as one batch: those that
decode a token each are few products, whatever their number. Longer ones are computed one by one, and their keys and
values in pieces: what is converted to float32 stays in the processor's caches, where memory for all of it would cost
far more than the products.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ascend_overlay.npu.reference.attention import single
from ascend_overlay.npu.reference.attention.band import Band
from ascend_overlay.npu.reference.attention.stores import Packed, Paged, Store

_MOST_SCORES = 1 << 22
"""Scores that are held at a time."""
_MOST_TOGETHER = 1 << 18
"""Elements of the keys of sequences that are computed as one batch."""
_MOST_READ = 1 << 20
"""Elements of keys or values that are converted at a time."""


@dataclass(frozen=True)
class Sequences:
    """The sequences of a call.

    Attributes:
        starts: the row of the first query of each sequence.
        queries: how many queries it has.
        keys: how many keys.
    """

    starts: Sequence[int]
    queries: Sequence[int]
    keys: Sequence[int]


@dataclass(frozen=True)
class _Batch:
    """Sequences that are computed together.

    Attributes:
        numbers: which they are, (b,); None for all.
        size: how many they are.
        queries: how many queries each of them has.
        rows: the row of each one's first query, (b,); None where all rows are theirs, in their order.
        first: the first key that any query of a sequence sees, (b, 1).
        end: the one after the last, (b, 1).
        shift: what leads from a query's number to its diagonal, (b, 1, 1).
        length: the most keys of them.
        ragged: not all have as many.
    """

    numbers: Tensor | None
    size: int
    queries: int
    rows: Tensor | None
    first: Tensor
    end: Tensor
    shift: Tensor
    length: int
    ragged: bool


@dataclass(frozen=True)
class Attention:
    """What is the same for all sequences.

    Attributes:
        place: where the tokens of keys and values are.
        parts: (queries, keys) whose products add up to the scores; queries are (tokens, N, D).
        values: the values.
        scale: factor of the scores.
        band: what each query sees.
        mask: (B or 1, queries, keys) of bool, true where hidden; or None.
        sink: (N,): a score beside the others that brings no value; or None.
        with_lse: whether the logarithm of the sum of the exponentials is wanted.
    """

    place: Packed | Paged
    parts: list[tuple[Tensor, Store]]
    values: Store
    scale: float
    band: Band
    mask: Tensor | None
    sink: Tensor | None
    with_lse: bool

    def run(self, sequences: Sequences, size: int) -> tuple[Tensor, Tensor]:
        """Return the result (tokens, N, size) in float32, and lse (tokens, N); 0 and -inf where there are no keys."""
        rows, heads = self.parts[0][0].shape[:2]
        limits = [self.band.limits(*lengths) for lengths in zip(sequences.queries, sequences.keys, strict=True)]
        if (found := self._single(sequences, limits)) is not None:
            return found, torch.empty(0, dtype=torch.float32)
        batches = list(self._batches(sequences, limits, rows))
        if len(batches) == 1 and batches[0].rows is None:
            out = torch.empty(rows, heads, size, dtype=torch.float32)
        else:
            out = torch.zeros(rows, heads, size, dtype=torch.float32)
        lse = torch.full((rows, heads) if self.with_lse else (0,), -torch.inf, dtype=torch.float32)
        for batch in batches:
            self._attend(batch, out, lse)
        return out, lse

    def _single(self, sequences: Sequences, limits: list[tuple[int, int]]) -> Tensor | None:
        """Return the result where each row is the one query of a sequence, and nothing is out of the ordinary."""
        if not isinstance(self.place, Paged) or self.with_lse or self.mask is not None or self.sink is not None:
            return None
        if any(number != 1 for number in sequences.queries) or not all(end for _, end in limits):
            return None
        if not 0 < len(limits) == self.parts[0][0].shape[0]:
            return None
        if not all(store.like(self.values) for _, store in self.parts):
            return None
        return single.attend(self.place, self.parts, self.values, self.scale, self.band, list(sequences.keys))

    def _batches(self, sequences: Sequences, limits: list[tuple[int, int]], rows: int) -> Iterator[_Batch]:
        queries = sequences.queries
        lengths = [end - first for first, end in limits]
        token = self.values.heads * self.values.size
        for numbers in _alike(queries, lengths, _MOST_TOGETHER // token):
            several = [
                (i, sequences.starts[i], *limits[i], self.band.shift(queries[i], sequences.keys[i])) for i in numbers
            ]
            which, starts, first, end, shift = torch.tensor(several).unbind(1)
            found = [lengths[i] for i in numbers]
            yield _Batch(
                numbers=None if len(numbers) == len(queries) else which,
                size=len(numbers),
                queries=queries[numbers[0]],
                rows=None if len(numbers) * queries[numbers[0]] == rows else starts,
                first=first.unsqueeze(1),
                end=end.unsqueeze(1),
                shift=shift.view(-1, 1, 1),
                length=max(found),
                ragged=min(found) != max(found),
            )

    def _attend(self, batch: _Batch, out: Tensor, lse: Tensor) -> None:
        """Compute the sequences of `batch`, and write the rows of their queries."""
        heads = out.shape[1]
        wanted = batch.first + torch.arange(batch.length)
        # A sequence that has fewer keys gets its last one again, which is hidden: what lies behind it may be anything.
        positions = torch.minimum(wanted, batch.end - 1) if batch.ragged else wanted
        tokens = self.place.find(batch.numbers, positions)
        keys = [_reader(store, tokens) for _, store in self.parts]
        values = keys[0] if self.parts[0][1] is self.values else _reader(self.values, tokens, keys[0])
        step = max(1, _MOST_SCORES // (batch.size * heads * batch.length))
        for begin in range(0, batch.queries, step):
            numbers = range(begin, min(begin + step, batch.queries))
            rows = None
            if batch.rows is not None or len(numbers) < batch.queries:
                starts = torch.arange(batch.size) * batch.queries if batch.rows is None else batch.rows
                rows = (starts.unsqueeze(1) + torch.arange(numbers.start, numbers.stop)).flatten()
            scores = self._scores(rows, batch.size, keys).view(-1, heads, len(numbers), batch.length)
            hidden = self._hidden(batch, wanted, numbers)
            if hidden is not None:
                scores.masked_fill_(hidden.unsqueeze(1), -torch.inf)
            # A single query sees at least one key, or it would not be here.
            may_be_blind = batch.queries > 1 or self.mask is not None
            weights, sums = self._softmax(scores, hidden if may_be_blind else None)
            _write(out, rows, values.products(weights).view(batch.size, heads, len(numbers), -1))
            if sums is not None:
                _write(lse, rows, sums)

    def _scores(self, rows: Tensor | None, sequences: int, keys: list[_Reader]) -> Tensor:
        """Return the scores of the queries `rows`, (b * kv heads, heads of each * queries, keys)."""
        total = None
        for (queries, _), read in zip(self.parts, keys, strict=True):
            taken = (queries if rows is None else queries.index_select(0, rows)).float() * self.scale
            # (b, queries, heads, D) -> (b * kv heads, heads of each * queries, D)
            taken = taken.view(sequences, -1, *queries.shape[1:]).transpose(1, 2)
            taken = taken.reshape(sequences * self.values.heads, -1, queries.shape[2])
            scores = read.scores(taken)
            total = scores if total is None else total.add_(scores)
        assert total is not None
        return total

    def _hidden(self, batch: _Batch, wanted: Tensor, numbers: range) -> Tensor | None:
        """Return what is hidden, (b, len(numbers) or 1, length), or None where nothing is."""
        parts = []
        at = wanted.unsqueeze(1)
        if batch.ragged:
            parts.append(at >= batch.end.unsqueeze(1))
        # The limits say all about a single query.
        if batch.queries > 1:
            diagonal = torch.arange(numbers.start, numbers.stop).view(1, -1, 1) + batch.shift
            if self.band.after < batch.queries + batch.length:
                parts.append(at > diagonal + self.band.after)
            if self.band.before < batch.queries + batch.length:
                parts.append(at < diagonal - self.band.before)
        if self.mask is not None:
            rows = self.mask if batch.numbers is None or len(self.mask) == 1 else self.mask[batch.numbers]
            rows = rows[:, numbers.start : numbers.stop].expand(batch.size, -1, -1)
            parts.append(rows.gather(2, at.clamp(max=rows.shape[-1] - 1).expand(-1, len(numbers), -1)))
        if not parts:
            return None
        hidden = parts[0]
        for part in parts[1:]:
            hidden = hidden | part
        return hidden

    def _softmax(self, scores: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor | None]:
        sums = scores.logsumexp(-1) if self.with_lse else None
        if self.sink is None:
            weights = scores.softmax(-1)
            if hidden is not None and (blind := hidden.all(-1)).any():
                weights = weights.masked_fill(blind.view(len(blind), 1, -1, 1), 0.0)
            return weights, sums
        sink = self.sink.float().view(1, -1, 1, 1).expand(*scores.shape[:-1], 1)
        return torch.cat((scores, sink), -1).softmax(-1)[..., :-1], sums


class _Reader:
    """Reads keys or values of some tokens, (b, length): as a whole, or in pieces where that is too much at once."""

    def __init__(self, store: Store, tokens: Tensor, index: Tensor | None) -> None:
        self.store, self.index, self._tokens = store, index, tokens
        self._whole = None if index is None else store.take(tokens.shape[0], tokens.shape[1], index)

    def scores(self, queries: Tensor) -> Tensor:
        """Return ``queries @ keys``; queries are (b * N, some, D)."""
        found = [torch.bmm(queries, piece.transpose(1, 2)) for _, piece in self._pieces()]
        return found[0] if len(found) == 1 else torch.cat(found, -1)

    def products(self, weights: Tensor) -> Tensor:
        """Return ``weights @ values``; weights are (b, heads, queries, length)."""
        total = None
        for place, piece in self._pieces():
            some = weights if place is None else weights[..., place]
            found = torch.bmm(some.reshape(piece.shape[0], -1, piece.shape[1]), piece)
            total = found if total is None else total.add_(found)
        assert total is not None
        return total

    def _pieces(self) -> Iterator[tuple[slice | None, Tensor]]:
        if self._whole is not None:
            yield None, self._whole
            return
        store, length = self.store, self._tokens.shape[1]
        step = _step(store, self._tokens)
        for begin in range(0, length, step):
            tokens = self._tokens[:, begin : begin + step]
            yield slice(begin, begin + step), store.take(tokens.shape[0], tokens.shape[1], store.index(tokens))


def _step(store: Store, tokens: Tensor) -> int:
    return max(1, _MOST_READ // (tokens.shape[0] * store.heads * store.size))


def _reader(store: Store, tokens: Tensor, other: _Reader | None = None) -> _Reader:
    """Return a reader; `other` reads the same tokens from another store."""
    if tokens.shape[1] > _step(store, tokens):
        return _Reader(store, tokens, None)
    if other is not None and other.index is not None and other.store.like(store):
        return _Reader(store, tokens, other.index)
    return _Reader(store, tokens, store.index(tokens))


def _write(target: Tensor, tokens: Tensor | None, result: Tensor) -> None:
    """Write `result`, (b, heads, queries, ...), to the rows `tokens` of `target`, or to all of them."""
    rows = result.transpose(1, 2).flatten(0, 1)
    if tokens is None:
        target.copy_(rows)
    else:
        target.index_copy_(0, tokens, rows)


def _alike(queries: Sequence[int], lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Yield the numbers of sequences that are computed together: of as many queries, and of at most `most` keys."""
    there = (i for i, length in enumerate(lengths) if queries[i] and length)
    order = sorted(there, key=lambda i: (queries[i], lengths[i]))
    batch: list[int] = []
    for i in order:
        alike = batch and queries[i] == queries[batch[0]] and lengths[i] <= 2 * lengths[batch[0]] + 128
        if batch and not (alike and lengths[i] * (len(batch) + 1) <= most):
            yield sorted(batch)
            batch = []
        batch.append(i)
    if batch:
        yield sorted(batch)
