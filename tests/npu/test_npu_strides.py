"""Operators that take tensors with strides of their own compute what they do of contiguous ones, and write in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attention_kit import FIRST, SECOND, TRIANGLE, Problem
from npu_kit import OPERATORS, torch

from ascend_overlay.npu.cases import cases
from ascend_overlay.npu.reference.attention import repeated, strided

_TAKERS = (
    *("npu_attention_update", "npu_fused_infer_attention_score", "npu_fused_infer_attention_score_v2"),
    *("npu_gather_pa_kv_cache", "npu_gather_pa_kv_cache_functional", "npu_gemma_rms_norm", "npu_interleave_rope"),
    *("npu_kv_rmsnorm_rope_cache", "npu_rms_norm", "npu_scatter_pa_kv_cache", "npu_scatter_pa_kv_cache_functional"),
    "npu_swiglu",
)

Lay = Callable[[Any], tuple[Any, Any]]
"""Returns a tensor of the same numbers with other strides, and the memory around it."""


def _side_by_side(x: Any) -> tuple[Any, Any]:
    """As the keys and values of each block in one memory."""
    memory = torch.stack((x, torch.full_like(x, 77)), 1)
    return memory[:, 0], memory[:, 1]


def _part_of_a_row(x: Any) -> tuple[Any, Any]:
    memory = torch.cat((torch.full_like(x, 77), x), -1)
    return memory[..., x.shape[-1] :], memory[..., : x.shape[-1]]


def _every_second(x: Any) -> tuple[Any, Any]:
    memory = torch.stack((x, torch.full_like(x, 77)), -1)
    return memory[..., 0], memory[..., 1]


def _turned(x: Any) -> tuple[Any, Any]:
    return x.transpose(0, -1).contiguous().transpose(0, -1), torch.empty(0)


_LAYS = (_side_by_side, _part_of_a_row, _every_second, _turned)


def _tensors(x: Any) -> Iterator[Any]:
    if isinstance(x, torch.Tensor):
        yield x
    elif isinstance(x, (list, tuple)):
        for item in x:
            yield from _tensors(item)
    elif isinstance(x, dict):
        yield from _tensors(list(x.values()))


def _laid(x: Any, lay: Lay, around: list[Any], seen: dict[int, Any]) -> Any:
    """Return arguments with their tensors laid otherwise; those that are one stay one."""
    if isinstance(x, torch.Tensor):
        if id(x) not in seen:
            seen[id(x)], left = lay(x)
            around.append(left)
        return seen[id(x)]
    if isinstance(x, (list, tuple)):
        return type(x)(_laid(item, lay, around, seen) for item in x)
    return {name: _laid(item, lay, around, seen) for name, item in x.items()} if isinstance(x, dict) else x


@pytest.mark.parametrize("lay", _LAYS, ids=lambda lay: lay.__name__.strip("_"))
@pytest.mark.parametrize("operator", _TAKERS)
def test_the_numbers_are_those_of_contiguous_arguments(operator: str, lay: Lay) -> None:
    otherwise = 0
    for case in cases():
        if case.operator != operator or case.dtype == "float16":
            continue
        positional, named = case.arguments()
        around: list[Any] = []
        seen: dict[int, Any] = {}
        other, more = (_laid(x, lay, around, seen) for x in (positional, named))
        otherwise += any(not x.is_contiguous() for x in _tensors([other, more]))
        wanted = getattr(OPERATORS, operator)(*positional, **named)
        got = getattr(OPERATORS, operator)(*other, **more)
        for ours, theirs in zip(_tensors([got, other, more]), _tensors([wanted, positional, named]), strict=True):
            # What is added up is so in another order, and each of the two may be off by what the case allows.
            torch.testing.assert_close(ours, theirs, rtol=2 * case.rtol, atol=2 * case.atol, equal_nan=True)
        for left in around:
            assert torch.equal(left, torch.full_like(left, 77)), f"{case.label}: written beside an argument"
    assert otherwise


def test_a_result_is_contiguous_all_the_same() -> None:
    (query, key, value), options = Problem([1, 2], [3, 4]).arguments("TND")
    laid = [_part_of_a_row(x)[0] for x in (query, key, value)]
    assert SECOND(*laid, **options)[0].is_contiguous()


@pytest.mark.parametrize("lay", _LAYS[:3], ids=lambda lay: lay.__name__.strip("_"))
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("cache", ["tokens", "heads"])
@pytest.mark.parametrize("rope", [0, 16])
def test_steps_of_decoding_over_caches_with_strides(lay: Lay, version: int, cache: str, rope: int) -> None:
    repeated._known.clear()
    for step in (0, 1, 8, 9, 10):
        problem = Problem([1, 1, 1], [119 + step, 1 + step, 300], after=0, rope=rope, seed=step // 5)
        arguments, options = problem.arguments("TND", 3, cache, version)
        wanted = (SECOND if version == 2 else FIRST)(*arguments, **options)
        laid, more = (_laid(x, lay, [], {}) for x in (arguments, options))
        got = (SECOND if version == 2 else FIRST)(*laid, **more)
        problem.check(got, "TND")
        assert torch.equal(got[0], wanted[0])


def test_of_a_cache_with_strides_no_more_is_copied_than_is_read() -> None:
    (query, key, value), options = Problem([1, 1], [140, 30]).arguments("TND", cache="tokens")
    table = options["block_table"]
    table[1, 1:] = 12345  # What is behind the last key is not looked at.
    key, value = _side_by_side(key)[0], _side_by_side(value)[0]
    _, made, _, more = strided.dense(query, key, value, options)
    assert (len(key), len(made)) == (5, 3)
    assert made.is_contiguous()
    assert torch.equal(made.nan_to_num(77)[more["block_table"][0, 1].long()], key.nan_to_num(77)[table[0, 1].long()])
    assert table[1, 1] == 12345


def test_what_is_refused_of_contiguous_tensors_is_refused_of_others() -> None:
    (query, key, value), options = Problem([1, 1], [140, 30], after=0).arguments("TND", 3, "tokens")
    laid = [_side_by_side(x)[0] for x in (query, key, value)]

    def refused(**more: Any) -> str:
        with pytest.raises(RuntimeError) as raised:
            SECOND(*laid, **options | more)
        return str(raised.value)

    assert "block_size is 64, but the blocks of the cache have 128" in refused(block_size=64)
    assert "of int32" in refused(block_table=torch.zeros(2, 3, dtype=torch.int64))
    assert "of int32" in refused(block_table=torch.zeros(3, dtype=torch.int32))
    assert "from 0 to 384" in refused(actual_seq_kvlen=[385, 30])
    assert "it takes 1, or 2" in refused(actual_seq_kvlen=[])
    assert "missing; with block_table" in refused(actual_seq_kvlen=None)
    assert "1 above the diagonal" in refused(atten_mask=_every_second(~TRIANGLE)[0])


def test_sequences_without_keys_in_a_cache_with_strides() -> None:
    problem = Problem([1, 1], [0, 0])
    (query, key, value), options = problem.arguments("TND", cache="tokens")
    problem.check(SECOND(query, _side_by_side(key)[0], _side_by_side(value)[0], **options), "TND")
