"""From the product of queries, keys and values to a paged cache: norms, rotary embedding and cache write in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ascend_overlay.npu.kernel import ReferenceKernel
from ascend_overlay.npu.reference.checks import contiguous, dimensions, extremes, once_for_alike, refuse

_NAME = "npu_qkv_rms_norm_rope_cache"
_SIZE, _TILE = 128, 16
_DTYPES = (torch.float16, torch.bfloat16)

Before = tuple[Tensor, Tensor, Tensor]


def npu_qkv_rms_norm_rope_cache(
    qkv: Tensor,
    q_gamma: Tensor,
    k_gamma: Tensor,
    cos: Tensor,
    sin: Tensor,
    index: Tensor,
    q_out: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    qkv_size: Sequence[int],
    head_nums: Sequence[int],
    *,
    k_scale: Tensor | None = None,
    v_scale: Tensor | None = None,
    k_offset: Tensor | None = None,
    v_offset: Tensor | None = None,
    epsilon: float = 1e-6,
    cache_mode: str = "PA_NZ",
    is_output_qkv: bool = False,
) -> Before:
    """Normalize and rotate each head of queries and keys, and write queries, keys and values where they belong.

    A head x becomes ``y = x / sqrt(mean(x**2) + epsilon) * gamma`` and then ``y * cos + (-y2, y1) * sin`` with the
    halves y1 and y2 of y; it is rounded once. Values are written as they are.

    Args:
        qkv: (T, (Nq + Nk + Nv) * 128), the heads of a token's queries, keys and values one after the other; float16 or
            bfloat16; contiguous, as all tensors here.
        q_gamma: (128,); dtype of `qkv`.
        k_gamma: likewise.
        cos: (T, 128), each angle twice, once a half; dtype of `qkv`.
        sin: likewise.
        index: (T,) of int64: ``block * block size + position in the block``, no place twice; -1: nowhere.
        q_out: (T, Nq * 128), what the queries are written to; dtype of `qkv`.
        k_cache: (blocks, Nk * 128 / 16, block size, 16): a block has of each 16 elements those of all its tokens; dtype
            of `qkv`. The block size is a multiple of 16.
        v_cache: likewise.
        qkv_size: (B, S, Nq + Nk + Nv, 128), with B * S = T and ``blocks >= B * ceil(S / block size)``.
        head_nums: (Nq, Nk, Nv), with Nk = Nv.
        k_scale: None, as the three that follow: caches of int8 are left out here.
        v_scale: see `k_scale`.
        k_offset: see `k_scale`.
        v_offset: see `k_scale`.
        epsilon: added under the root.
        cache_mode: "PA_NZ".
        is_output_qkv: False: CANN's page of aclnnQkvRmsNormRopeCache has no other.

    Returns:
        Three tensors without meaning, of no dimension.

    Raises:
        RuntimeError: a shape, dtype, place or mode that the NPU does not take, or one that is left out here.
    """
    _check(qkv, q_gamma, k_gamma, cos, sin, index, q_out, k_cache, v_cache, tuple(qkv_size), tuple(head_nums))
    if not (k_scale is v_scale is k_offset is v_offset is None):
        refuse(_NAME, "the reference kernel takes neither scales nor offsets (caches of int8); leave them out.")
    if cache_mode != "PA_NZ" or is_output_qkv:
        refuse(_NAME, f"cache_mode is {cache_mode!r}, is_output_qkv {is_output_qkv}; it takes 'PA_NZ' and False.")
    queries, keys, values = head_nums
    tokens, size = len(qkv), k_cache.shape[2]
    heads = qkv.view(tokens, queries + keys + values, _SIZE)
    turned = [
        _turned(part.float(), gamma, cos, sin, epsilon).to(qkv.dtype)
        for part, gamma in ((heads[:, :queries], q_gamma), (heads[:, queries : queries + keys], k_gamma))
    ]
    q_out.copy_(turned[0].flatten(1))
    kept = _kept(index, len(k_cache) * size)
    for cache, new in ((k_cache, turned[1]), (v_cache, heads[:, queries + keys :])):
        rows, places = new.reshape(tokens, cache.shape[1], _TILE), index
        if kept is not None:
            rows, places = rows[kept], index[kept]
        cache.transpose(1, 2)[places // size, places % size] = rows
    return _nothing(qkv)


def npu_qkv_rms_norm_rope_cache_functional(
    qkv: Tensor,
    q_gamma: Tensor,
    k_gamma: Tensor,
    cos: Tensor,
    sin: Tensor,
    index: Tensor,
    q_out: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    qkv_size: Sequence[int],
    head_nums: Sequence[int],
    **options: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return what npu_qkv_rms_norm_rope_cache does, and copies of `q_out`, `k_cache` and `v_cache` that it wrote to.

    torch_npu puts it in the place of that one where a graph is made functional; nothing else calls it.
    """
    written = q_out.clone(), k_cache.clone(), v_cache.clone()
    found = npu_qkv_rms_norm_rope_cache(
        qkv, q_gamma, k_gamma, cos, sin, index, *written, qkv_size, head_nums, **options
    )
    return *found, *written


def _turned(x: Tensor, gamma: Tensor, cos: Tensor, sin: Tensor, epsilon: float) -> Tensor:
    """Return the heads x, (tokens, heads, size) of float32, normalized and rotated."""
    x = x * (x.square().mean(-1, keepdim=True) + epsilon).rsqrt() * gamma
    first, second = x.chunk(2, -1)
    return x * cos.unsqueeze(1) + torch.cat((-second, first), -1) * sin.unsqueeze(1)


def _kept(index: Tensor, places: int) -> Tensor | None:
    """Return which tokens are written; None: all."""
    lowest, highest = extremes(index) if index.numel() else (0, 0)
    if lowest < -1 or highest >= places:
        refuse(_NAME, f"index goes from {lowest} to {highest}; it takes -1 to {places - 1}.")
    return index >= 0 if lowest < 0 else None


def _nothing(qkv: Tensor) -> Before:
    return qkv.new_zeros(()), qkv.new_zeros(()), qkv.new_zeros(())


@once_for_alike
def _check(
    qkv: Tensor,
    q_gamma: Tensor,
    k_gamma: Tensor,
    cos: Tensor,
    sin: Tensor,
    index: Tensor,
    q_out: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    qkv_size: tuple[int, ...],
    head_nums: tuple[int, ...],
) -> None:
    gammas = {"q_gamma": q_gamma, "k_gamma": k_gamma}
    rows = {"qkv": qkv, "cos": cos, "sin": sin, "q_out": q_out}
    caches = {"k_cache": k_cache, "v_cache": v_cache}
    if len(qkv_size) != 4 or len(head_nums) != 3:
        refuse(_NAME, f"qkv_size is {qkv_size} and head_nums {head_nums}; they take four and three numbers.")
    for name, tensor in {**gammas, **rows, **caches, "index": index}.items():
        dimensions(_NAME, name, tensor, (1,) if name in (*gammas, "index") else (2,) if name in rows else (4,))
        contiguous(_NAME, name, tensor)
        if name != "index" and (tensor.dtype not in _DTYPES or tensor.dtype != qkv.dtype):
            refuse(_NAME, f"{name} is {tensor.dtype} and qkv {qkv.dtype}; all are float16, or all bfloat16.")
    tokens = len(qkv)
    queries, keys, values = head_nums
    batch, length, heads, size = qkv_size
    if size != _SIZE or keys != values or queries + keys + values != heads or batch * length != tokens:
        text = f"qkv_size is {qkv_size} and head_nums {head_nums} for {tokens} tokens"
        refuse(_NAME, f"{text}; heads have {_SIZE} elements, and as many are of keys as of values.")
    wanted = {"qkv": heads, "q_out": queries, "cos": 1, "sin": 1}
    for name, count in wanted.items():
        if rows[name].shape != (tokens, count * _SIZE):
            refuse(_NAME, f"{name} is {tuple(rows[name].shape)}; it takes {(tokens, count * _SIZE)}.")
    for name, gamma in gammas.items():
        if gamma.shape != (_SIZE,):
            refuse(_NAME, f"{name} is {tuple(gamma.shape)}; it takes {(_SIZE,)}.")
    if index.dtype != torch.int64 or index.shape != (tokens,):
        refuse(_NAME, f"index is {tuple(index.shape)} of {index.dtype}; it takes {(tokens,)} of int64.")
    blocks, block_size = k_cache.shape[0], k_cache.shape[2]
    for name, cache in caches.items():
        if cache.shape != (blocks, keys * _SIZE // _TILE, block_size, _TILE) or block_size % _TILE:
            text = f"{name} is {tuple(cache.shape)}"
            refuse(_NAME, f"{text}; it takes (blocks, {keys * _SIZE // _TILE}, a multiple of {_TILE}, {_TILE}).")
    if blocks < batch * -(-length // block_size):
        refuse(_NAME, f"there are {blocks} blocks of {block_size} tokens; qkv_size {qkv_size} asks for more.")


def _fake(qkv: Tensor, *_: Any, **__: Any) -> Before:
    return qkv.new_empty(()), qkv.new_empty(()), qkv.new_empty(())


def _fake_functional(
    qkv: Tensor,
    q_gamma: Tensor,
    k_gamma: Tensor,
    cos: Tensor,
    sin: Tensor,
    index: Tensor,
    q_out: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    *_: Any,
    **__: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return *_fake(qkv), torch.empty_like(q_out), torch.empty_like(k_cache), torch.empty_like(v_cache)


_SOURCE = "torch_npu 2.13 (schema, meta kernel, its own test), CANN aclnnQkvRmsNormRopeCache (formula, sizes, places)"
_OPTIONS = (
    "*, Tensor? k_scale=None, Tensor? v_scale=None, Tensor? k_offset=None, Tensor? v_offset=None, "
    'float epsilon=9.9999999999999995e-07, str cache_mode="PA_NZ", bool is_output_qkv=False'
)
_INPUTS = "Tensor qkv, Tensor q_gamma, Tensor k_gamma, Tensor cos, Tensor sin, Tensor index"

KERNELS = (
    ReferenceKernel(
        schema=(
            f"{_NAME}({_INPUTS}, Tensor(a!) q_out, Tensor(b!) k_cache, Tensor(c!) v_cache, int[4] qkv_size, "
            f"int[3] head_nums, {_OPTIONS}) -> (Tensor, Tensor, Tensor)"
        ),
        cpu=npu_qkv_rms_norm_rope_cache,
        fake=_fake,
        source=_SOURCE,
    ),
    ReferenceKernel(
        schema=(
            f"{_NAME}_functional({_INPUTS}, Tensor q_out, Tensor k_cache, Tensor v_cache, int[4] qkv_size, "
            f"int[3] head_nums, {_OPTIONS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
        ),
        cpu=npu_qkv_rms_norm_rope_cache_functional,
        fake=_fake_functional,
        source=_SOURCE,
    ),
)
