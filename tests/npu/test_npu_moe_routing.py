"""npu_moe_init_routing_v2 sorts, and npu_moe_token_unpermute adds up, as torch_npu documents."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from npu_kit import DTYPES, OPERATORS, assert_checked_by_torch, assert_compiles, assert_rounded_once, tensor, torch

COUNTED = {"expert_tokens_num_type": 1, "expert_tokens_num_flag": True}


def _experts(rows: int, k: int, count: int, low: int = 0) -> Any:
    generator = torch.Generator().manual_seed(rows * 31 + k)
    return torch.randint(low, count, (rows, k), generator=generator, dtype=torch.int32)


def _slots(experts: Any, first: int, end: int) -> list[int]:
    """Return the slots that are kept, sorted by expert and then by slot, in plain Python."""
    flat = experts.flatten().tolist()
    return sorted((i for i, e in enumerate(flat) if first <= e < end), key=lambda i: (flat[i], i))


@given(
    rows=st.integers(0, 12),
    k=st.integers(1, 5),
    count=st.integers(1, 9),
    dtype=st.sampled_from([*DTYPES, torch.int8]),
    scatter=st.booleans(),
    pairs=st.booleans(),
    with_scale=st.booleans(),
    missing=st.booleans(),
    data=st.data(),
)
def test_rows_are_sorted_by_expert(
    rows: int, k: int, count: int, dtype: Any, scatter: bool, pairs: bool, with_scale: bool, missing: bool, data: Any
) -> None:
    first = data.draw(st.integers(0, count - 1))
    end = data.draw(st.integers(first + 1, count))
    x = tensor(1, rows, 7, scale=20).to(dtype)
    experts = _experts(rows, k, count, -1 if missing else 0)
    scale = tensor(2, rows) if with_scale else None
    expanded, index, tokens, scales = OPERATORS.npu_moe_init_routing_v2(
        x,
        experts,
        scale=scale,
        active_num=data.draw(st.sampled_from([-1, 0, rows * k])),
        expert_num=count,
        active_expert_range=[first, end],
        row_idx_type=int(scatter),
        expert_tokens_num_type=2 if pairs else 1,
        expert_tokens_num_flag=True,
    )
    kept = _slots(experts, first, end)
    empty = rows * k - len(kept)
    assert (index.dtype, tokens.dtype, scales.dtype) == (torch.int32, torch.int64, torch.float32)
    assert torch.equal(expanded, torch.cat((x[[slot // k for slot in kept]], x.new_zeros(empty, 7))))
    if scatter:
        assert index.tolist() == [*kept, *[0] * empty]
    else:
        assert index.tolist() == [kept.index(slot) if slot in kept else -1 for slot in range(rows * k)]
    flat = experts.flatten().tolist()
    counts = {expert: flat.count(expert) for expert in range(first, end)}
    if pairs:
        present = [[expert, number] for expert, number in counts.items() if number]
        assert tokens.tolist() == [*present, *[[0, 0]] * (count - len(present))]
    else:
        assert tokens.tolist() == list(counts.values())
    wanted = [0.0] * len(kept) if scale is None else scale[[slot // k for slot in kept]].tolist()
    assert scales.tolist() == [*wanted, *[0.0] * empty]


@given(rows=st.integers(0, 9), k=st.integers(1, 4), dtype=st.sampled_from(DTYPES), scale=st.sampled_from([0, 1, 4]))
def test_rows_are_quantized_by_their_largest_element(rows: int, k: int, dtype: Any, scale: int) -> None:
    x = tensor(1, rows, 33, dtype=dtype, scale=3)
    if rows:
        x[0] = 0
    experts = _experts(rows, k, 4)
    smooth = tensor(2, scale, 33).abs() + 0.5 if scale else None
    options = {"expert_num": 4, "quant_mode": 1, **COUNTED}
    expanded, _, _, scales = OPERATORS.npu_moe_init_routing_v2(x, experts, scale=smooth, **options)
    kept = _slots(experts, 0, 4)
    exact = x[[slot // k for slot in kept]].double()
    if smooth is not None:
        owners = experts.flatten()[kept].long()
        exact = exact * smooth.double()[owners if scale > 1 else owners * 0]
    assert expanded.dtype == torch.int8
    assert_rounded_once(scales, exact.abs().amax(-1) / 127)
    # A number in the middle of two may go either way by the rounding of the scale.
    off = (expanded.double() - exact / scales.double().clamp(min=1e-30).unsqueeze(-1)).abs()
    assert not (off > 0.5 + 1e-4).any()
    assert not expanded[scales == 0].any()


def test_the_sum_of_two_halves_is_to_even() -> None:
    x = torch.tensor([[127.0, 0.5, 1.5, -2.5, -127.0]])
    options = {"expert_num": 1, "quant_mode": 1, **COUNTED}
    expanded = OPERATORS.npu_moe_init_routing_v2(x, torch.zeros(1, 1, dtype=torch.int32), **options)[0]
    assert expanded.tolist() == [[127, 0, 2, -2, -127]]


@given(
    tokens=st.integers(0, 8),
    k=st.integers(1, 5),
    dtype=st.sampled_from(DTYPES),
    probs_dtype=st.sampled_from(DTYPES),
    left_out=st.integers(0, 3),
)
def test_the_rows_of_a_token_are_added_up(tokens: int, k: int, dtype: Any, probs_dtype: Any, left_out: int) -> None:
    rows = tokens * k
    permuted = tensor(1, rows, 9, dtype=dtype)[: max(rows - left_out, 0)]
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(rows)).to(torch.int32)
    probs = tensor(2, tokens, k, dtype=probs_dtype)
    got = OPERATORS.npu_moe_token_unpermute(permuted, order, probs)
    padded = torch.cat((permuted.double(), torch.zeros(rows - permuted.shape[0], 9, dtype=torch.float64)))
    terms = padded[order.long()].view(tokens, k, 9) * probs.double().unsqueeze(-1)
    assert got.dtype == dtype
    assert_rounded_once(got, terms.sum(1), terms.abs().sum(1))
    if k == 1:
        plain = OPERATORS.npu_moe_token_unpermute(permuted, order)
        assert torch.equal(plain.double(), padded[order.long()])


def test_what_cancels_out_is_zero() -> None:
    rows, probs = tensor(0, 64, 32, dtype=torch.bfloat16), tensor(1, 64, 1).expand(64, 2).contiguous()
    slots = torch.arange(128, dtype=torch.int32).view(2, 64).T.flatten()
    assert not OPERATORS.npu_moe_token_unpermute(torch.cat((rows, -rows)), slots, probs).any()


def test_what_is_left_out_adds_nothing_even_to_infinity() -> None:
    permuted = torch.tensor([[float("inf")], [1.0]])
    index = torch.tensor([2, 1, 0, 3], dtype=torch.int32)
    assert OPERATORS.npu_moe_token_unpermute(permuted, index, torch.ones(2, 2)).tolist() == [[1.0], [float("inf")]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_there_and_back(dtype: Any) -> None:
    x, experts = tensor(1, 6, 8, dtype=dtype), _experts(6, 3, 5)
    expanded, index, _, _ = OPERATORS.npu_moe_init_routing_v2(x, experts, expert_num=5, **COUNTED)
    third = torch.full((6, 3), 1 / 3)
    torch.testing.assert_close(OPERATORS.npu_moe_token_unpermute(expanded, index, third), x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_accepts_the_operators(dtype: Any) -> None:
    wide, experts = tensor(1, 5, 32, dtype=dtype), _experts(5, 3, 4)
    for x in (wide[:, :16], wide[:, :16].clone()):
        for mode in (-1, 1):
            options = {"expert_num": 4, "quant_mode": mode, "active_expert_range": [1, 3], **COUNTED}
            assert_checked_by_torch(OPERATORS.npu_moe_init_routing_v2, x, experts, **options)
    rows, index, probs = tensor(2, 15, 32, dtype=dtype)[:, ::2], torch.arange(15).to(torch.int32), tensor(3, 5, 3)
    assert_checked_by_torch(OPERATORS.npu_moe_token_unpermute, rows, index, probs)
    assert_compiles(lambda x, e: OPERATORS.npu_moe_init_routing_v2(x, e, expert_num=4, **COUNTED), wide, experts)
    assert_compiles(lambda r, i, p: OPERATORS.npu_moe_token_unpermute(r, i, p), rows, index, probs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x": torch.ones(2, 2, 2)}, "3 dimensions"),
        ({"x": torch.ones(3, 4)}, "int32 with the 3 rows of x"),
        ({"expert_idx": torch.zeros(2, 2, dtype=torch.int64)}, "int64"),
        ({"x": torch.ones(2, 4, dtype=torch.float64)}, "float64"),
        ({"x": torch.ones(2, 4, dtype=torch.int8), "quant_mode": 1}, "not to be quantized"),
        ({"quant_mode": 0}, "quant_mode is 0"),
        ({"expert_tokens_num_type": 0}, "expert_tokens_num_type is 0"),
        ({"expert_tokens_num_flag": False}, "expert_tokens_num_flag"),
        ({"expert_num": -1}, "expert_num is -1"),
        ({"expert_num": 5121, "expert_tokens_num_type": 2}, "1 to 5120"),
        ({"active_expert_range": [1, 5]}, r"active range \[1, 5\]"),
        ({"active_expert_range": [2, 2]}, r"active range \[2, 2\]"),
        ({"active_num": 3}, "active_num is 3 for 4 pairs"),
        ({"drop_pad_mode": 1}, "drop_pad_mode"),
        ({"offset": torch.ones(1)}, "offset"),
        ({"x_dtype": 1}, "x_dtype"),
        ({"row_idx_type": 2}, "row_idx_type"),
        ({"scale": torch.ones(3)}, r"float32 of \(2,\)"),
        ({"scale": torch.ones(3, 4), "quant_mode": 1}, r"float32 of \(4, 4\) or \(1, 4\)"),
        ({"scale": torch.ones(2, dtype=torch.bfloat16)}, "bfloat16"),
    ],
)
def test_what_the_npu_refuses_is_refused(options: dict[str, Any], message: str) -> None:
    arguments = {"x": torch.ones(2, 4), "expert_idx": torch.zeros(2, 2, dtype=torch.int32), "expert_num": 4, **COUNTED}
    with pytest.raises(RuntimeError, match=message):
        OPERATORS.npu_moe_init_routing_v2(**(arguments | options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"permuted_tokens": torch.ones(4)}, "1 dimensions"),
        ({"permuted_tokens": torch.ones(4, 2, dtype=torch.int8)}, "int8"),
        ({"sorted_indices": torch.arange(4)}, "int64"),
        ({"sorted_indices": torch.tensor([0, 1, 2, -1], dtype=torch.int32)}, "-1 to 2; it takes 0 to 3"),
        ({"sorted_indices": torch.tensor([0, 1, 2, 4], dtype=torch.int32)}, "0 to 4; it takes 0 to 3"),
        ({"probs": torch.ones(2, 3)}, "one for each"),
        ({"probs": torch.ones(4)}, "1 dimensions"),
        ({"padded_mode": True}, "padded_mode"),
        ({"restore_shape": [2, 2]}, "restore_shape"),
    ],
)
def test_what_the_npu_refuses_to_add_up_is_refused(options: dict[str, Any], message: str) -> None:
    arguments = {"permuted_tokens": torch.ones(4, 2), "sorted_indices": torch.arange(4).to(torch.int32)}
    arguments["probs"] = torch.ones(2, 2)
    with pytest.raises(RuntimeError, match=message):
        OPERATORS.npu_moe_token_unpermute(**(arguments | options))
