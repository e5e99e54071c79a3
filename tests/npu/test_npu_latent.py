"""The operators of multi-head latent attention compute what torch_npu documents."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from npu_kit import DTYPES, OPERATORS, assert_checked_by_torch, assert_compiles, assert_rounded_once, tensor, torch

HALVES = [torch.float16, torch.bfloat16]
BLOCK = 16


def _arguments(batch: int, length: int, dtype: Any, blocks: int = 5, seed: int = 1) -> dict[str, Any]:
    """Return arguments of npu_kv_rmsnorm_rope_cache for a paged cache, `kv` being a part of something wider."""
    angles = 6 * tensor(seed + 2, batch, 1, length, 32)
    places = torch.randperm(blocks * BLOCK, generator=torch.Generator().manual_seed(seed))
    return {
        "kv": tensor(seed, batch, 1, length, 700, dtype=dtype)[..., 100:676],
        "gamma": tensor(seed + 1, 512, dtype=dtype),
        "cos": angles.cos().repeat(1, 1, 1, 2).to(dtype),
        "sin": angles.sin().repeat(1, 1, 1, 2).to(dtype),
        "index": places[: batch * length],
        "k_cache": tensor(seed + 3, blocks, BLOCK, 1, 64, dtype=dtype),
        "ckv_cache": tensor(seed + 4, blocks, BLOCK, 1, 512, dtype=dtype),
    }


def _written(kv: Any, gamma: Any, cos: Any, sin: Any, epsilon: float) -> tuple[Any, Any]:
    """Return keys and latents in float64; the rotation as complex numbers, with a size of what was added up."""
    latent = kv[..., :512].double()
    latent = latent / (latent.square().mean(-1, keepdim=True) + epsilon).sqrt() * gamma.double()
    pairs = torch.view_as_complex(kv[..., 512:].double().reshape(*kv.shape[:-1], 32, 2).contiguous())
    turned = pairs * torch.complex(cos[..., :32].double(), sin[..., :32].double())
    return torch.cat((turned.real, turned.imag), dim=-1), latent


@given(
    batch=st.integers(0, 5),
    length=st.integers(1, 4),
    dtype=st.sampled_from(HALVES),
    epsilon=st.sampled_from([1e-6, 1e-2]),
    scale=st.sampled_from([1e-3, 1.0, 30.0, 0.0]),
    output=st.booleans(),
)
def test_norm_rotation_and_a_paged_cache(
    batch: int, length: int, dtype: Any, epsilon: float, scale: float, output: bool
) -> None:
    given = _arguments(batch, length, dtype)
    given["kv"] = given["kv"] * scale
    key_cache, latent_cache = given["k_cache"].clone(), given["ckv_cache"].clone()
    results = OPERATORS.npu_kv_rmsnorm_rope_cache(**given, epsilon=epsilon, cache_mode="PA", is_output_kv=output)
    assert results[0].data_ptr() == given["k_cache"].data_ptr()
    assert results[1].data_ptr() == given["ckv_cache"].data_ptr()
    key, latent = _written(given["kv"], given["gamma"], given["cos"], given["sin"], epsilon)
    size = given["kv"].double().abs().amax(-1, keepdim=True).expand(-1, -1, -1, 64)
    rows = {"k_cache": (key_cache, key, size, results[2]), "ckv_cache": (latent_cache, latent, None, results[3])}
    for name, (before, exact, terms, returned) in rows.items():
        got = given[name].view(-1, exact.shape[-1])
        before = before.view(-1, exact.shape[-1])
        assert_rounded_once(got[given["index"]].view_as(exact), exact, terms)
        untouched = torch.ones(len(got), dtype=torch.bool).index_fill(0, given["index"], False)
        assert torch.equal(got[untouched], before[untouched])
        if output:
            assert torch.equal(returned.flatten(0, 2), got[given["index"]])
        assert returned.shape == exact.shape


@pytest.mark.parametrize("dtype", HALVES)
def test_a_cache_of_whole_sequences(dtype: Any) -> None:
    given = _arguments(3, 4, dtype)
    given |= {"k_cache": torch.zeros(3, 1, 9, 64, dtype=dtype), "ckv_cache": torch.zeros(3, 1, 9, 512, dtype=dtype)}
    given["index"] = torch.tensor([[0, 1, 2, 3], [5, 6, 7, 8], [4, 0, 8, 1]])
    OPERATORS.npu_kv_rmsnorm_rope_cache(**given)
    key, latent = _written(given["kv"], given["gamma"], given["cos"], given["sin"], 1e-5)
    for name, exact in (("k_cache", key), ("ckv_cache", latent)):
        for i in range(3):
            got = given[name][i, 0]
            assert_rounded_once(got[given["index"][i]], exact[i, 0], exact[i, 0].abs() + 3)
            assert int((got == 0).all(-1).sum()) == 9 - 4


def test_the_rotation_is_that_of_npu_interleave_rope() -> None:
    """Queries go through that operator, keys through this one; a score is right if both are turned alike."""
    given = _arguments(6, 1, torch.bfloat16)
    *_, key, _ = OPERATORS.npu_kv_rmsnorm_rope_cache(**given, cache_mode="PA_BNSD", is_output_kv=True)
    key_in = given["kv"][..., 512:].contiguous()
    assert torch.equal(key, OPERATORS.npu_interleave_rope(key_in, given["cos"], given["sin"]))


def test_a_token_of_a_place_below_0_is_not_written_to_a_paged_cache() -> None:
    given = _arguments(3, 1, torch.bfloat16)
    without = {name: x.clone() for name, x in given.items()}
    given["index"][1] = -1
    for name in ("kv", "cos", "sin", "index"):
        without[name] = without[name][[0, 2]]
    results = [OPERATORS.npu_kv_rmsnorm_rope_cache(**x, cache_mode="PA", is_output_kv=True) for x in (given, without)]
    assert torch.equal(given["k_cache"], without["k_cache"])
    assert torch.equal(given["ckv_cache"], without["ckv_cache"])
    for made, wanted in zip(results[0][2:], results[1][2:], strict=True):
        assert torch.equal(made[[0, 2]], wanted)


def test_its_schema_hides_what_it_writes() -> None:
    """The reason for calling the operator inside of an opaque one only; should torch_npu mend it, this fails."""
    given = _arguments(2, 1, torch.bfloat16)
    operator = OPERATORS.npu_kv_rmsnorm_rope_cache.default
    assert not operator._schema.is_mutable
    with pytest.raises(Exception, match="aliasing"):
        torch.library.opcheck(operator, (), {**given, "cache_mode": "PA"}, test_utils="test_schema")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kv": torch.ones(2, 1, 1, 576)}, "kv is torch.float32"),
        ({"kv": torch.ones(2, 1, 1, 320, dtype=torch.bfloat16)}, r"\(B, 1, S, 576\)"),
        ({"gamma": torch.ones(512, dtype=torch.float16)}, "gamma is torch.float16"),
        ({"cos": torch.ones(2, 1, 1, 32, dtype=torch.bfloat16)}, r"cos is \(2, 1, 1, 32\)"),
        ({"index": torch.tensor([0, 1], dtype=torch.int32)}, r"index is \(2,\) torch.int32"),
        ({"index": torch.tensor([0, 80])}, "index goes from 0 to 80"),
        ({"k_cache": torch.ones(5, 1, BLOCK, 64, dtype=torch.bfloat16)}, "k_cache has the shape"),
        ({"cache_mode": "PA_NZ"}, "cache_mode is 'PA_NZ'"),
        ({"c_kv_scale": torch.ones(512)}, "scales"),
    ],
)
def test_a_cache_write_that_the_npu_refuses_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        OPERATORS.npu_kv_rmsnorm_rope_cache(**{**_arguments(2, 1, torch.bfloat16), "cache_mode": "PA", **change})


# --- npu_gather_pa_kv_cache ---


def _paged(lengths: list[int], offsets: list[int], dtype: Any) -> dict[str, Any]:
    """Return caches with a block table that is a permutation."""
    blocks = 6 * len(lengths)
    order = torch.randperm(blocks, generator=torch.Generator().manual_seed(7)).to(torch.int32)
    return {
        "key_cache": tensor(1, blocks, BLOCK, 1, 512, scale=20).to(dtype),
        "value_cache": tensor(2, blocks, BLOCK, 1, 64, scale=20).to(dtype),
        "block_tables": order.view(len(lengths), 6),
        "seq_lens": torch.tensor(lengths, dtype=torch.int32),
        "key": torch.zeros(sum(lengths), 1, 512).to(dtype),
        "value": torch.zeros(sum(lengths), 1, 64).to(dtype),
        "seq_offset": torch.tensor(offsets, dtype=torch.int32),
    }


@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(any),
    first=st.integers(0, 3),
    dtype=st.sampled_from([*HALVES, torch.int8]),
    cumulated=st.booleans(),
)
def test_sequences_are_collected_from_their_blocks(lengths: list[int], first: int, dtype: Any, cumulated: bool) -> None:
    offsets = [BLOCK * ((first + i) % 4) for i in range(len(lengths))]
    given = _paged(lengths, offsets, dtype)
    if cumulated:
        given["seq_lens"] = torch.tensor([sum(lengths[:i]) for i in range(len(lengths) + 1)], dtype=torch.int32)
    assert OPERATORS.npu_gather_pa_kv_cache(**given, is_seq_lens_cumsum=cumulated) is None
    for cache, out in (("key_cache", "key"), ("value_cache", "value")):
        wanted = [
            given[cache][int(table[(offset + t) // BLOCK]), (offset + t) % BLOCK]
            for table, length, offset in zip(given["block_tables"], lengths, offsets, strict=True)
            for t in range(length)
        ]
        assert torch.equal(given[out], torch.stack(wanted))
    again = OPERATORS.npu_gather_pa_kv_cache_functional(
        **{**given, "key": given["key"] * 0, "value": given["value"] * 0}, is_seq_lens_cumsum=cumulated
    )
    assert torch.equal(again[0], given["key"])
    assert torch.equal(again[1], given["value"])


def test_torch_accepts_the_gathering() -> None:
    given = _paged([3, 20], [16, 0], torch.bfloat16)
    assert_checked_by_torch(OPERATORS.npu_gather_pa_kv_cache, **given)
    assert_checked_by_torch(OPERATORS.npu_gather_pa_kv_cache_functional, **given)

    def gather(key: Any, value: Any) -> tuple[Any, Any]:
        key, value = torch.empty_like(key), torch.empty_like(value)
        OPERATORS.npu_gather_pa_kv_cache(**{**given, "key": key, "value": value})
        return key, value

    assert_compiles(gather, given["key"], given["value"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key_cache": torch.ones(12, BLOCK, 1, 512)}, "float32"),
        ({"seq_lens": torch.tensor([3, 20])}, "seq_lens is torch.int64"),
        ({"seq_lens": torch.tensor([3, 21], dtype=torch.int32)}, "add up to 24 tokens"),
        ({"seq_lens": torch.tensor([23], dtype=torch.int32)}, "1 elements for 2 sequences"),
        ({"key": torch.ones(23, 1, 64, dtype=torch.bfloat16)}, r"key \(23, 1, 64\)"),
        ({"key": torch.ones(0, 1, 512, dtype=torch.bfloat16)}, "key is empty"),
    ],
)
def test_a_gathering_that_the_npu_refuses_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        OPERATORS.npu_gather_pa_kv_cache(**{**_paged([3, 20], [16, 0], torch.bfloat16), **change})


# --- npu_transpose_batchmatmul ---


@given(
    batch=st.integers(1, 6),
    rows=st.integers(0, 9),
    depth=st.sampled_from([128, 512]),
    columns=st.sampled_from([128, 256]),
    dtype=st.sampled_from(DTYPES),
    swapped=st.booleans(),
    strided=st.booleans(),
    split=st.integers(1, 3),
)
def test_a_batched_product_in_the_order_of_rows(
    batch: int, rows: int, depth: int, columns: int, dtype: Any, swapped: bool, strided: bool, split: int
) -> None:
    shape = (rows, batch) if swapped else (batch, rows)
    x = tensor(1, *shape, 2 * depth, dtype=dtype)[..., ::2] if strided else tensor(1, *shape, depth, dtype=dtype)
    weight = tensor(2, batch, columns, depth, dtype=dtype, scale=depth**-0.5).transpose(1, 2)
    if batch % split:
        split = 1
    order = {"perm_x1": [1, 0, 2]} if swapped else {}
    y = OPERATORS.npu_transpose_batchmatmul(x, weight, **order, perm_y=[1, 0, 2], batch_split_factor=split)
    left = x.double().transpose(0, 1) if swapped else x.double()
    exact = torch.einsum("bmk,bkn->mbn", left, weight.double())
    size = torch.einsum("bmk,bkn->mbn", left.abs(), weight.double().abs())
    if split > 1:
        assert y.shape == (split, rows, batch * columns // split)
        y = y.transpose(0, 1).reshape(exact.shape)
    assert y.dtype == dtype
    assert_rounded_once(y, exact, size)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("split", [1, 2])
def test_torch_accepts_the_product(dtype: Any, split: int) -> None:
    x, weight = tensor(1, 4, 3, 128, dtype=dtype), tensor(2, 4, 128, 128, dtype=dtype)
    operator = OPERATORS.npu_transpose_batchmatmul
    assert_checked_by_torch(operator, x, weight, batch_split_factor=split)
    assert_checked_by_torch(operator, x.transpose(0, 1), weight, perm_x1=[1, 0, 2], batch_split_factor=split)
    assert_compiles(lambda x, w: operator(x, w, batch_split_factor=split), x, weight)


@pytest.mark.parametrize(
    ("x", "weight", "named", "message"),
    [
        (torch.ones(2, 3, 128), torch.ones(2, 128, 128), {"bias": torch.ones(128)}, "bias"),
        (torch.ones(2, 3, 128), torch.ones(2, 128, 128), {"scale": torch.ones(256, dtype=torch.int64)}, "scale"),
        (torch.ones(2, 3, 128), torch.ones(2, 128, 128), {"perm_y": [0, 1, 2]}, r"perm_y is \[0, 1, 2\]"),
        (torch.ones(2, 3, 128), torch.ones(2, 128, 128), {"perm_x2": [0, 2, 1]}, r"perm_x2 is \[0, 2, 1\]"),
        (torch.ones(2, 3, 64), torch.ones(2, 64, 128), {}, "multiples of 128"),
        (torch.ones(2, 3, 128), torch.ones(2, 128, 32), {}, "multiples of 128"),
        (torch.ones(3, 2, 128), torch.ones(2, 128, 128), {}, "batches and depths differ"),
        (torch.ones(1, 128, 512), torch.ones(128, 512, 128), {"perm_x1": [1, 0, 2]}, "stay below 65536"),
        (torch.ones(2, 3, 128), torch.ones(2, 128, 128), {"batch_split_factor": 3}, "batch_split_factor is 3"),
        (torch.ones(2, 3, 128), torch.ones(2, 128, 128, dtype=torch.bfloat16), {}, "one dtype"),
    ],
)
def test_a_product_that_the_npu_refuses_is_refused(x: Any, weight: Any, named: dict[str, Any], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        OPERATORS.npu_transpose_batchmatmul(x, weight, **named)


# --- npu_attention_update ---


@given(
    parts=st.integers(1, 5),
    rows=st.integers(0, 7),
    size=st.sampled_from([8, 128, 512]),
    dtype=st.sampled_from(DTYPES),
    spread=st.sampled_from([0.1, 5.0, 80.0]),
    empty=st.booleans(),
)
def test_attention_over_parts_of_the_keys_becomes_one(
    parts: int, rows: int, size: int, dtype: Any, spread: float, empty: bool
) -> None:
    lse = [tensor(i, rows, scale=spread) for i in range(parts)]
    out = [tensor(10 + i, rows, size, dtype=dtype) for i in range(parts)]
    if empty and parts > 1:
        lse[0] = torch.full((rows,), -torch.inf)
    merged, total = OPERATORS.npu_attention_update(lse, out, 1)
    sums = torch.stack(lse).double()
    exact_total = torch.logsumexp(sums, 0)
    weights = (sums - exact_total).exp()
    exact = sum(w.unsqueeze(-1) * o.double() for w, o in zip(weights, out, strict=True))
    # Sums of up to 80 lose up to 80 units in the last place of float32 when their difference is taken.
    size_of_terms = (1 + spread) * sum(w.unsqueeze(-1) * o.double().abs() for w, o in zip(weights, out, strict=True))
    assert merged.dtype == dtype
    assert total.dtype == torch.float32
    assert_rounded_once(merged, exact, size_of_terms)
    assert_rounded_once(total, exact_total, exact_total.abs() + 1)
    again, nothing = OPERATORS.npu_attention_update(lse, out, 0)
    assert torch.equal(again, merged)
    assert not nothing.any()


def test_attention_over_halves_is_attention_over_all() -> None:
    query, keys, values = tensor(1, 5, 64), tensor(2, 30, 64), tensor(3, 30, 64)
    scores = query.double() @ keys.double().T
    exact = scores.softmax(-1) @ values.double()
    parts = [(s, v) for s, v in zip(scores.split(13, 1), values.double().split(13), strict=True)]
    lse = [s.logsumexp(-1).float() for s, _ in parts]
    out = [(s.softmax(-1) @ v).float() for s, v in parts]
    merged, total = OPERATORS.npu_attention_update(lse, out, 1)
    torch.testing.assert_close(merged.double(), exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(total.double(), scores.logsumexp(-1), rtol=1e-6, atol=1e-6)


def test_without_any_key_there_is_nothing_to_return() -> None:
    merged, _ = OPERATORS.npu_attention_update([torch.full((2,), -torch.inf)] * 2, [torch.zeros(2, 8)] * 2, 0)
    assert merged.isnan().all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_accepts_the_merging(dtype: Any) -> None:
    lse, out = [tensor(1, 3), tensor(2, 3)], [tensor(3, 3, 16, dtype=dtype), tensor(4, 3, 16, dtype=dtype)]
    for kind in (0, 1):
        assert_checked_by_torch(OPERATORS.npu_attention_update, lse, out, kind)
    assert_compiles(lambda *t: OPERATORS.npu_attention_update(list(t[:2]), list(t[2:]), 1), *lse, *out)


@pytest.mark.parametrize(
    ("lse", "out", "kind", "message"),
    [
        ([torch.ones(2)] * 17, [torch.ones(2, 8)] * 17, 0, "lse has 17 parts"),
        ([torch.ones(2)], [torch.ones(2, 8)] * 2, 0, "local_out 2"),
        ([torch.ones(2)], [torch.ones(2, 12)], 0, "multiple of 8"),
        ([torch.ones(3)], [torch.ones(2, 8)], 0, r"lse\[0\] is \(3,\)"),
        ([torch.ones(2).half()], [torch.ones(2, 8)], 0, "it takes float32"),
        ([torch.ones(2)], [torch.ones(2, 8)], 2, "update_type is 2"),
        ([torch.ones(2)] * 2, [torch.ones(2, 8), torch.ones(2, 8).half()], 0, "one dtype"),
    ],
)
def test_a_merging_that_the_npu_refuses_is_refused(lse: Any, out: Any, kind: int, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        OPERATORS.npu_attention_update(lse, out, kind)
