"""Writing the latent cache of multi-head latent attention: norm, rotary embedding and cache write in one operator."""

from __future__ import annotations

import torch
from torch import Tensor

from ascend_overlay.npu.kernel import ReferenceKernel
from ascend_overlay.npu.reference.checks import dimensions, extremes, once_for_alike, refuse
from ascend_overlay.npu.reference.normalization import normalize
from ascend_overlay.npu.reference.rotary import sort_and_rotate

_NAME = "npu_kv_rmsnorm_rope_cache"
_LATENT, _ROPE = 512, 64
_PAGED = ("PA", "PA_BNSD")
_DTYPES = (torch.float16, torch.bfloat16)

Written = tuple[Tensor, Tensor, Tensor, Tensor]


def npu_kv_rmsnorm_rope_cache(
    kv: Tensor,
    gamma: Tensor,
    cos: Tensor,
    sin: Tensor,
    index: Tensor,
    k_cache: Tensor,
    ckv_cache: Tensor,
    *,
    k_rope_scale: Tensor | None = None,
    c_kv_scale: Tensor | None = None,
    k_rope_offset: Tensor | None = None,
    c_kv_offset: Tensor | None = None,
    v: Tensor | None = None,
    epsilon: float = 1e-5,
    cache_mode: str = "Norm",
    is_output_kv: bool = False,
) -> Written:
    """Normalize the latent, rotate the key beside it, and write both to their caches.

    The latent is the first 512 elements of `kv`: ``c / sqrt(mean(c**2) + epsilon) * gamma``. The key is the last 64:
    its pairs (2 i, 2 i + 1) are sorted into halves and rotated, as npu_interleave_rope does; they stay sorted.

    The caches are written in place, as on the NPU, although torch_npu's schema does not say so. A graph that is made
    functional must therefore not contain the operator; call it where tensors are what they seem, as inside an operator
    that is opaque to torch.compile. npu_kv_rmsnorm_rope_cache_v2 has an honest schema, but is documented for the
    Ascend 950 only.

    Args:
        kv: (B, 1, S, 576); float16 or bfloat16. With any strides, as all tensors here.
        gamma: (512,); dtype of `kv`.
        cos: (B, 1, S, 64), each angle twice, once a half; dtype of `kv`.
        sin: likewise.
        index: int64; where the tokens go, no place twice. "Norm": (B, S), the position in the cache of the sequence.
            "PA", "PA_BNSD": (B * S,), ``block * block_size + position in the block``; a token of a place below 0 is not
            written, which torch_npu does not document.
        k_cache: for the keys; dtype of `kv`. "Norm": (B, 1, length, 64). "PA", "PA_BNSD":
            (blocks, block_size, 1, 64).
        ckv_cache: the same for the latents, with 512 in place of 64.
        k_rope_scale: None; quantized caches are left out here.
        c_kv_scale: None.
        k_rope_offset: None.
        c_kv_offset: None.
        v: None.
        epsilon: added under the root.
        cache_mode: "Norm", "PA" or "PA_BNSD", which is the same as "PA".
        is_output_kv: with a paged cache, return what was written as well.

    Returns:
        The two caches themselves; the rotated keys, (B, 1, S, 64), and the normalized latents, (B, 1, S, 512). Without
        `is_output_kv` the latter two are zeros here and anything on an NPU.

    Raises:
        RuntimeError: a shape, dtype, place or mode that the NPU does not take, or one that is left out here.
    """
    _check(kv, gamma, cos, sin, index, k_cache, ckv_cache, cache_mode)
    if not (k_rope_scale is c_kv_scale is k_rope_offset is c_kv_offset is v is None):
        refuse(_NAME, "the reference kernel takes neither scales and offsets (quantized caches) nor v; leave them out.")
    places, paged = index.flatten(), cache_mode in _PAGED
    lowest = _check_places(places, k_cache.shape[0] * k_cache.shape[1] if paged else k_cache.shape[2], paged)
    latent, key = kv.float().split_with_sizes((_LATENT, _ROPE), -1)
    latent = normalize(latent, gamma, epsilon, kv.dtype)[0]
    key = sort_and_rotate(key, cos, sin).to(dtype=kv.dtype)
    if not paged:
        length = k_cache.shape[2]
        places = (index + length * torch.arange(index.shape[0]).unsqueeze(1)).flatten()
    kept = None if lowest >= 0 else places >= 0
    for cache, made in ((k_cache, key), (ckv_cache, latent)):
        rows = made.reshape(-1, made.shape[-1])
        _write(cache.squeeze(2 if paged else 1), *((places, rows) if kept is None else (places[kept], rows[kept])))
    if not is_output_kv:
        latent, key = torch.zeros_like(latent), torch.zeros_like(key)
    return k_cache, ckv_cache, key, latent


def _write(cache: Tensor, places: Tensor, rows: Tensor) -> None:
    if cache.is_contiguous():
        cache.flatten(0, 1).index_copy_(0, places, rows)
    else:
        cache[places // cache.shape[1], places % cache.shape[1]] = rows.detach()


@once_for_alike
def _check(
    kv: Tensor,
    gamma: Tensor,
    cos: Tensor,
    sin: Tensor,
    index: Tensor,
    k_cache: Tensor,
    ckv_cache: Tensor,
    cache_mode: str,
) -> None:
    if cache_mode not in (*_PAGED, "Norm"):
        refuse(_NAME, f"cache_mode is {cache_mode!r}; the reference kernel takes 'Norm', 'PA' and 'PA_BNSD'.")
    tensors = {"kv": kv, "cos": cos, "sin": sin, "k_cache": k_cache, "ckv_cache": ckv_cache}
    for name, tensor in tensors.items():
        dimensions(_NAME, name, tensor, (4,))
    for name, tensor in {**tensors, "gamma": gamma}.items():
        if tensor.dtype not in _DTYPES or tensor.dtype != kv.dtype:
            refuse(_NAME, f"{name} is {tensor.dtype} and kv {kv.dtype}; both take float16, or both bfloat16.")
    batch, heads, length, width = kv.shape
    if heads != 1 or width != _LATENT + _ROPE or gamma.shape != (_LATENT,):
        refuse(_NAME, f"kv is {tuple(kv.shape)}, gamma {tuple(gamma.shape)}; they take (B, 1, S, 576) and (512,).")
    if cos.shape != (batch, 1, length, _ROPE) or sin.shape != cos.shape:
        refuse(_NAME, f"cos is {tuple(cos.shape)}, sin {tuple(sin.shape)}; they take {(batch, 1, length, _ROPE)}.")
    paged = cache_mode in _PAGED
    for name, cache, last in (("k_cache", k_cache, _ROPE), ("ckv_cache", ckv_cache, _LATENT)):
        same = cache.shape[2 if paged else 1] == 1 and cache.shape[:3] == k_cache.shape[:3]
        if not same or cache.shape[3] != last or not (paged or cache.shape[0] == batch):
            wanted = f"(blocks, block_size, 1, {last})" if paged else f"({batch}, 1, length, {last})"
            refuse(
                _NAME, f"{name} has the shape {tuple(cache.shape)}; with cache_mode {cache_mode!r} it takes {wanted}."
            )
    wanted_index = (batch * length,) if paged else (batch, length)
    if index.dtype != torch.int64 or index.shape != wanted_index:
        refuse(_NAME, f"index is {tuple(index.shape)} {index.dtype}; it takes {wanted_index} int64.")


def _check_places(places: Tensor, count: int, paged: bool) -> int:
    """See that the places are there, and return the lowest."""
    lowest, highest = extremes(places) if places.numel() else (0, 0)
    if (lowest < 0 and not paged) or highest >= count:
        refuse(_NAME, f"index goes from {lowest} to {highest}; it takes 0 to {count - 1}.")
    return lowest


def _fake(
    kv: Tensor, gamma: Tensor, cos: Tensor, sin: Tensor, index: Tensor, k_cache: Tensor, ckv_cache: Tensor, **_: object
) -> Written:
    leading = kv.shape[:3]
    return (
        k_cache.new_empty_strided(k_cache.shape, k_cache.stride()),
        ckv_cache.new_empty_strided(ckv_cache.shape, ckv_cache.stride()),
        kv.new_empty((*leading, cos.shape[3])),
        kv.new_empty((*leading, gamma.shape[0])),
    )


KERNELS = (
    ReferenceKernel(
        schema=(
            "npu_kv_rmsnorm_rope_cache(Tensor kv, Tensor gamma, Tensor cos, Tensor sin, Tensor index, Tensor k_cache, "
            "Tensor ckv_cache, *, Tensor? k_rope_scale=None, Tensor? c_kv_scale=None, Tensor? k_rope_offset=None, "
            "Tensor? c_kv_offset=None, Tensor? v=None, float epsilon=1.0000000000000001e-05, "
            'str cache_mode="Norm", bool is_output_kv=False) -> (Tensor, Tensor, Tensor, Tensor)'
        ),
        cpu=npu_kv_rmsnorm_rope_cache,
        fake=_fake,
        source=(
            "torch_npu 2.13 (schema, meta kernel), torch_npu's API reference of npu_kv_rmsnorm_rope_cache (formula, "
            "sizes, cache modes), CANN's source of KvRmsNormRopeCache (strides, places below 0)"
        ),
        undeclared_writes=("k_cache", "ckv_cache"),
    ),
)
