"""Steps of decoding are computed as other calls are, and refused as they are, whatever was computed before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from attention_kit import SECOND, TRIANGLE, Problem
from hypothesis import given
from hypothesis import strategies as st
from npu_kit import torch

from ascend_overlay.npu.reference.attention import repeated


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    repeated._known.clear()
    yield
    repeated._known.clear()


class Recall:
    """Whether calls went the short way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ways: list[str] = []
        attend, second = repeated._Form.attend, repeated.Call.run

        def short(*arguments: Any) -> Any:
            if (found := attend(*arguments)) is not None:
                self.ways.append("short")
            return found

        def long(*arguments: Any) -> Any:
            self.ways.append("long")
            return second(*arguments)

        monkeypatch.setattr(repeated._Form, "attend", short)
        monkeypatch.setattr(repeated.Call, "run", long)


@pytest.fixture
def recall(monkeypatch: pytest.MonkeyPatch) -> Recall:
    return Recall(monkeypatch)


@given(
    steps=st.lists(st.lists(st.integers(1, 300), min_size=3, max_size=3), min_size=1, max_size=3),
    heads=st.sampled_from([(1, 1), (4, 2), (6, 1), (2, 2)]),
    sizes=st.sampled_from([(16, 16, 0), (48, 32, 0), (32, 32, 16)]),
    cache=st.sampled_from(["tokens", "heads"]),
    before=st.sampled_from([None, 0, 17, 150]),
    layout=st.sampled_from(["TND", "TND_NTD"]),
    version=st.sampled_from([1, 2]),
)
def test_each_step_is_the_formula_rounded_once_and_what_the_long_way_gives(
    steps: list[list[int]],
    heads: tuple[int, int],
    sizes: tuple[int, int, int],
    cache: str,
    before: int | None,
    layout: str,
    version: int,
) -> None:
    names = ("heads", "kv_heads", "size", "value_size", "rope")
    options = dict(zip(names, (*heads, *sizes), strict=True))
    # Equal lengths need no padding.
    for keys in (*steps, [150] * 3, [160] * 3):
        problem = Problem([1] * 3, keys, **options, after=0, before=before)
        mode = 3 if before is None else 4
        short = problem.call(layout, mode, cache=cache, version=version)
        problem.check(short, layout)
        known, repeated._known = repeated._known, {}
        long = problem.call(layout, mode, cache=cache, version=version)
        repeated._known = known
        for got, wanted in zip(short, long, strict=True):
            assert torch.equal(got, wanted)
            assert (got.dtype, got.stride()) == (wanted.dtype, wanted.stride())


@pytest.mark.parametrize("before", [None, 20])
@pytest.mark.parametrize("first", [[1, 100], [119, 40]], ids=["a short one", "over the end of a block"])
def test_sequences_that_grow_by_a_key_each(first: list[int], before: int | None) -> None:
    for step in range(20):
        # Another seed has other blocks.
        problem = Problem([1, 1], [n + step for n in first], after=0, before=before, seed=step // 5)
        problem.check(problem.call("TND", 3 if before is None else 4, cache="tokens"), "TND")


@pytest.mark.parametrize("cache", ["tokens", "heads"])
@pytest.mark.parametrize("keys", [[30], [140, 30, 7]])
@pytest.mark.parametrize("order", ["keys first", "values first", "apart", "askew"])
def test_keys_and_values_in_one_piece_of_memory(order: str, keys: list[int], cache: str) -> None:
    problem = Problem([1] * len(keys), keys)
    (query, key, value), options = problem.arguments("TND", cache=cache)
    count, between = key.numel(), {"apart": 16, "askew": 8}.get(order, 0)
    memory = torch.zeros(2 * count + between, dtype=key.dtype)
    ends = (memory[:count], memory[count + between :])
    if order == "values first":
        ends = ends[::-1]
    key, value = (part.view_as(x).copy_(x) for part, x in zip(ends, (key, value), strict=True))
    problem.check(SECOND(query, key, value, **options), "TND")
    # The next layer's lie in another way.
    problem.check(SECOND(query, key.clone(), value.clone(), **options), "TND")
    problem.check(SECOND(query, key, value, **options), "TND")


def test_the_second_step_goes_the_short_way_and_other_calls_do_not(recall: Recall) -> None:
    for keys in ([140, 30], [141, 31]):
        Problem([1, 1], keys).call("TND", cache="tokens")
    assert recall.ways == ["long", "short"]
    Problem([1, 1], [140, 30]).call("TND", cache="tokens", lse=True)
    Problem([1, 1], [140, 30]).call("TND")
    Problem([1, 1], [140, 30], size=32, value_size=32).call("TND", cache="tokens")
    Problem([1, 1, 1], [14, 30, 9]).call("TND", cache="tokens")
    Problem([2, 1], [14, 30]).call("TND", cache="tokens")
    sink = torch.zeros(4, dtype=torch.bfloat16)
    for _ in range(2):
        Problem([1, 1], [140, 30], size=64, value_size=64).call("TND", cache="tokens", learnable_sink=sink)
    assert recall.ways[2:] == ["long"] * 7


def test_lengths_that_are_unusual_go_the_long_way(recall: Recall) -> None:
    Problem([1, 1], [140, 30]).call("TND", cache="tokens")
    problem = Problem([1, 1], [140, 0])
    problem.check(problem.call("TND", cache="tokens"), "TND")
    problem = Problem([2, 0], [140, 30])
    problem.check(problem.call("TND", cache="tokens"), "TND")
    assert recall.ways == ["long"] * 3


def test_what_is_refused_is_refused_after_a_step_that_was_not() -> None:
    problem = Problem([1, 1], [140, 30], after=0)

    def refused(**more: Any) -> str:
        with pytest.raises(RuntimeError) as raised:
            problem.call("TND", 3, cache="tokens", **more)
        return str(raised.value)

    problem.call("TND", 3, cache="tokens")
    assert "1 above the diagonal" in refused(atten_mask=~TRIANGLE)
    assert "takes bool, int8 or uint8" in refused(atten_mask=TRIANGLE.float())
    assert "from 0 to 384" in refused(actual_seq_kvlen=[385, 30])
    assert "it takes 1, or 2" in refused(actual_seq_kvlen=[])
    assert "missing; with block_table" in refused(actual_seq_kvlen=None)
    assert "missing; the layout TND" in refused(actual_seq_qlen=None)
    assert "the last sequence ends where the tensor does" in refused(actual_seq_qlen=[1, 3])
    assert "do not fall" in refused(actual_seq_qlen=[2, 1])
    assert "of int32" in refused(block_table=torch.zeros(2, 3, dtype=torch.int64))
    assert "does not compute query_quant_mode" in refused(query_quant_mode=1)
    (query, key, value), options = problem.arguments("TND", 3, "tokens")
    with pytest.raises(RuntimeError, match=r"key is torch\.float16"):
        SECOND(query, key.half(), value, **options)
    problem.check(problem.call("TND", 3, cache="tokens"), "TND")


def test_so_many_signatures_are_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated, "_REMEMBERED", 2)
    for sequences in range(1, 6):
        Problem([1] * sequences, [20] * sequences).call("TND", cache="tokens")
        assert len(repeated._known) <= 2


def test_the_short_way_writes_to_no_argument_and_returns_new_tensors() -> None:
    problem = Problem([1, 1], [140, 30], after=0)
    (query, key, value), options = problem.arguments("TND", 3, "tokens")
    SECOND(query, key, value, **options)
    before = [x.clone() for x in (query, key, value)]
    results = [SECOND(query, key, value, **options) for _ in range(2)]
    for x, kept in zip((query, key, value), before, strict=True):
        assert torch.equal(x.nan_to_num(77), kept.nan_to_num(77))
    pointers = {x.untyped_storage().data_ptr() for x in (query, key, value, results[0][0], results[1][0])}
    assert len(pointers) == 5


def test_no_query_at_all_is_no_step() -> None:
    query, cache = (torch.zeros(n, 2, 16, dtype=torch.bfloat16) for n in (0, 128))
    options = {"actual_seq_qlen": [], "actual_seq_kvlen": [], "num_query_heads": 2, "input_layout": "TND"}
    options |= {"block_table": torch.zeros(0, 1, dtype=torch.int32), "block_size": 128}
    for _ in range(2):
        out, _ = SECOND(query, cache.view(1, 128, 32), cache.view(1, 128, 32), **options)
        assert out.shape == (0, 2, 16)
