"""npu_scatter_pa_kv_cache writes what torch_npu documents, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from npu_kit import DTYPES, OPERATORS, assert_checked_by_torch, tensor, torch

WRITE, COPY = OPERATORS.npu_scatter_pa_kv_cache, OPERATORS.npu_scatter_pa_kv_cache_functional


@given(
    tokens=st.integers(0, 12),
    heads=st.integers(1, 3),
    sizes=st.sampled_from([(16, 16), (32, 64)]),
    dtype=st.sampled_from([*DTYPES, torch.int8]),
    mode=st.sampled_from(["Norm", None, "PA_NZ"]),
    index=st.sampled_from([torch.int32, torch.int64]),
    skipped=st.booleans(),
)
def test_each_token_goes_to_its_slot(
    tokens: int, heads: int, sizes: tuple[int, int], dtype: Any, mode: str | None, index: Any, skipped: bool
) -> None:
    blocks, block = 5, 4
    slots = torch.randperm(blocks * block, generator=torch.Generator().manual_seed(tokens))[:tokens].to(index)
    if skipped:
        slots[::3] = -1
    new = [tensor(i, tokens, heads, size, dtype=dtype, scale=9) for i, size in enumerate(sizes)]
    before = [tensor(7 + i, blocks, block, heads, size, dtype=dtype, scale=9) for i, size in enumerate(sizes)]
    wanted = [cache.clone() for cache in before]
    for i, slot in enumerate(slots.tolist()):
        for cache, values in zip(wanted, new, strict=True):
            if slot >= 0:
                cache[slot // block, slot % block] = values[i]

    def stored(cache: Any) -> Any:
        if mode != "PA_NZ":
            return cache.clone()
        return cache.flatten(2).unflatten(2, (-1, 16)).transpose(1, 2).contiguous()

    caches = [stored(cache) for cache in before]
    given_before = [x.clone() for x in (*new, slots)]
    copies = COPY(*new, *caches, slots, cache_mode=mode)
    assert all(torch.equal(cache, stored(x)) for cache, x in zip(caches, before, strict=True))
    assert all(torch.equal(got, stored(x)) for got, x in zip(copies, wanted, strict=True))
    assert WRITE(*new, *caches, slots, cache_mode=mode) is None
    assert all(torch.equal(got, stored(cache)) for got, cache in zip(caches, wanted, strict=True))
    assert all(torch.equal(x, y) for x, y in zip((*new, slots), given_before, strict=True))


def _arguments() -> list[Any]:
    new = [tensor(i, 3, 2, 16) for i in range(2)]
    caches = [tensor(7 + i, 5, 4, 2, 16) for i in range(2)]
    return [*new, *caches, torch.tensor([2, 19, 0])]


def test_torch_accepts_the_operator() -> None:
    assert_checked_by_torch(WRITE, *_arguments(), cache_mode="Norm")
    assert_checked_by_torch(COPY, *_arguments(), cache_mode="Norm")
    torch._dynamo.reset()
    compiled = torch.compile(lambda *a: WRITE(*a, cache_mode="Norm"), fullgraph=True, backend="aot_eager")
    ours, theirs = _arguments(), _arguments()
    compiled(*ours)
    WRITE(*theirs, cache_mode="Norm")
    assert all(torch.equal(x, y) for x, y in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: torch.ones(3, 32)}, "key has 2 dimensions"),
        ({4: torch.tensor([1.0, 2, 3])}, "int32 or int64"),
        ({4: torch.tensor([1, 2])}, "the same tokens"),
        ({4: torch.tensor([1, 2, 20])}, "5 blocks of 4 tokens have slots below that"),
        ({1: torch.ones(3, 2, 16).half()}, "one dtype"),
        ({2: torch.ones(5, 4, 1, 16)}, "key_cache has the shape"),
        ({3: torch.ones(6, 4, 2, 16)}, "value_cache has the shape"),
    ],
)
def test_what_the_npu_refuses_is_refused(change: dict[int, Any], message: str) -> None:
    arguments = _arguments()
    for place, value in change.items():
        arguments[place] = value
    with pytest.raises(RuntimeError, match=message):
        WRITE(*arguments, cache_mode="Norm")


def test_caches_that_keep_a_part_are_not_written() -> None:
    with pytest.raises(RuntimeError, match="does not compress"):
        WRITE(*_arguments(), cache_mode="Norm", seq_lens=torch.tensor([3]))
    with pytest.raises(RuntimeError, match="takes 'Norm' or 'PA_NZ'"):
        WRITE(*_arguments(), cache_mode="ND")
