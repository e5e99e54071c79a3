"""Operators of multi-head latent attention."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ascend_overlay.npu.case import Arguments, OperatorCase
from ascend_overlay.npu.cases.numbers import FLOATS, HALF_UNIT, dtype_of, normal

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from ascend_overlay.npu.cases.lazy import torch

HALVES = ("bfloat16", "float16")
_LATENT, _ROPE, _BLOCK, _BLOCKS = 512, 64, 16, 12


def cases() -> Iterator[OperatorCase]:
    """Yield the cases of all of them."""
    for dtype in HALVES:
        for label, tokens in (("one token", 1), ("83 tokens", 83)):
            yield _case("npu_kv_rmsnorm_rope_cache", label, dtype, _write(tokens, dtype), _written)
        label = "5 tokens, of a wider cache, the last not to be kept"
        yield _case("npu_kv_rmsnorm_rope_cache", label, dtype, _write_strided(dtype), _written)
        for operator in ("npu_gather_pa_kv_cache", "npu_gather_pa_kv_cache_functional"):
            yield _case(operator, "3 sequences, 2 from their second block", dtype, _pages(dtype), _gathered)
        for label, heads, queries in (("8 heads", 8, [1, 1, 1]), ("128 heads, up to 16 queries", 128, [1, 16, 3])):
            make = functools.partial(_latent_attention, heads, queries, dtype)
            yield _case("npu_fused_infer_attention_score", f"latent cache, {label}", dtype, make, _attended)
    for dtype in FLOATS:
        make = functools.partial(_product, dtype)
        yield _case("npu_transpose_batchmatmul", "16 heads of 512 to 128", dtype, make, _multiplied)
        for parts in (2, 5):
            make = functools.partial(_parts, parts, dtype)
            yield _case("npu_attention_update", f"{parts} parts, one without keys", dtype, make, _merged)


def _case(operator: str, label: str, dtype: str, arguments: Any, baseline: Any) -> OperatorCase:
    return OperatorCase(
        operator=operator,
        label=label,
        dtype=dtype,
        arguments=arguments,
        baseline=baseline,
        against="formula",
        rtol=HALF_UNIT[dtype],
        # What is added up, of numbers of about 1, may cancel.
        atol=2e-5,
    )


def _caches(dtype: str) -> tuple[Tensor, Tensor]:
    return normal(5, _BLOCKS, _BLOCK, 1, _ROPE, dtype=dtype), normal(6, _BLOCKS, _BLOCK, 1, _LATENT, dtype=dtype)


def _write(tokens: int, dtype: str) -> Any:
    def make() -> Arguments:
        angles = 6 * normal(3, tokens, 1, 1, _ROPE // 2)
        cos, sin = (part.repeat(1, 1, 1, 2).to(dtype_of(dtype)) for part in (angles.cos(), angles.sin()))
        slots = torch.randperm(_BLOCKS * _BLOCK, generator=torch.Generator().manual_seed(4))[:tokens]
        kv = normal(1, tokens, 1, 1, _LATENT + _ROPE, dtype=dtype)
        arguments = (kv, normal(2, _LATENT, dtype=dtype), cos, sin, slots, *_caches(dtype))
        return arguments, {"epsilon": 1e-6, "cache_mode": "PA", "is_output_kv": True}

    return make


def _write_strided(dtype: str) -> Any:
    def make() -> Arguments:
        (kv, gamma, cos, sin, slots, *_), named = _write(5, dtype)()
        slots[-1] = -1
        memory = normal(5, _BLOCKS, _BLOCK, 1, _ROPE + _LATENT, dtype=dtype)
        return (kv, gamma, cos, sin, slots, memory[..., :_ROPE], memory[..., _ROPE:]), named

    return make


def _written(
    kv: Tensor, gamma: Tensor, cos: Tensor, sin: Tensor, index: Tensor, k_cache: Tensor, ckv_cache: Tensor, **_: Any
) -> list[Tensor]:
    latent = kv[..., :_LATENT].double()
    latent = latent / (latent.square().mean(-1, keepdim=True) + 1e-6).sqrt() * gamma.double()
    even, odd = kv[..., _LATENT::2].double(), kv[..., _LATENT + 1 :: 2].double()
    cos, sin = cos[..., : _ROPE // 2].double(), sin[..., : _ROPE // 2].double()
    key = torch.cat((even * cos - odd * sin, odd * cos + even * sin), -1)
    caches = []
    for cache, rows in ((k_cache, key), (ckv_cache, latent)):
        caches.append(cache.double().contiguous().clone())
        caches[-1].view(-1, rows.shape[-1])[index[index >= 0]] = rows.flatten(0, 2)[index >= 0]
    # The operator returns the caches, too.
    return [*caches, key, latent, *caches]


def _pages(dtype: str) -> Any:
    def make() -> Arguments:
        tables = torch.tensor([[3, 7, 0], [9, 2, 5], [11, 1, 4]], dtype=torch.int32)
        ends = torch.tensor([0, 20, 27, 56], dtype=torch.int32)
        first = torch.tensor([0, 16, 16], dtype=torch.int32)
        out = torch.zeros(56, 1, _ROPE, dtype=dtype_of(dtype)), torch.zeros(56, 1, _LATENT, dtype=dtype_of(dtype))
        return (*_caches(dtype), tables, ends, *out), {"seq_offset": first, "is_seq_lens_cumsum": True}

    return make


def _gathered(
    key_cache: Tensor, value_cache: Tensor, tables: Tensor, ends: Tensor, key: Tensor, value: Tensor, **more: Any
) -> list[Tensor]:
    found = []
    for cache in (key_cache, value_cache):
        rows = []
        for i, table in enumerate(tables):
            sequence = cache[table.long()].flatten(0, 1)
            first = int(more["seq_offset"][i])
            rows.append(sequence[first : first + int(ends[i + 1] - ends[i])])
        found.append(torch.cat(rows).double())
    return found


def _latent_attention(heads: int, queries: Sequence[int], dtype: str) -> Arguments:
    keys, latents = (cache.flatten(2) for cache in _caches(dtype))
    tokens = sum(queries)
    several = max(queries) > 1
    tables = torch.tensor([[3, 7, 0], [9, 2, 5], [11, 1, 4]], dtype=torch.int32)
    return (normal(1, tokens, heads, _LATENT, dtype=dtype, scale=0.1), latents, latents), {
        "query_rope": normal(2, tokens, heads, _ROPE, dtype=dtype),
        "key_rope": keys,
        "atten_mask": torch.ones(2048, 2048, dtype=torch.bool).triu(1) if several else None,
        "actual_seq_lengths": torch.tensor(queries).cumsum(0).tolist(),
        "actual_seq_lengths_kv": [40, 17, 48],
        "block_table": tables,
        "num_heads": heads,
        "num_key_value_heads": 1,
        "scale": 0.07,
        "input_layout": "TND_NTD",
        "sparse_mode": 3 if several else 0,
        "block_size": _BLOCK,
    }


def _attended(query: Tensor, latents: Tensor, _: Tensor, **more: Any) -> list[Tensor | None]:
    out, start = [], 0
    for i, end in enumerate(more["actual_seq_lengths"]):
        length, table = more["actual_seq_lengths_kv"][i], more["block_table"][i].long()
        values = latents[table].flatten(0, 1)[:length].double()
        keys = torch.cat((values, more["key_rope"][table].flatten(0, 1)[:length].double()), -1)
        queries = torch.cat((query[start:end], more["query_rope"][start:end]), -1).double()
        scores = more["scale"] * torch.einsum("qhd,kd->hqk", queries, keys)
        late = torch.arange(length) > torch.arange(length - (end - start), length).unsqueeze(1)
        out.append(scores.masked_fill(late, -torch.inf).softmax(-1) @ values)
        start = end
    return [torch.cat(out, 1), None]


def _product(dtype: str) -> Arguments:
    weight = normal(2, 16, _LATENT, 128, dtype=dtype, scale=_LATENT**-0.5)
    return (normal(1, 16, 9, _LATENT, dtype=dtype), weight), {"perm_x1": [0, 1, 2], "perm_y": [1, 0, 2]}


def _multiplied(x: Tensor, weight: Tensor, **_: Any) -> Tensor:
    return torch.einsum("bmk,bkn->mbn", x.double(), weight.double())


def _parts(parts: int, dtype: str) -> Arguments:
    lse = [normal(i, 40, scale=3) for i in range(parts)]
    lse[0] = torch.full((40,), -torch.inf)
    return (lse, [normal(10 + i, 40, 128, dtype=dtype) for i in range(parts)], 1), {}


def _merged(lse: Sequence[Tensor], out: Sequence[Tensor], _: int) -> tuple[Tensor, Tensor]:
    sums = torch.stack(list(lse)).double()
    total = sums.logsumexp(0)
    merged = ((sums - total).exp().unsqueeze(-1) * torch.stack(list(out)).double()).sum(0)
    return merged, total
