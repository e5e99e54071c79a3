"""What the tests of npu_fused_infer_attention_score share: a problem, its arguments, and its solution in float64."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from npu_kit import OPERATORS, assert_rounded_once, tensor, torch

FIRST, SECOND = OPERATORS.npu_fused_infer_attention_score, OPERATORS.npu_fused_infer_attention_score_v2
TRIANGLE = torch.ones(2048, 2048, dtype=torch.bool).triu(1)


@dataclass
class Problem:
    """Sequences of queries and keys, each (tokens, heads, size), and what each query sees."""

    queries: list[int]
    keys: list[int]
    heads: int = 4
    kv_heads: int = 2
    size: int = 16
    value_size: int = 16
    rope: int = 0
    dtype: Any = torch.bfloat16
    seed: int = 1
    block: int = 128
    before: int | None = None
    after: int | None = None
    from_the_right: bool = True
    masks: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scale = 1 / (self.size + self.rope) ** 0.5

        def make(seed: int, lengths: list[int], heads: int, size: int) -> list[Any]:
            return [
                tensor(self.seed * 9 + seed + 99 * i, n, heads, size, dtype=self.dtype) for i, n in enumerate(lengths)
            ]

        self.q, self.q_rope = (make(s, self.queries, self.heads, d) for s, d in ((1, self.size), (2, self.rope)))
        self.k, self.k_rope = (make(s, self.keys, self.kv_heads, d) for s, d in ((3, self.size), (4, self.rope)))
        self.v = make(5, self.keys, self.kv_heads, self.value_size)

    def exact(self, sink: Any = None) -> tuple[list[Any], list[Any], list[Any]]:
        """Return, a sequence each, the result, the lse (tokens, heads), and the size of what adds up, in float64."""
        found = []
        for i, (n, m) in enumerate(zip(self.queries, self.keys, strict=True)):
            q = torch.cat((self.q[i], self.q_rope[i]), -1).double().transpose(0, 1)
            k = torch.cat((self.k[i], self.k_rope[i]), -1).double().repeat_interleave(self.heads // self.kv_heads, 1)
            v = self.v[i].double().repeat_interleave(self.heads // self.kv_heads, 1).transpose(0, 1)
            scores = self.scale * q @ k.permute(1, 2, 0)
            shift = m - n if self.from_the_right else 0
            for row in range(n):
                for column in range(m):
                    late = self.after is not None and column > row + shift + self.after
                    early = self.before is not None and column < row + shift - self.before
                    if late or early or (self.masks and bool(self.masks[i][row, column])):
                        scores[:, row, column] = -torch.inf
            exponentials = scores.exp()
            total = exponentials.sum(-1, keepdim=True)
            divisor = total if sink is None else total + sink.double().exp().view(-1, 1, 1)
            weights = torch.where(total > 0, exponentials / divisor, 0.0)
            found.append([(weights @ x).transpose(0, 1) for x in (v, v.abs())])
            found[-1].insert(1, total.squeeze(-1).log().transpose(0, 1))
        out, lse, size = (list(parts) for parts in zip(*found, strict=True))
        return out, lse, size

    def arranged(self, layout: str, parts: list[Any], longest: int) -> Any:
        """Return `parts` in `layout`, padded with numbers that nobody must look at."""
        if "T" in layout:
            packed = torch.cat(parts)
            return packed.transpose(0, 1).contiguous() if layout == "NTD" else packed
        padded = torch.full((len(parts), longest, *parts[0].shape[1:]), 77.0, dtype=self.dtype)
        for i, part in enumerate(parts):
            padded[i, : len(part)] = part
        if layout == "BSH":
            return padded.flatten(2)
        return padded.transpose(1, 2).contiguous() if layout == "BNSD" else padded

    def paged(self, parts: list[Any], by_head: bool) -> tuple[Any, Any]:
        """Return a cache of shuffled blocks, NaN where nothing was written, and the block table."""
        counts = [-(-m // self.block) for m in self.keys]
        order = torch.randperm(sum(counts) + 2, generator=torch.Generator().manual_seed(self.seed)).tolist()
        cache = torch.full((len(order), self.block, *parts[0].shape[1:]), torch.nan, dtype=self.dtype)
        table = torch.zeros(len(parts), max(counts, default=0) + 1, dtype=torch.int32)
        for i, part in enumerate(parts):
            for j in range(counts[i]):
                table[i, j] = order.pop()
                piece = part[j * self.block : (j + 1) * self.block]
                cache[table[i, j], : len(piece)] = piece
        return cache.transpose(1, 2).contiguous() if by_head else cache.flatten(2), table

    def call(
        self, layout: str, sparse_mode: int = 0, *, cache: str = "", version: int = 2, lse: bool = False, **more: Any
    ) -> tuple[Any, Any]:
        """Call the operator; `cache`: "" for none, "tokens" or "heads" for what follows the blocks."""
        arguments, keywords = self.arguments(layout, sparse_mode, cache, version, lse)
        return (SECOND if version == 2 else FIRST)(*arguments, **keywords | more)

    def arguments(
        self, layout: str, sparse_mode: int = 0, cache: str = "", version: int = 2, lse: bool = False
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of `call`."""
        given = layout.split("_")[0]
        longest, most = max(self.queries), max(self.keys)
        ropes = {}
        if cache:
            key, table = self.paged(self.k, cache == "heads")
            value, _ = self.paged(self.v, cache == "heads")
            ropes["key_rope"], _ = self.paged(self.k_rope, cache == "heads")
        else:
            key, value, ropes["key_rope"] = (self.arranged(given, x, most) for x in (self.k, self.v, self.k_rope))
        ends = torch.tensor(self.queries).cumsum(0).tolist(), torch.tensor(self.keys).cumsum(0).tolist()
        packed = "T" in given
        ropes["query_rope"] = self.arranged(given, self.q_rope, longest)
        lengths = (ends[0] if packed else self.queries, ends[1] if packed and not cache else self.keys)
        names = ("actual_seq_qlen", "actual_seq_kvlen", "num_query_heads", "softmax_scale", "return_softmax_lse")
        if version == 1:
            names = ("actual_seq_lengths", "actual_seq_lengths_kv", "num_heads", "scale", "softmax_lse_flag")
        keywords = dict(zip(names, (*lengths, self.heads, self.scale, lse), strict=True))
        keywords |= {"num_key_value_heads": self.kv_heads, "input_layout": layout, "sparse_mode": sparse_mode}
        if cache:
            keywords |= {"block_table": table, "block_size": self.block}
        if sparse_mode in (2, 3, 4):
            keywords["atten_mask"] = TRIANGLE
        if sparse_mode == 4:
            keywords |= {"pre_tokens": self.before, "next_tokens": self.after}
        return [self.arranged(given, self.q, longest), key, value], keywords | (ropes if self.rope else {})

    def check(self, got: Any, layout: str, sink: Any = None) -> None:
        """See that `got` is the formula, rounded once."""
        result, lse = got
        out, sums, size = self.exact(sink)
        assert result.dtype == self.dtype
        assert result.is_contiguous()
        returned = layout.split("_")[-1]
        if "T" in returned:
            rows = result.transpose(0, 1) if returned == "NTD" else result
            pieces = rows.split(self.queries)
        else:
            if returned == "BSH":
                result = result.unflatten(2, (self.heads, self.value_size))
            order = {"BSH": (0, 1, 2, 3), "BSND": (0, 1, 2, 3), "BNSD": (0, 2, 1, 3), "NBSD": (1, 2, 0, 3)}[returned]
            pieces = [row[:n] for row, n in zip(result.permute(order), self.queries, strict=True)]
        for piece, exact, terms in zip(pieces, out, size, strict=True):
            assert_rounded_once(piece, exact, 4 * terms)
        assert lse.dtype == torch.float32
        if lse.numel():
            if "T" in layout:
                parts = list(lse.squeeze(-1).split(self.queries))
            else:
                parts = [x[:, :n, 0].T for x, n in zip(lse, self.queries, strict=True)]
            for part, exact in zip(parts, sums, strict=True):
                torch.testing.assert_close(part.double(), exact, rtol=1e-5, atol=1e-5)
