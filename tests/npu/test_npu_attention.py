"""npu_fused_infer_attention_score, both versions, computes what torch_npu documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from attention_kit import FIRST, SECOND, TRIANGLE, Problem
from hypothesis import given
from hypothesis import strategies as st
from npu_kit import assert_checked_by_torch, assert_compiles, tensor, torch

LAYOUTS = ["BSH", "BSND", "BNSD", "BNSD_BSND", "BSH_NBSD", "BSND_NBSD", "BNSD_NBSD", "TND", "TND_NTD", "NTD_TND"]


@pytest.fixture
def default_dtype() -> Iterator[Any]:
    """PyTorch's default dtype, to be set; models are built under another one than float32."""
    yield torch.set_default_dtype
    torch.set_default_dtype(torch.float32)


_LENGTHS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 300)), min_size=1, max_size=5)
_HEADS = st.sampled_from([(1, 1), (4, 2), (6, 1), (2, 2)])
_DTYPES = st.sampled_from([torch.bfloat16, torch.float16])


@given(
    layout=st.sampled_from(LAYOUTS),
    lengths=_LENGTHS,
    heads=_HEADS,
    sizes=st.sampled_from([(16, 16, 0), (48, 32, 0), (32, 32, 16)]),
    dtype=_DTYPES,
    cache=st.sampled_from(["", "tokens", "heads"]),
    causal=st.booleans(),
    version=st.sampled_from([1, 2]),
    lse=st.booleans(),
)
def test_attention_is_the_formula_rounded_once(
    layout: str,
    lengths: list[tuple[int, int]],
    heads: tuple[int, int],
    sizes: tuple[int, int, int],
    dtype: Any,
    cache: str,
    causal: bool,
    version: int,
    lse: bool,
) -> None:
    if cache == "heads" and layout.startswith("BS"):
        cache = "tokens"
    # A query alone in a layout with S is not masked.
    causal = causal and ("T" in layout or max(n for n, _ in lengths) > 1)
    problem = Problem(
        [n for n, _ in lengths],
        [m for _, m in lengths],
        *heads,
        *sizes,
        dtype=dtype,
        after=0 if causal else None,
    )
    if max(problem.queries) == 0:
        return
    problem.check(problem.call(layout, 3 if causal else 0, cache=cache, version=version, lse=lse), layout)


@given(
    layout=st.sampled_from(["TND", "BSND", "BNSD"]),
    lengths=_LENGTHS,
    before=st.integers(0, 200),
    after=st.integers(0, 4),
    cache=st.sampled_from(["", "tokens"]),
)
def test_a_band_ends_at_the_last_query_and_key(
    layout: str, lengths: list[tuple[int, int]], before: int, after: int, cache: str
) -> None:
    problem = Problem([n for n, _ in lengths], [m for _, m in lengths], before=before, after=after)
    if max(problem.queries) > 1 or (layout == "TND" and max(problem.queries) == 1):
        problem.check(problem.call(layout, 4, cache=cache, lse=True), layout)


def test_a_single_query_has_no_band_where_the_layout_has_s() -> None:
    problem = Problem([1, 1], [5, 3])
    problem.before, problem.after = 1, 0
    got = problem.call("BSND", 4)
    problem.before = problem.after = None
    problem.check(got, "BSND")


def test_left_up_causal_starts_at_the_first_query_and_key() -> None:
    problem = Problem([4, 2], [6, 3], after=0, from_the_right=False)
    problem.check(problem.call("BSND", 2, lse=True), "BSND")


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8, torch.uint8])
@pytest.mark.parametrize("mode", [0, 1])
def test_a_whole_mask_says_what_is_hidden(mode: int, dtype: Any) -> None:
    problem = Problem([4, 3], [6, 5])
    mask = tensor(3, 2, 1, 4, 6) > 0
    mask[0, 0, 1] = True
    problem.masks = [mask[0, 0], mask[1, 0]]
    problem.check(problem.call("BNSD", mode, atten_mask=mask.to(dtype), lse=True), "BNSD")
    problem.masks = [mask[0, 0]] * 2
    for shape in ((4, 6), (1, 4, 6), (1, 1, 4, 6)):
        problem.check(problem.call("BSND", mode, atten_mask=mask[0, 0].to(dtype).view(shape)), "BSND")


def test_a_whole_mask_of_single_queries_is_a_row_a_sequence() -> None:
    problem = Problem([1, 1, 1], [6, 5, 1])
    mask = tensor(3, 3, 6) > 0
    problem.masks = [row.view(1, 6) for row in mask]
    problem.check(problem.call("BSH", atten_mask=mask), "BSH")


def test_pre_and_next_tokens_count_from_the_left_beside_a_whole_mask() -> None:
    problem = Problem([4, 3], [6, 5], before=1, after=2, from_the_right=False)
    mask = torch.zeros(4, 6, dtype=torch.bool)
    problem.check(problem.call("BSND", 0, atten_mask=mask, pre_tokens=1, next_tokens=2), "BSND")
    problem.before = problem.after = None
    problem.check(problem.call("BSND", 0, pre_tokens=1, next_tokens=2), "BSND")


@pytest.mark.parametrize("layout", ["TND", "NTD_TND"])
@pytest.mark.parametrize("size", [64, 128])
def test_a_sink_takes_its_share(layout: str, size: int) -> None:
    problem = Problem([3, 1], [5, 140], size=size, value_size=size, after=0)
    sink = tensor(7, 4, dtype=torch.bfloat16)
    problem.check(problem.call(layout, 3, cache="tokens", learnable_sink=sink), layout, sink)


@given(
    keys=st.lists(st.integers(1, 300), min_size=1, max_size=5),
    heads=_HEADS,
    sizes=st.sampled_from([(16, 16, 0), (48, 32, 0), (32, 32, 16)]),
    dtype=_DTYPES,
    cache=st.sampled_from(["tokens", "heads"]),
    before=st.sampled_from([None, 0, 17, 150]),
)
def test_a_step_of_decoding_is_the_formula_rounded_once(
    keys: list[int],
    heads: tuple[int, int],
    sizes: tuple[int, int, int],
    dtype: Any,
    cache: str,
    before: int | None,
) -> None:
    names = ("heads", "kv_heads", "size", "value_size", "rope")
    options = dict(zip(names, (*heads, *sizes), strict=True))
    problem = Problem([1] * len(keys), keys, **options, dtype=dtype, after=0, before=before)
    for layout in ("TND", "TND_NTD"):
        problem.check(problem.call(layout, 3 if before is None else 4, cache=cache), layout)


def test_a_step_of_decoding_sees_what_changed_since_the_last_one() -> None:
    problem = Problem([1, 1], [140, 30])
    (query, key, value), options = problem.arguments("TND", cache="tokens")
    problem.check(SECOND(query, key, value, **options), "TND")
    key.copy_(key.flip(0))
    value.copy_(value.flip(0))
    options["block_table"].copy_(len(key) - 1 - options["block_table"])
    problem.check(SECOND(query, key, value, **options), "TND")
    options["actual_seq_kvlen"] = problem.keys = [137, 30]
    problem.k[0], problem.v[0], problem.k_rope[0] = (x[0][:-3] for x in (problem.k, problem.v, problem.k_rope))
    problem.check(SECOND(query, key, value, **options), "TND")


def test_many_sequences_that_decode_are_one_batch() -> None:
    problem = Problem([1] * 33, [1 + 7 * i for i in range(33)], heads=8, kv_heads=2, size=64, value_size=64)
    problem.check(problem.call("TND", cache="tokens"), "TND")


def test_prompts_are_computed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    from ascend_overlay.npu.reference.attention import softmax

    monkeypatch.setattr(softmax, "_MOST_SCORES", 64)
    monkeypatch.setattr(softmax, "_MOST_TOGETHER", 64)
    monkeypatch.setattr(softmax, "_MOST_READ", 64)
    problem = Problem([7, 5, 7], [9, 5, 9], before=3, after=0)
    problem.check(problem.call("TND", 4, lse=True), "TND")


def test_latent_attention_reads_one_cache_as_keys_and_as_values() -> None:
    problem = Problem([2, 1], [20, 130], heads=8, kv_heads=1, size=512, value_size=512, rope=64, after=0)
    problem.v = problem.k
    arguments, keywords = problem.arguments("TND_NTD", 3, cache="tokens")
    problem.check(SECOND(arguments[0], arguments[1], arguments[1], **keywords), "TND_NTD")


def test_the_arithmetic_is_float32_whatever_the_default_is(default_dtype: Any) -> None:
    problem = Problem([3, 1], [9, 5], after=0)
    default_dtype(torch.bfloat16)
    problem.check(problem.call("TND", 3, lse=True), "TND")


def _latent(queries: list[int], heads: int = 8, **more: Any) -> Problem:
    keys = [n + 20 for n in queries]
    return Problem(
        queries, keys, **{"kv_heads": 1, "size": 512, "value_size": 512, "rope": 64, "after": 0} | more, heads=heads
    )


@pytest.mark.parametrize("queries", [[1, 1], [16, 1]])
def test_latent_attention_has_up_to_128_heads_and_16_queries(queries: list[int]) -> None:
    problem = _latent(queries, 128)
    problem.check(problem.call("TND", 3 if max(queries) > 1 else 0, cache="tokens"), "TND")


def test_what_the_npu_refuses_of_latent_attention_is_refused() -> None:
    one, several = _latent([1, 1]), _latent([2, 1])
    assert "it takes 1, 2, 4 and so on up to 128" in _refused(_latent([1], 12), "TND", cache="tokens")
    assert "it takes 1, 2, 4 and so on up to 128" in _refused(_latent([1], kv_heads=2), "TND", cache="tokens")
    assert "its own have 64" in _refused(_latent([1], rope=32), "TND", cache="tokens")
    assert "in a paged cache" in _refused(one, "TND")
    assert "it has at most 16" in _refused(_latent([17]), "TND", 3, cache="tokens")
    assert "0 without it for single queries" in _refused(several, "TND", cache="tokens")
    assert "0 without it for single queries" in _refused(one, "TND", 3, cache="tokens")


def test_no_keys_and_no_queries() -> None:
    for queries, keys in (([2, 0], [0, 0]), ([0, 3], [4, 0])):
        problem = Problem(queries, keys)
        problem.check(problem.call("TND", lse=True), "TND")
    out, lse = SECOND(torch.empty(0, 4, 16, dtype=torch.float16), *[torch.empty(0, 4, 16, dtype=torch.float16)] * 2,
                      actual_seq_qlen=[], actual_seq_kvlen=[], num_query_heads=4, input_layout="TND")  # fmt: skip
    assert (out.shape, lse.shape) == ((0, 4, 16), (0,))


@pytest.mark.parametrize("layout", ["TND", "BNSD_BSND", "BSH_NBSD"])
def test_torch_accepts_the_operators(layout: str) -> None:
    problem = Problem([3, 2], [3, 130], after=0)
    for version, operator in ((1, FIRST), (2, SECOND)):
        arguments, keywords = problem.arguments(layout, 3, "tokens", version, lse=True)
        assert_checked_by_torch(operator, *arguments, **keywords)
        assert_compiles(lambda q, k, v, op=operator, more=keywords: op(q, k, v, **more), *arguments)


def _refused(problem: Problem, layout: str, mode: int = 0, cache: str = "", **more: Any) -> str:
    with pytest.raises(RuntimeError) as raised:
        problem.call(layout, mode, cache=cache, **more)
    return str(raised.value)


def test_what_the_npu_refuses_is_refused() -> None:
    problem = Problem([2, 1], [3, 4])
    assert "it takes BSH, BSND" in _refused(problem, "SBH")
    assert "float32" in _refused(Problem([2], [3], dtype=torch.float32), "TND")
    assert "multiple of 16" in _refused(Problem([2], [3], size=24), "TND")
    assert "at most 64 times" in _refused(Problem([2], [3], heads=3), "TND")
    assert "query have 272 elements; in the layout TND they have at most 256" in _refused(
        Problem([2], [3], size=272, value_size=16), "TND"
    )
    wide = Problem([2], [3], size=512, value_size=512)
    assert "in the layout NTD_TND they have at most 256" in _refused(wide, "NTD_TND")
    wide.check(wide.call("BNSD"), "BNSD")
    assert "takes 0 without, 3 and 4 with it" in _refused(problem, "TND", 2)
    assert "takes 0 without, 3 and 4 with it" in _refused(problem, "TND", 0, atten_mask=TRIANGLE)
    assert "takes (2048, 2048)" in _refused(problem, "TND", 3, atten_mask=TRIANGLE[:1024, :1024].contiguous())
    assert "1 above the diagonal" in _refused(problem, "TND", 3, atten_mask=~TRIANGLE)
    assert "takes bool, int8 or uint8" in _refused(problem, "TND", 3, atten_mask=TRIANGLE.float())
    assert "takes the whole mask" in _refused(problem, "BSND", 1)
    assert "block_size is 16, but" in _refused(problem, "TND", cache="tokens", block_size=16)
    assert "for several queries it takes 128" in _refused(Problem([2], [3], block=64), "TND", cache="tokens")
    assert "multiples of 16" in _refused(Problem([1], [3], block=24), "TND", cache="tokens")
    assert "of int32" in _refused(problem, "TND", cache="tokens", block_table=torch.zeros(2, 2, dtype=torch.int64))
    assert "missing; with block_table" in _refused(problem, "TND", cache="tokens", actual_seq_kvlen=None)
    assert "from 0 to 256" in _refused(problem, "TND", cache="tokens", actual_seq_kvlen=[257, 1])
    assert "missing; the layout TND" in _refused(problem, "TND", actual_seq_qlen=None)
    assert "the last sequence ends where the tensor does" in _refused(problem, "TND", actual_seq_qlen=[1, 2])
    assert "do not fall" in _refused(problem, "TND", actual_seq_qlen=[4, 3])
    assert "from 0 to 2" in _refused(problem, "BSND", actual_seq_qlen=[3, 1])
    assert "does not compute pse_shift" in _refused(problem, "BSND", pse_shift=tensor(1, 2, 4, 2, 4))
    assert "go together" in _refused(problem, "BSND", query_rope=tensor(1, 2, 2, 4, 16))
    sink = tensor(1, 4, dtype=torch.bfloat16)
    assert "values of 64 or 128 elements" in _refused(problem, "TND", learnable_sink=sink)
    taken = Problem([2, 1], [3, 4], size=64, value_size=64)
    assert "TND and NTD_TND" in _refused(taken, "BSND", learnable_sink=sink)
    assert "softmax_lse" in _refused(taken, "TND", learnable_sink=sink, lse=True)
    assert "of bfloat16" in _refused(taken, "TND", learnable_sink=sink.float())


@given(layout=st.sampled_from(["TND", "TND_NTD", "BSND"]), lengths=_LENGTHS, lse=st.booleans(), dtype=_DTYPES)
def test_what_is_written_to_given_tensors_is_what_is_returned(
    layout: str, lengths: list[tuple[int, int]], lse: bool, dtype: Any
) -> None:
    problem = Problem([n for n, _ in lengths], [m for _, m in lengths], dtype=dtype)
    if max(problem.queries) == 0:
        return
    returned = problem.call(layout, 0, lse=lse)
    out = [torch.full_like(made, torch.nan) for made in returned]
    got = problem.call(layout, 0, lse=lse, out=out)
    assert [made.data_ptr() for made in got] == [target.data_ptr() for target in out]
    for made, target in zip(returned, out, strict=True):
        assert torch.equal(made, target)


@pytest.mark.parametrize(
    ("out", "sentence"),
    [
        (lambda x: [x], "out has 1 tensors"),
        (lambda x: [x[:2], x], r"attention_out is \(2, 4, 16\)"),
        (lambda x: [x.float(), x], "attention_out is .* of torch.float32"),
        (lambda x: [x.transpose(0, 1).contiguous().transpose(0, 1), x], "attention_out is not contiguous"),
    ],
)
def test_other_tensors_are_not_written_to(out: Any, sentence: str) -> None:
    x = tensor(1, 3, 4, 16, dtype=torch.bfloat16)
    lengths = {"actual_seq_qlen": [3], "actual_seq_kvlen": [3]}
    with pytest.raises(RuntimeError, match=sentence):
        SECOND.out(x, x, x, **lengths, num_query_heads=4, input_layout="TND", out=out(torch.zeros_like(x)))
