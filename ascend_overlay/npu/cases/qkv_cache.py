"""Norms, rotary embedding and cache write of queries, keys and values in one operator."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ascend_overlay.npu.case import Arguments, OperatorCase
from ascend_overlay.npu.cases.numbers import HALF_UNIT, dtype_of, normal

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from ascend_overlay.npu.cases.lazy import torch

_QUERIES, _KEYS, _SIZE, _BLOCKS, _BLOCK = 8, 2, 128, 5, 128
_HEADS = _QUERIES + 2 * _KEYS


def cases() -> Iterator[OperatorCase]:
    """Yield the cases."""
    for dtype in ("bfloat16", "float16"):
        for operator in ("npu_qkv_rms_norm_rope_cache", "npu_qkv_rms_norm_rope_cache_functional"):
            for label, tokens in (("4 tokens, one of them nowhere", 4), ("83 tokens", 83)):
                yield OperatorCase(
                    operator=operator,
                    label=label,
                    dtype=dtype,
                    arguments=functools.partial(_arguments, tokens, dtype),
                    baseline=_functional if operator.endswith("functional") else _written,
                    against="formula",
                    rtol=HALF_UNIT[dtype],
                    # Two products, of elements that are at most about 4, may cancel.
                    atol=2e-5,
                )


def _arguments(tokens: int, dtype: str) -> Arguments:
    angles = 6 * normal(3, tokens, _SIZE // 2)
    cos, sin = (part.repeat(1, 2).to(dtype_of(dtype)) for part in (angles.cos(), angles.sin()))
    places = torch.randperm(_BLOCKS * _BLOCK, generator=torch.Generator("cpu").manual_seed(4), device="cpu")[:tokens]
    if tokens < 10:
        places[1] = -1
    caches = [normal(seed, _BLOCKS, _KEYS * _SIZE // 16, _BLOCK, 16, dtype=dtype) for seed in (5, 6)]
    qkv = normal(1, tokens, _HEADS * _SIZE, dtype=dtype)
    gammas = normal(2, _SIZE, dtype=dtype), normal(7, _SIZE, dtype=dtype)
    out = torch.zeros(tokens, _QUERIES * _SIZE, dtype=dtype_of(dtype))
    places = places.to(torch.get_default_device())
    return (qkv, *gammas, cos, sin, places, out, *caches, [1, tokens, _HEADS, _SIZE], [_QUERIES, _KEYS, _KEYS]), {}


def _functional(*arguments: Any) -> list[Tensor | None]:
    # What is written is written to copies.
    return _written(*arguments)


def _written(
    qkv: Tensor,
    q_gamma: Tensor,
    k_gamma: Tensor,
    cos: Tensor,
    sin: Tensor,
    index: Tensor,
    out: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    *_: Any,
) -> list[Tensor | None]:
    heads = qkv.double().view(len(qkv), _HEADS, _SIZE)
    queries, keys, values = torch.split(heads, [_QUERIES, _KEYS, _KEYS], 1)
    turned = [_turned(x, gamma, cos, sin) for x, gamma in ((queries, q_gamma), (keys, k_gamma))]
    caches = []
    for cache, new in ((k_cache, turned[1]), (v_cache, values)):
        caches.append(cache.double().clone())
        for token, place in enumerate(index.tolist()):
            if place >= 0:
                caches[-1][place // _BLOCK, :, place % _BLOCK] = new[token].reshape(-1, 16)
    # The three results of the operator are without meaning.
    return [None, None, None, turned[0].flatten(1), *caches]


def _turned(x: Tensor, gamma: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    x = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * gamma.double()
    half = _SIZE // 2
    angle_cos, angle_sin = (part[:, None, :half].double() for part in (cos, sin))
    first, second = x[..., :half], x[..., half:]
    return torch.cat((first * angle_cos - second * angle_sin, second * angle_cos + first * angle_sin), -1)
