"""npu_qkv_rms_norm_rope_cache norms, rotates and writes what CANN documents, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from npu_kit import OPERATORS, assert_checked_by_torch, assert_rounded_once, tensor, torch

HALVES = [torch.float16, torch.bfloat16]
WRITE, COPY = OPERATORS.npu_qkv_rms_norm_rope_cache, OPERATORS.npu_qkv_rms_norm_rope_cache_functional
BLOCKS, BLOCK, SIZE = 4, 16, 128


def _arguments(tokens: int, heads: int, kv_heads: int, dtype: Any, seed: int = 1, scale: float = 1.0) -> list[Any]:
    angles = 6 * tensor(seed + 2, tokens, SIZE // 2)
    places = torch.randperm(BLOCKS * BLOCK, generator=torch.Generator().manual_seed(seed))[:tokens]
    return [
        tensor(seed, tokens, (heads + 2 * kv_heads) * SIZE, dtype=dtype, scale=scale),
        tensor(seed + 1, SIZE, dtype=dtype),
        tensor(seed + 3, SIZE, dtype=dtype),
        angles.cos().repeat(1, 2).to(dtype),
        angles.sin().repeat(1, 2).to(dtype),
        places,
        tensor(seed + 4, tokens, heads * SIZE, dtype=dtype),
        *(tensor(seed + n, BLOCKS, kv_heads * SIZE // 16, BLOCK, 16, dtype=dtype) for n in (5, 6)),
        [1, tokens, heads + 2 * kv_heads, SIZE],
        [heads, kv_heads, kv_heads],
    ]


def _turned(x: Any, gamma: Any, cos: Any, sin: Any, epsilon: float) -> tuple[Any, Any]:
    """Return heads in float64, rotated as complex numbers, and the size of what is added up for an element."""
    x = x.double()
    x = x / (x.square().mean(-1, keepdim=True) + epsilon).sqrt() * gamma.double()
    half = SIZE // 2
    angle = torch.complex(cos[:, :half].double(), sin[:, :half].double()).unsqueeze(1)
    turned = torch.complex(x[..., :half], x[..., half:]) * angle
    terms = (x[..., :half].abs() + x[..., half:].abs()).repeat(1, 1, 2)
    return torch.cat((turned.real, turned.imag), -1), terms


@given(
    tokens=st.integers(0, 9),
    heads=st.sampled_from([1, 3, 8]),
    kv_heads=st.sampled_from([1, 2]),
    dtype=st.sampled_from(HALVES),
    epsilon=st.sampled_from([1e-6, 1e-2]),
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
    left_out=st.booleans(),
)
def test_norms_rotation_and_cache(
    tokens: int, heads: int, kv_heads: int, dtype: Any, epsilon: float, scale: float, left_out: bool
) -> None:
    given = _arguments(tokens, heads, kv_heads, dtype, scale=scale)
    qkv, q_gamma, k_gamma, cos, sin, index, out, *caches = given[:9]
    if left_out:
        index[::3] = -1
    before = [x.clone() for x in (out, *caches)]
    inputs = [x.clone() for x in given[:6]]
    copies = COPY(*given, epsilon=epsilon)[3:]
    assert all(torch.equal(x, y) for x, y in zip((out, *caches), before, strict=True))
    assert [tuple(x.shape) for x in WRITE(*given, epsilon=epsilon)] == [(), (), ()]
    assert all(torch.equal(x, y) for x, y in zip((out, *caches), copies, strict=True))
    assert all(torch.equal(x, y) for x, y in zip(given[:6], inputs, strict=True))
    parts = qkv.view(tokens, heads + 2 * kv_heads, SIZE).split([heads, kv_heads, kv_heads], 1)
    query, terms = _turned(parts[0], q_gamma, cos, sin, epsilon)
    assert_rounded_once(out.view_as(query), query, terms)
    key, terms = _turned(parts[1], k_gamma, cos, sin, epsilon)
    # As whole tokens: (slots, heads, size).
    whole, untouched = (
        [x.transpose(1, 2).reshape(BLOCKS * BLOCK, kv_heads, SIZE) for x in y] for y in (caches, before[1:])
    )
    kept = index >= 0
    assert_rounded_once(whole[0][index[kept]], key[kept], terms[kept])
    assert torch.equal(whole[1][index[kept]], parts[2][kept])
    others = torch.ones(BLOCKS * BLOCK, dtype=torch.bool).index_fill(0, index[kept], False)
    assert all(torch.equal(x[others], y[others]) for x, y in zip(whole, untouched, strict=True))


def test_torch_accepts_the_operator() -> None:
    assert_checked_by_torch(WRITE, *_arguments(3, 2, 1, torch.bfloat16))
    assert_checked_by_torch(COPY, *_arguments(3, 2, 1, torch.bfloat16))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: torch.ones(3, 512)}, "q_gamma is torch.float16 and qkv torch.float32"),
        ({0: torch.ones(512, 3).half().t()}, "qkv is not contiguous"),
        ({1: torch.ones(SIZE)}, "q_gamma is torch.float32 and qkv torch.float16"),
        ({2: torch.ones(64).half()}, r"k_gamma is \(64,\); it takes \(128,\)"),
        ({3: torch.ones(3, 64).half()}, r"cos is \(3, 64\); it takes \(3, 128\)"),
        ({4: torch.ones(2, 128).half()}, "sin is"),
        ({5: torch.tensor([0, 1, 2], dtype=torch.int32)}, "of torch.int32; it takes"),
        ({5: torch.tensor([0, 1, 64])}, "index goes from 0 to 64; it takes -1 to 63"),
        ({5: torch.tensor([0, 1, -2])}, "index goes from -2"),
        ({6: torch.ones(3, 128).half()}, "q_out is"),
        ({7: torch.ones(4, 16, 8, 16).half()}, "k_cache is"),
        ({8: torch.ones(4, 16, 16, 8).half()}, "v_cache is"),
        ({7: torch.ones(4, 24, 16, 16).half(), 8: torch.ones(4, 24, 16, 16).half()}, "k_cache is"),
        ({9: [1, 3, 4, 64]}, "heads have 128 elements"),
        ({9: [2, 2, 4, 128]}, "for 3 tokens"),
        ({9: [1, 3, 4]}, "four and three numbers"),
        ({10: [1, 2, 1]}, "as many are of keys as of values"),
    ],
)
def test_what_the_npu_refuses_is_refused(change: dict[int, Any], message: str) -> None:
    arguments = _arguments(3, 2, 1, torch.float16)
    for place, value in change.items():
        arguments[place] = value
    with pytest.raises(RuntimeError, match=message):
        WRITE(*arguments)


def test_more_tokens_than_blocks_are_refused() -> None:
    # As one sequence they fit, as many sequences each wants a block of its own.
    arguments = _arguments(5, 2, 1, torch.float16)
    WRITE(*arguments)
    arguments[9] = [5, 1, 4, SIZE]
    with pytest.raises(RuntimeError, match="4 blocks of 16 tokens"):
        WRITE(*arguments)


def test_what_is_left_out_is_said() -> None:
    arguments = _arguments(3, 2, 1, torch.float16)
    with pytest.raises(RuntimeError, match="neither scales nor offsets"):
        WRITE(*arguments, k_scale=torch.ones(1, SIZE))
    with pytest.raises(RuntimeError, match="it takes 'PA_NZ' and False"):
        WRITE(*arguments, cache_mode="Norm")
    with pytest.raises(RuntimeError, match="is_output_qkv True"):
        WRITE(*arguments, is_output_qkv=True)
