"""Attention over new, packed and paged tokens, and writing to the cache."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ascend_overlay.npu.case import Arguments, OperatorCase
from ascend_overlay.npu.cases.numbers import HALF_UNIT, normal

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from ascend_overlay.npu.cases.lazy import torch

_BLOCK, _BLOCKS = 128, 7
_TABLE = [[3, 5, 0], [6, 0, 0], [1, 4, 2]]
_LENGTHS = [200, 17, 300]

_PAGED: dict[str, tuple[list[int], dict[str, Any]]] = {
    # label -> new tokens of each sequence, further arguments
    "paged, one token each": ([1, 1, 1], {"sparse_mode": 3}),
    "paged, prompts and single tokens": ([200, 1, 140], {"sparse_mode": 3}),
    "paged, window of 100": ([3, 17, 1], {"sparse_mode": 4, "pre_tokens": 99, "next_tokens": 0}),
    "paged, everything": ([4, 1, 2], {"sparse_mode": 0}),
}


def cases() -> Iterator[OperatorCase]:
    """Yield the cases of npu_fused_infer_attention_score in its forms, and of npu_scatter_pa_kv_cache."""
    second = "npu_fused_infer_attention_score_v2"
    for dtype in ("bfloat16", "float16"):
        for label, (new, more) in _PAGED.items():
            yield _case(second, label, dtype, functools.partial(_paged, dtype, new, more))
        yield _case(second, "paged, in NZ", dtype, functools.partial(_paged_in_tiles, dtype))
        yield _case("npu_fused_infer_attention_score", "BSH, padded", dtype, functools.partial(_padded, dtype))
        yield OperatorCase(
            operator=f"{second}.out",
            label="paged, into given tensors",
            dtype=dtype,
            arguments=functools.partial(_paged_into, dtype),
            baseline=_paged_into_formula,
            against="formula",
            rtol=HALF_UNIT[dtype],
            atol=1e-5,
        )
        yield _case(second, "paged, keys and values of a block side by side", dtype, functools.partial(_strided, dtype))
    yield _case(second, "paged, sinks", "bfloat16", _with_sinks)
    for dtype in ("bfloat16", "float16", "float32"):
        for operator in ("npu_scatter_pa_kv_cache", "npu_scatter_pa_kv_cache_functional"):
            for label, make in (
                ("to scattered slots", _write),
                ("keys and values of a block side by side", _write_strided),
            ):
                yield OperatorCase(
                    operator=operator,
                    label=f"5 tokens, {label}",
                    dtype=dtype,
                    arguments=functools.partial(make, dtype),
                    baseline=_written,
                    against="formula",
                    rtol=0.0,
                    atol=0.0,
                )


def _case(operator: str, label: str, dtype: str, arguments: Any) -> OperatorCase:
    return OperatorCase(
        operator=operator,
        label=label,
        dtype=dtype,
        arguments=arguments,
        baseline=_FORMULAS.get(label, _paged_formula),
        against="formula",
        rtol=HALF_UNIT[dtype],
        # Values of about 1 are added up with weights that sum to 1, and may cancel.
        atol=1e-5,
    )


def _with_sinks() -> Arguments:
    sinks = normal(9, 8, dtype="bfloat16")
    return _paged("bfloat16", [5, 1, 1], {"sparse_mode": 3, "learnable_sink": sinks})


def _paged(dtype: str, new: Sequence[int], more: dict[str, Any]) -> Arguments:
    caches = [normal(seed, _BLOCKS, _BLOCK, 2 * 64, dtype=dtype) for seed in (1, 2)]
    mask = None if more["sparse_mode"] == 0 else torch.ones(2048, 2048, dtype=torch.bool).triu(1)
    return (normal(3, sum(new), 8, 64, dtype=dtype), *caches), {
        "atten_mask": mask,
        "actual_seq_qlen": torch.tensor(new).cumsum(0).tolist(),
        "actual_seq_kvlen": _LENGTHS,
        "block_table": torch.tensor(_TABLE, dtype=torch.int32),
        "num_query_heads": 8,
        "num_key_value_heads": 2,
        "softmax_scale": 0.125,
        "input_layout": "TND",
        "block_size": _BLOCK,
        **more,
    }


def _strided(dtype: str) -> Arguments:
    (query, keys, values), named = _paged(dtype, [3, 17, 1], {"sparse_mode": 3})
    query = torch.cat((query, query), -1)[..., :64]
    return (query, *torch.stack((keys, values), 1).unbind(1)), named


def _paged_in_tiles(dtype: str) -> Arguments:
    (query, *caches), named = _paged(dtype, [1, 17, 1], {"sparse_mode": 3})
    return (
        query,
        *(cache.view(_BLOCKS, _BLOCK, 2, -1, 16).permute(0, 2, 3, 1, 4).contiguous() for cache in caches),
    ), named


def _tiles_formula(query: Tensor, keys: Tensor, values: Tensor, **more: Any) -> list[Tensor | None]:
    caches = [cache.permute(0, 3, 1, 2, 4).flatten(2) for cache in (keys, values)]
    return _paged_formula(query, *caches, **more)


def _paged_into(dtype: str) -> Arguments:
    positional, named = _paged(dtype, [3, 17, 1], {"sparse_mode": 3})
    return positional, {**named, "out": [normal(4, 21, 8, 64, dtype=dtype), torch.empty(0, dtype=torch.float32)]}


def _paged_into_formula(query: Tensor, keys: Tensor, values: Tensor, **more: Any) -> list[Tensor | None]:
    return 2 * _paged_formula(query, keys, values, **more)


def _paged_formula(query: Tensor, keys: Tensor, values: Tensor, **more: Any) -> list[Tensor | None]:
    out, start = [], 0
    for i, end in enumerate(more["actual_seq_qlen"]):
        length, table = _LENGTHS[i], more["block_table"][i].long()
        k, v = (cache[table].flatten(0, 1)[:length].view(length, 2, 64).double() for cache in (keys, values))
        at = torch.arange(length - (end - start), length).unsqueeze(1) - torch.arange(length)
        hidden = (at < 0) | (at > more.get("pre_tokens", length))
        if more["sparse_mode"] == 0:
            hidden = torch.zeros_like(hidden)
        out.append(_attend(query[start:end].double(), k, v, 0.125, hidden, more.get("learnable_sink")))
        start = end
    return [torch.cat(out), None]


def _attend(query: Tensor, k: Tensor, v: Tensor, scale: float, hidden: Tensor, sink: Tensor | None = None) -> Tensor:
    group = query.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    exponentials = (scale * torch.einsum("qhd,khd->hqk", query, k)).masked_fill(hidden, -torch.inf).exp()
    total = exponentials.sum(-1, keepdim=True)
    if sink is not None:
        total = total + sink.double().exp().view(-1, 1, 1)
    return torch.einsum("hqk,khd->qhd", exponentials / total, v)


def _padded(dtype: str) -> Arguments:
    tensors = [normal(seed, 2, length, heads * 32, dtype=dtype) for seed, length, heads in ((1, 5, 4), (2, 9, 2))]
    return (*tensors, normal(3, 2, 9, 2 * 32, dtype=dtype)), {
        "actual_seq_lengths_kv": [9, 4],
        "num_heads": 4,
        "num_key_value_heads": 2,
        "scale": 0.2,
        "softmax_lse_flag": True,
    }


def _padded_formula(query: Tensor, key: Tensor, value: Tensor, **more: Any) -> list[Tensor]:
    out, sums = [], []
    for i, length in enumerate(more["actual_seq_lengths_kv"]):
        q = query[i].double().view(5, 4, 32)
        k, v = (x[i, :length].double().view(length, 2, 32) for x in (key, value))
        scores = 0.2 * torch.einsum("qhd,khd->hqk", q, k.repeat_interleave(2, 1))
        sums.append(scores.exp().sum(-1, keepdim=True).log())
        out.append(_attend(q, k, v, 0.2, torch.zeros(5, length, dtype=torch.bool)).flatten(1))
    return [torch.stack(out), torch.stack(sums)]


def _write(dtype: str) -> Arguments:
    new = [normal(seed, 5, 2, size, dtype=dtype) for seed, size in ((1, 64), (2, 32))]
    caches = [normal(seed, 3, 16, 2, size, dtype=dtype) for seed, size in ((3, 64), (4, 32))]
    return (*new, *caches, torch.tensor([17, 3, 47, 0, 16])), {"cache_mode": "Norm"}


def _write_strided(dtype: str) -> Arguments:
    (key, value, *_, slots), named = _write(dtype)
    memory = normal(3, 3, 16 * 2 * (64 + 32), dtype=dtype)
    caches = memory[:, :2048].view(3, 16, 2, 64), memory[:, 2048:].view(3, 16, 2, 32)
    rows = torch.cat((key, value), -1)
    return (rows[..., :64], rows[..., 64:], *caches, slots), named


def _written(key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slots: Tensor, **_: Any) -> Any:
    caches = [key_cache.clone(), value_cache.clone()]
    for cache, new in zip(caches, (key, value), strict=True):
        cache[slots // 16, slots % 16] = new
    return caches


_FORMULAS: dict[str, Any] = {"BSH, padded": _padded_formula, "paged, in NZ": _tiles_formula}
