"""Rotary position embeddings."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

from ascend_overlay.npu.kernel import ReferenceKernel
from ascend_overlay.npu.reference.checks import dimensions, once_for_alike, refuse, remember, same_dtype

MROPE_SECTIONS = ((16, 24, 24), (11, 11, 10), (24, 20, 20), (8, 12, 12))
"""The sections that npu_mrope takes; older versions of CANN take the first ones only."""
MROPE_STEPS = {torch.float32: 16, torch.bfloat16: 32, torch.float16: 32}
"""Of what npu_mrope takes multiples, both for the elements of a head and for those that are rotated: 64 bytes."""
_MODES = ("half", "interleave")
_FEW = 64
"""Positions of which the angles are kept."""
_CACHES = 8
"""Of how many caches they are kept."""


def npu_mrope(
    positions: Tensor,
    query: Tensor,
    key: Tensor,
    cos_sin_cache: Tensor,
    head_size: int,
    *,
    mrope_section: Sequence[int] | None = None,
    rotary_mode: str | None = "half",
    cache_mode: str | None = "default",
) -> tuple[Tensor, Tensor]:
    """Rotate the first ``rotary_dim = cos_sin_cache.shape[1]`` elements of each head of query and key.

    Row p of the cache is ``cos | sin``, each with ``rotary_dim / 2`` angles. An angle turns the pair (x1, x2) to
    ``(x1 * cos - x2 * sin, x2 * cos + x1 * sin)``.

    Args:
        positions: (num_tokens,), or (3, num_tokens) for time, height and width; int32 or int64.
        query: (num_tokens, num_heads * head_size); float16, bfloat16 or float32.
        key: (num_tokens, num_kv_heads * head_size); dtype of `query`.
        cos_sin_cache: (max_positions, rotary_dim), rotary_dim a multiple of 16 for float32 and of 32 for the others;
            dtype of `query`.
        head_size: elements of a head, likewise a multiple of 16 or 32.
        mrope_section: with positions of three rows, how many angles belong to time, height and width, one of
            MROPE_SECTIONS; they add up to ``rotary_dim / 2``. None or [0, 0, 0] with positions of one row.
        rotary_mode: "half": the pairs are (i, i + rotary_dim / 2); "interleave": they are (2 i, 2 i + 1).
        cache_mode: "default": the angles of time, height and width follow one another; "interleave": they alternate,
            and what is left over belongs to time.

    Returns:
        The rotated query and key as new tensors, in their shapes and dtype.

    Raises:
        RuntimeError: a shape, dtype or mode that the NPU does not take.
    """
    section = (0, 0, 0) if mrope_section is None else tuple(mrope_section)
    _check_mrope(positions, query, key, cos_sin_cache, head_size, section, rotary_mode, cache_mode)
    half = rotary_mode == "half"
    if positions.dim() == 1:
        cos, sin = _angles(positions, cos_sin_cache, half)
    else:
        angles = cos_sin_cache[positions.long()].float()
        owner = _owner(section, angles.shape[-1] // 2, cache_mode)
        mixed = torch.cat([_mix(part, owner) for part in angles.chunk(2, dim=-1)], dim=-1)
        cos, sin = _for_pairs(mixed, half)
    # Both at once: decoding a tiny model takes as long as the number of calls.
    both = _side_by_side(query, key, head_size)
    turned = _turn(both, cos, sin, half).to(dtype=query.dtype).view(query.shape[0], query.shape[1] + key.shape[1])
    # PyTorch's stubs only know the one that writes to `out`.
    parts: Sequence[Tensor] = torch.split_with_sizes_copy(  # type: ignore[assignment, func-returns-value, unused-ignore]
        turned, (query.shape[1], key.shape[1]), dim=1
    )
    return parts[0], parts[1]


def _side_by_side(query: Tensor, key: Tensor, head_size: int) -> Tensor:
    """Return the heads of both, (tokens, heads, head size): a view where they lie so, as the columns of one tensor."""
    tokens, width = query.shape
    heads = (width + key.shape[1]) // head_size
    strides = query.stride()
    if (
        strides == key.stride()
        and query.data_ptr() + width * query.itemsize == key.data_ptr()
        and query.untyped_storage().data_ptr() == key.untyped_storage().data_ptr()
        and strides[1] == 1
    ):
        return query.as_strided((tokens, heads, head_size), (strides[0], head_size, 1))
    return torch.cat((query, key), dim=1).view(tokens, heads, head_size)


def _angles(positions: Tensor, cache: Tensor, half: bool) -> tuple[Tensor, Tensor]:
    """Return the cosines and sines of `positions`, as `_turn` takes them."""
    # All layers of a step have the same ones. A write to the cache changes its version, which what is made in inference
    # mode has not.
    if positions.numel() > _FEW or cache.requires_grad or cache.is_inference():
        return _for_pairs(cache.index_select(0, positions).float(), half)
    # What is made in inference mode serves in inference mode only.
    wanted = (cache._version, torch.is_inference_mode_enabled(), half, positions.tolist())
    known = _looked_up.get(id(cache))
    if known is not None and known[1] == wanted and known[0]() is cache:
        return known[2]
    found = _for_pairs(cache.index_select(0, positions).float(), half)
    remember(_looked_up, id(cache), (weakref.ref(cache), wanted, found), _CACHES)
    return found


_looked_up: dict[int, tuple[weakref.ref[Tensor], tuple[int, bool, bool, list[int]], tuple[Tensor, Tensor]]] = {}


def _for_pairs(angles: Tensor, half: bool) -> tuple[Tensor, Tensor]:
    """Return the cosines and the sines of ``cos | sin``, (tokens, elements), as they lie beside the pairs of a head."""
    tokens, elements = angles.shape
    if half:
        cos, sin = angles.view(tokens, 1, 2, elements // 2).chunk(2, 2)
    else:
        cos, sin = angles.view(tokens, 2, elements // 2, 1).chunk(2, 1)
    return cos, sin


def _owner(section: Sequence[int], angles: int, cache_mode: str | None) -> Tensor:
    """Return for each angle the row of the positions that it takes: 0 time, 1 height, 2 width."""
    index = torch.arange(angles)
    if cache_mode == "interleave":
        # Height and width end where their sections do; torch_npu documents it for sections of equal length only.
        return torch.where(index < 3 * section[1], index % 3, 0)
    return torch.repeat_interleave(torch.arange(3), torch.tensor(section))


def _mix(angles: Tensor, owner: Tensor) -> Tensor:
    return angles.gather(0, owner.expand(1, angles.shape[1], -1)).squeeze(0)


def _turn(x: Tensor, cos: Tensor, sin: Tensor, half: bool) -> Tensor:
    """Turn the pairs of the first elements of each head, in float32.

    Args:
        x: (tokens, heads, size).
        cos: of _for_pairs, as is `sin`.
        sin: see `cos`.
        half: a pair is an element of the first half of these and one of the second; else two neighbours.

    Returns:
        (tokens, heads, size), or that many elements in another shape.
    """
    tokens, heads, size = x.shape
    elements = 2 * cos.shape[2] * cos.shape[3]
    if elements < size:
        first, rest = x.split_with_sizes((elements, size - elements), dim=-1)
        turned = _turn(first, cos, sin, half)
        return torch.cat((turned.view(tokens, heads, elements), rest.float()), dim=-1)
    # Along which dimension the elements of a pair lie.
    if half:
        axis, pairs = 2, x.view(tokens, heads, 2, elements // 2).float()
    else:
        axis, pairs = 3, x.view(tokens, heads, elements // 2, 2).float()
    x1, x2 = pairs.chunk(2, axis)
    turned = pairs * cos
    # Where somebody wants gradients, what chunk returns cannot be written to.
    y1, y2 = turned.unsafe_chunk(2, axis)
    y1.addcmul_(x2, sin, value=-1)
    y2.addcmul_(x1, sin)
    return turned


@once_for_alike
def _check_mrope(
    positions: Tensor,
    query: Tensor,
    key: Tensor,
    cache: Tensor,
    head_size: int,
    section: tuple[int, ...],
    rotary_mode: str | None,
    cache_mode: str | None,
) -> None:
    operator = "npu_mrope"
    dimensions(operator, "positions", positions, (1, 2))
    for name, tensor in (("query", query), ("key", key), ("cos_sin_cache", cache)):
        dimensions(operator, name, tensor, (2,))
    same_dtype(operator, query=query, key=key, cos_sin_cache=cache)
    if positions.dtype not in (torch.int32, torch.int64):
        refuse(operator, f"positions are {positions.dtype}; they are int32 or int64.")
    for name, mode in (("rotary_mode", rotary_mode), ("cache_mode", cache_mode)):
        allowed = _MODES if name == "rotary_mode" else ("default", "interleave")
        if mode not in allowed:
            refuse(operator, f"{name} is {mode!r}; it takes {' or '.join(map(repr, allowed))}.")
    rotary_dim, step = cache.shape[1], MROPE_STEPS[query.dtype]
    if head_size % step:
        refuse(operator, f"head_size is {head_size}; it takes a multiple of {step} for {query.dtype}.")
    if rotary_dim % step or rotary_dim > head_size:
        limit = f"at most head_size, {head_size}, and a multiple of {step} for {query.dtype}"
        refuse(operator, f"cos_sin_cache has {rotary_dim} columns; it takes {limit}.")
    for name, tensor in (("query", query), ("key", key)):
        if tensor.shape[0] != positions.shape[-1] or tensor.shape[1] % head_size:
            wanted = f"({positions.shape[-1]}, a multiple of {head_size})"
            refuse(operator, f"{name} has the shape {tuple(tensor.shape)}; it takes {wanted}.")
    if positions.dim() == 1:
        return
    if positions.shape[0] != 3 or len(section) != 3 or 2 * sum(section) != rotary_dim:
        given = f"positions have {positions.shape[0]} rows and mrope_section is {list(section)}"
        refuse(operator, f"{given}; they take 3 rows and 3 sections that add up to {rotary_dim // 2}.")
    if section not in MROPE_SECTIONS:
        taken = " or ".join(str(list(sections)) for sections in MROPE_SECTIONS)
        refuse(operator, f"mrope_section is {list(section)}; it takes {taken}.")
    if cache_mode == "interleave" and section[1] != section[2]:
        refuse(operator, f"mrope_section is {list(section)}; alternating angles need equal parts for height and width.")


def npu_rotary_mul(
    input: Tensor, r1: Tensor, r2: Tensor, rotary_mode: str = "half", rotate: Tensor | None = None
) -> Tensor:
    """Return ``input * r1 + turned * r2``, with `turned` the input with its pairs swapped and one sign changed.

    Args:
        input: 4 dimensions, the last one even and below 896; float16, bfloat16 or float32.
        r1: the cosines; shape broadcastable to that of `input` with the same last dimension; dtype of `input`.
        r2: the sines; likewise.
        rotary_mode: "half": ``turned = (-x2, x1)`` with x1 and x2 the halves of the last dimension; "interleave": the
            same with the even and the odd elements.
        rotate: (D, D); if given, ``turned = input @ rotate`` instead.

    Returns:
        Shape and dtype of `input`.

    Raises:
        RuntimeError: a shape, dtype or mode that the NPU does not take.
    """
    operator = "npu_rotary_mul"
    for name, tensor in (("input", input), ("r1", r1), ("r2", r2)):
        dimensions(operator, name, tensor, (4,))
    same_dtype(operator, input=input, r1=r1, r2=r2)
    if rotary_mode not in _MODES:
        refuse(operator, f"rotary_mode is {rotary_mode!r}; it takes 'half' or 'interleave'.")
    size = input.shape[-1]
    if size % 2 or size >= 896 or r1.shape[-1] != size or r2.shape != r1.shape:
        shapes = f"input {tuple(input.shape)}, r1 {tuple(r1.shape)}, r2 {tuple(r2.shape)}"
        refuse(operator, f"the shapes are {shapes}; all take one even last dimension below 896.")
    x = input.float()
    if rotate is not None:
        turned = x @ rotate.float()
    elif rotary_mode == "half":
        x1, x2 = x.chunk(2, dim=-1)
        turned = torch.cat((-x2, x1), dim=-1)
    else:
        turned = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
    return (x * r1.float() + turned * r2.float()).to(input.dtype).contiguous()


def npu_interleave_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Sort the pairs (2 i, 2 i + 1) of the last dimension into halves, then rotate as `npu_rotary_mul` does by halves.

    The result stays sorted into halves.

    Args:
        x: (B, N, S, 64), with any strides; float16 or bfloat16.
        cos: (B, 1, S or 1, 64), with any strides; dtype of `x`.
        sin: likewise.

    Returns:
        Shape and dtype of `x`.

    Raises:
        RuntimeError: a shape or dtype that the NPU does not take.
    """
    _check_interleave(x, cos, sin)
    return sort_and_rotate(x.contiguous().float(), cos, sin).to(dtype=x.dtype)


@once_for_alike
def _check_interleave(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    operator = "npu_interleave_rope"
    for name, tensor in (("x", x), ("cos", cos), ("sin", sin)):
        dimensions(operator, name, tensor, (4,))
        if tensor.dtype not in (torch.float16, torch.bfloat16):
            refuse(operator, f"{name} is {tensor.dtype}; it takes float16 or bfloat16.")
        if tensor.shape[-1] != 64:
            refuse(operator, f"the last dimension of {name} has {tensor.shape[-1]} elements; it takes 64.")
    same_dtype(operator, x=x, cos=cos, sin=sin)
    if cos.shape != sin.shape or cos.shape[1] != 1 or cos.shape[0] != x.shape[0] or cos.shape[2] not in (1, x.shape[2]):
        shapes = f"x {tuple(x.shape)}, cos {tuple(cos.shape)}, sin {tuple(sin.shape)}"
        refuse(operator, f"the shapes are {shapes}; cos and sin take (B, 1, S or 1, 64).")


def sort_and_rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return what npu_interleave_rope does, of `x` in float32, in float32."""
    x1, x2 = x.view(*x.shape[:-1], x.shape[-1] // 2, 2).unbind(-1)
    turned = torch.cat((-x2, x1), dim=-1)
    return torch.cat((x1, x2), dim=-1).mul_(cos).addcmul_(turned, sin)


def _fake_mrope(
    positions: Tensor,
    query: Tensor,
    key: Tensor,
    cos_sin_cache: Tensor,
    head_size: int,
    *,
    mrope_section: Sequence[int] | None = None,
    rotary_mode: str | None = "half",
    cache_mode: str | None = "default",
) -> tuple[Tensor, Tensor]:
    return query.new_empty(query.shape), key.new_empty(key.shape)


def _fake_rotary_mul(
    input: Tensor, r1: Tensor, r2: Tensor, rotary_mode: str = "half", rotate: Tensor | None = None
) -> Tensor:
    return input.new_empty(input.shape)


def _fake_interleave_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return x.new_empty(x.shape)


KERNELS = (
    ReferenceKernel(
        schema=(
            "npu_mrope(Tensor positions, Tensor query, Tensor key, Tensor cos_sin_cache, int head_size, *, "
            'int[]? mrope_section=None, str? rotary_mode="half", str? cache_mode="default") -> (Tensor, Tensor)'
        ),
        cpu=npu_mrope,
        fake=_fake_mrope,
        source="torch_npu 2.13 (schema, meta kernel, documentation inside the wheel), CANN aclnnRopeWithSinCosCache",
    ),
    ReferenceKernel(
        schema=(
            'npu_rotary_mul(Tensor input, Tensor r1, Tensor r2, str rotary_mode="half", Tensor? rotate=None) -> Tensor'
        ),
        cpu=npu_rotary_mul,
        fake=_fake_rotary_mul,
        source="torch_npu 2.13 (schema, meta kernel, documentation inside the wheel)",
    ),
    ReferenceKernel(
        schema="npu_interleave_rope(Tensor x, Tensor cos, Tensor sin) -> Tensor",
        cpu=npu_interleave_rope,
        fake=_fake_interleave_rope,
        source=(
            "torch_npu 2.13 (schema, meta kernel), torch_npu's API reference of npu_interleave_rope, "
            "CANN's source of InterleaveRope (strides)"
        ),
    ),
)
