"""npu_mrope, npu_rotary_mul and npu_interleave_rope compute what torch_npu documents."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from npu_kit import DTYPES, OPERATORS, assert_checked_by_torch, assert_compiles, assert_rounded_once, tensor, torch

from ascend_overlay.npu.reference import rotary

HALF, NEIGHBOURS = "half", "interleave"


def _cache(rotary_dim: int, dtype: Any, length: int = 50) -> Any:
    angles = torch.arange(length).double()[:, None] * torch.logspace(0, -3, rotary_dim // 2).double()
    return torch.cat((angles.cos(), angles.sin()), dim=-1).to(dtype)


def _exact(x: Any, cos: Any, sin: Any, head_size: int, mode: str) -> tuple[Any, Any]:
    """Turn every pair as a complex number; return the result, and the size of the terms that make it up."""
    tokens, angles = cos.shape
    heads = x.double().reshape(tokens, x.shape[1] // head_size, head_size)
    turn = torch.complex(cos.double(), sin.double()).unsqueeze(1)
    result, size = heads.clone(), heads.abs()
    first = slice(0, angles) if mode == HALF else slice(0, 2 * angles, 2)
    second = slice(angles, 2 * angles) if mode == HALF else slice(1, 2 * angles, 2)
    turned = torch.complex(heads[..., first], heads[..., second]) * turn
    result[..., first], result[..., second] = turned.real, turned.imag
    size[..., : 2 * angles] = heads[..., : 2 * angles].abs().amax(dim=-1, keepdim=True) * 2
    return result.reshape(x.shape), size.reshape(x.shape)


@given(
    tokens=st.integers(0, 6),
    heads=st.integers(1, 4),
    kv_heads=st.integers(1, 3),
    blocks=st.integers(1, 3),
    passed=st.integers(0, 2),
    dtype=st.sampled_from(DTYPES),
    index=st.sampled_from([torch.int32, torch.int64]),
    mode=st.sampled_from([HALF, NEIGHBOURS]),
)
def test_mrope_turns_the_pairs_of_each_head(
    tokens: int, heads: int, kv_heads: int, blocks: int, passed: int, dtype: Any, index: Any, mode: str
) -> None:
    step = 16 if dtype == torch.float32 else 32
    rotary_dim, head_size = blocks * step, (blocks + passed) * step
    positions = torch.randint(0, 50, (tokens,), generator=torch.Generator().manual_seed(0)).to(index)
    query, key = tensor(1, tokens, heads * head_size, dtype=dtype), tensor(2, tokens, kv_heads * head_size, dtype=dtype)
    cache = _cache(rotary_dim, dtype)
    rotated = OPERATORS.npu_mrope(positions, query, key, cache, head_size, mrope_section=[0, 0, 0], rotary_mode=mode)
    cos, sin = cache[positions.long()].chunk(2, dim=-1)
    for got, x in zip(rotated, (query, key), strict=True):
        assert got.dtype == dtype
        assert got.data_ptr() != x.data_ptr() or not tokens
        assert_rounded_once(got, *_exact(x, cos, sin, head_size, mode))


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("mode", [HALF, NEIGHBOURS])
@pytest.mark.parametrize("tokens", [4, 100])
def test_mrope_sees_what_changed_since_the_last_call(tokens: int, mode: str, inference: bool) -> None:
    with torch.inference_mode(inference):
        positions = torch.arange(tokens) % 40
        query, key = tensor(1, tokens, 64), tensor(2, tokens, 32)
        caches = [_cache(32, torch.float32) for _ in range(2)]

        def check(cache: Any) -> None:
            for _ in range(2):
                rotated = OPERATORS.npu_mrope(positions, query, key, cache, 32, rotary_mode=mode)
                cos, sin = cache[positions].chunk(2, dim=-1)
                for got, x in zip(rotated, (query, key), strict=True):
                    assert_rounded_once(got, *_exact(x, cos, sin, 32, mode))

        check(caches[0])
        positions.add_(3)
        check(caches[0])
        caches[0].mul_(0.5)
        check(caches[0])
        caches[1].neg_()
        check(caches[1])
        check(caches[0])
    # What was looked up in inference mode, or without, serves the other way, too.
    with torch.inference_mode(not inference):
        check(caches[0])


def test_mrope_keeps_the_angles_of_so_many_caches_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotary, "_CACHES", 2)
    query = tensor(1, 4, 64)
    for _ in range(5):
        OPERATORS.npu_mrope(torch.arange(4), query, query, _cache(32, torch.float32), 32)
        assert len(rotary._looked_up) <= 2


@pytest.mark.parametrize("mode", [HALF, NEIGHBOURS])
@pytest.mark.parametrize("rotary_dim", [32, 48])
def test_mrope_takes_query_and_key_as_columns_of_one_tensor(rotary_dim: int, mode: str) -> None:
    columns = tensor(1, 5, 4 * 48)
    query, key, _ = columns.split([96, 48, 48], dim=1)
    far = columns[:, 144:]
    cache, before = _cache(rotary_dim, torch.float32), columns.clone()
    cos, sin = cache[:5].chunk(2, dim=-1)
    for pair in ((query, key), (key, query), (query, far), (query, key.contiguous()), (query[:, :48], query[:, 48:])):
        rotated = OPERATORS.npu_mrope(torch.arange(5), *pair, cache, 48, rotary_mode=mode)
        for got, x in zip(rotated, pair, strict=True):
            assert got.is_contiguous()
            assert_rounded_once(got, *_exact(x, cos, sin, 48, mode))
    assert torch.equal(columns, before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", [HALF, NEIGHBOURS])
@pytest.mark.parametrize(
    ("section", "cache_mode"),
    [([16, 24, 24], "default"), ([8, 12, 12], "default"), ([24, 20, 20], "interleave"), ([8, 12, 12], "interleave")],
)
def test_mrope_takes_each_angle_from_its_axis(dtype: Any, mode: str, section: list[int], cache_mode: str) -> None:
    positions = torch.tensor([[0, 3, 7, 1], [1, 9, 2, 30], [40, 2, 5, 6]])
    pairs = sum(section)
    size = 2 * pairs + 32
    query, key = tensor(1, 4, 2 * size, dtype=dtype), tensor(2, 4, size, dtype=dtype)
    cache = _cache(2 * pairs, dtype)
    rotated = OPERATORS.npu_mrope(
        positions, query, key, cache, size, mrope_section=section, rotary_mode=mode, cache_mode=cache_mode
    )
    axes = [0] * section[0] + [1] * section[1] + [2] * section[2]
    if cache_mode == "interleave":
        axes = [angle % 3 if angle < 3 * section[1] else 0 for angle in range(pairs)]
    columns = [cache[positions[axis], angle] for angle, axis in enumerate(axes)]
    cos = torch.stack(columns, dim=-1)
    sin = torch.stack([cache[positions[axis], pairs + angle] for angle, axis in enumerate(axes)], dim=-1)
    for got, x in zip(rotated, (query, key), strict=True):
        assert_rounded_once(got, *_exact(x, cos, sin, size, mode))


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_accepts_mrope(dtype: Any) -> None:
    positions, cache = torch.arange(5), _cache(32, dtype)
    packed = tensor(1, 5, 160, dtype=dtype)
    query, key = packed[:, :96], packed[:, 96:128]
    assert_checked_by_torch(OPERATORS.npu_mrope, positions, query, key, cache, 32, mrope_section=[0, 0, 0])

    def rotate(query: Any, key: Any) -> Any:
        return OPERATORS.npu_mrope(positions, query, key, cache, 32, mrope_section=[0, 0, 0], rotary_mode="interleave")

    assert_compiles(rotate, query, key)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rotary_mode": "quarter"}, "rotary_mode is 'quarter'"),
        ({"cache_mode": "other"}, "cache_mode is 'other'"),
        ({"cos_sin_cache": _cache(16, torch.bfloat16)}, "16 columns.*multiple of 32"),
        ({"cos_sin_cache": _cache(96, torch.bfloat16)}, "at most head_size"),
        ({"cos_sin_cache": _cache(32, torch.float32)}, "one dtype"),
        ({"positions": torch.arange(3)}, "query has the shape"),
        ({"positions": torch.arange(4.0)}, "int32 or int64"),
        ({"positions": torch.zeros(3, 4, dtype=torch.long)}, "add up to 16"),
        ({"positions": torch.zeros(3, 4, dtype=torch.long), "mrope_section": [4, 6, 6]}, r"takes \[16, 24, 24\]"),
        (
            {
                "positions": torch.zeros(3, 4, dtype=torch.long),
                "cos_sin_cache": _cache(64, torch.bfloat16),
                "mrope_section": [11, 11, 10],
                "cache_mode": "interleave",
            },
            "equal parts",
        ),
        ({"head_size": 80}, "head_size is 80; it takes a multiple of 32"),
        ({"key": torch.zeros(4, 1, 64, dtype=torch.bfloat16)}, "key has 3 dimensions"),
    ],
)
def test_what_the_npu_refuses_is_refused(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "positions": torch.arange(4),
        "query": torch.zeros(4, 128, dtype=torch.bfloat16),
        "key": torch.zeros(4, 64, dtype=torch.bfloat16),
        "cos_sin_cache": _cache(32, torch.bfloat16),
        "head_size": 64,
        "mrope_section": [0, 0, 0],
    }
    with pytest.raises(RuntimeError, match=message):
        OPERATORS.npu_mrope(**(arguments | changes))


def _doubled(rows: int, size: int, mode: str, dtype: Any) -> tuple[Any, Any, Any, Any]:
    """Return cos and sin of `rows` positions, as half a row and as the whole row that npu_rotary_mul takes."""
    cos, sin = _cache(size, dtype, rows).chunk(2, dim=-1)
    if mode == HALF:
        return cos, sin, torch.cat((cos, cos), dim=-1), torch.cat((sin, sin), dim=-1)
    return cos, sin, cos.repeat_interleave(2, dim=-1), sin.repeat_interleave(2, dim=-1)


@given(
    tokens=st.integers(1, 5),
    heads=st.integers(1, 4),
    half=st.integers(1, 40),
    dtype=st.sampled_from(DTYPES),
    mode=st.sampled_from([HALF, NEIGHBOURS]),
)
def test_rotary_mul_turns_the_pairs(tokens: int, heads: int, half: int, dtype: Any, mode: str) -> None:
    x = tensor(1, 1, tokens, heads, 2 * half, dtype=dtype)
    cos, sin, r1, r2 = _doubled(tokens, 2 * half, mode, dtype)
    got = OPERATORS.npu_rotary_mul(x, r1[None, :, None], r2[None, :, None], mode)
    exact, size = _exact(x.reshape(tokens, -1), cos, sin, 2 * half, mode)
    assert_rounded_once(got, exact.reshape(x.shape), size.reshape(x.shape))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rotary_mul_with_a_matrix(dtype: Any) -> None:
    x = tensor(1, 1, 3, 2, 8, dtype=dtype)
    _, _, r1, r2 = (part[..., None, :] if part.dim() == 2 else part for part in _doubled(3, 8, HALF, dtype))
    matrix = torch.zeros(8, 8, dtype=dtype)
    matrix[:4, 4:], matrix[4:, :4] = torch.eye(4), -torch.eye(4)
    with_matrix = OPERATORS.npu_rotary_mul(x, r1[None], r2[None], "half", matrix)
    assert torch.equal(with_matrix, OPERATORS.npu_rotary_mul(x, r1[None], r2[None], "half"))


@given(
    batch=st.integers(1, 4),
    heads=st.integers(1, 4),
    steps=st.integers(1, 3),
    one=st.booleans(),
    how=st.sampled_from(["whole", "part of a head", "steps before heads"]),
)
def test_interleave_rope_sorts_the_pairs_and_turns_them(
    batch: int, heads: int, steps: int, one: bool, how: str
) -> None:
    dtype = torch.bfloat16
    x = tensor(1, batch, heads, steps, 64 if how == "whole" else 192, dtype=dtype)[..., -64:]
    if how == "steps before heads":
        x = x.transpose(1, 2).contiguous().transpose(1, 2)
    rows = 1 if one else steps
    cos, sin, whole_cos, whole_sin = _doubled(batch * rows, 64, HALF, dtype)
    got = OPERATORS.npu_interleave_rope(x, whole_cos.view(batch, 1, rows, 64), whole_sin.view(batch, 1, rows, 64))
    pairs = torch.complex(x[..., ::2].double(), x[..., 1::2].double())
    turn = torch.complex(cos.double(), sin.double()).view(batch, 1, rows, 32)
    turned = pairs * turn
    exact = torch.cat((turned.real, turned.imag), dim=-1)
    assert_rounded_once(got, exact, torch.full_like(exact, 2 * float(x.abs().max())))
    assert got.is_contiguous()


def test_torch_accepts_the_other_two() -> None:
    x = tensor(1, 2, 4, 1, 64, dtype=torch.bfloat16)
    cos, sin = tensor(2, 2, 1, 1, 64, dtype=torch.bfloat16), tensor(3, 2, 1, 1, 64, dtype=torch.bfloat16)
    assert_checked_by_torch(OPERATORS.npu_interleave_rope, x, cos, sin)
    assert_checked_by_torch(OPERATORS.npu_interleave_rope, tensor(1, 2, 4, 1, 96, dtype=x.dtype)[..., 32:], cos, sin)
    assert_checked_by_torch(OPERATORS.npu_rotary_mul, x, cos, sin, "interleave")
    assert_compiles(lambda x, c, s: OPERATORS.npu_interleave_rope(x, c, s), x, cos, sin)
    assert_compiles(lambda x, c, s: OPERATORS.npu_rotary_mul(x, c, s), x, cos, sin)


def test_both_ways_to_rotate_neighbours_agree() -> None:
    """npu_mrope keeps the pairs where they are, npu_interleave_rope sorts them; the numbers are the same."""
    x = tensor(1, 3, 2 * 64, dtype=torch.bfloat16)
    cache = _cache(64, torch.bfloat16)
    kept, _ = OPERATORS.npu_mrope(torch.arange(3), x, x, cache, 64, rotary_mode=NEIGHBOURS)
    _, _, cos, sin = _doubled(3, 64, HALF, torch.bfloat16)
    rows = OPERATORS.npu_interleave_rope(x.view(3, 2, 1, 64), cos.view(3, 1, 1, 64), sin.view(3, 1, 1, 64))
    pairs = kept.view(3, 2, 32, 2).transpose(-1, -2).reshape(3, 2, 64)
    assert torch.equal(rows.view(3, 2, 64), pairs)
    assert math.isfinite(float(pairs.sum()))
