"""npu_moe_gating_top_k and npu_moe_gating_top_k_softmax choose the experts that torch_npu documents."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from npu_kit import DTYPES, OPERATORS, assert_checked_by_torch, assert_compiles, assert_rounded_once, tensor, torch


def _chosen(scores: list[float], k: int) -> list[int]:
    """Return the places of the `k` largest, the lower place first where they are equal."""
    return sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]


def _choose(choice: Any, k: int, k_group: int, groups: int, mode: int) -> list[list[int]]:
    """Choose the experts of each row, in plain Python."""
    found = []
    for row in choice.tolist():
        size = len(row) // groups
        parts = [sorted(row[g * size : (g + 1) * size], reverse=True) for g in range(groups)]
        kept = _chosen([sum(part[:2]) if mode else part[0] for part in parts], k_group)
        found.append(_chosen([v if i // size in kept else float("-inf") for i, v in enumerate(row)], k))
    return found


@given(
    rows=st.integers(0, 9),
    groups=st.integers(1, 4),
    size=st.integers(3, 20),
    dtype=st.sampled_from(DTYPES),
    sigmoid=st.booleans(),
    mode=st.integers(0, 1),
    with_bias=st.booleans(),
    factor=st.sampled_from([1.0, 2.5]),
    data=st.data(),
)
def test_gating_is_the_formula(
    rows: int, groups: int, size: int, dtype: Any, sigmoid: bool, mode: int, with_bias: bool, factor: float, data: Any
) -> None:
    k_group = data.draw(st.integers(1, groups))
    k = data.draw(st.integers(1, size * k_group))
    # In quarters, so that equal scores occur; those of float32 tell what is chosen.
    x = (tensor(1, rows, groups * size) * 4).round().div(4).to(dtype)
    bias = (tensor(2, groups * size) * 4).round().div(4).to(dtype) if with_bias else None
    y, experts, norm = OPERATORS.npu_moe_gating_top_k(
        x,
        k,
        bias=bias,
        k_group=k_group,
        group_count=groups,
        group_select_mode=mode,
        norm_type=int(sigmoid),
        out_flag=True,
        routed_scaling_factor=factor,
    )
    exact = x.double().sigmoid() if sigmoid else x.double().softmax(-1)
    assert (y.dtype, experts.dtype, norm.dtype) == (dtype, torch.int32, torch.float32)
    assert_rounded_once(norm, exact)
    choice = norm if bias is None else norm + bias.float()
    assert experts.tolist() == _choose(choice, k, k_group, groups, mode)
    weights = exact.gather(1, experts.long())
    if sigmoid:
        weights = weights / weights.sum(-1, keepdim=True)
    assert_rounded_once(y, weights * factor)


@given(
    leading=st.lists(st.integers(0, 6), min_size=1, max_size=2),
    experts=st.integers(1, 40),
    dtype=st.sampled_from(DTYPES),
    with_finished=st.booleans(),
    data=st.data(),
)
def test_softmax_gating_is_the_formula(
    leading: list[int], experts: int, dtype: Any, with_finished: bool, data: Any
) -> None:
    k = data.draw(st.integers(1, experts))
    x = (tensor(1, *leading, experts) * 4).round().div(4).to(dtype)
    finished = tensor(3, *leading) > 0 if with_finished else None
    y, indices, rows = OPERATORS.npu_moe_gating_top_k_softmax(x, finished, k)
    exact = x.double().softmax(-1).flatten(0, -2)
    wanted = torch.tensor(_choose(x.float().softmax(-1).flatten(0, -2), k, 1, 1, 0), dtype=torch.int32).view(-1, k)
    assert_rounded_once(y.flatten(0, -2), exact.gather(1, wanted.long()))
    if finished is not None:
        wanted[finished.flatten()] = experts
    assert torch.equal(indices.flatten(0, -2), wanted)
    count = exact.shape[0]
    assert rows.flatten(0, -2).tolist() == [[c * count + r for c in range(k)] for r in range(count)]
    assert (y.dtype, indices.dtype, rows.dtype) == (dtype, torch.int32, torch.int32)


@given(
    leading=st.lists(st.integers(0, 6), min_size=1, max_size=2),
    experts=st.integers(1, 40),
    dtype=st.sampled_from(DTYPES),
    with_finished=st.booleans(),
    late=st.booleans(),
    whole=st.booleans(),
    data=st.data(),
)
def test_softmax_gating_before_or_after_the_choice_is_the_formula(
    leading: list[int], experts: int, dtype: Any, with_finished: bool, late: bool, whole: bool, data: Any
) -> None:
    k = data.draw(st.integers(1, experts))
    x = (tensor(1, *leading, experts) * 4).round().div(4).to(dtype)
    finished = tensor(3, *leading) > 0 if with_finished else None
    y, indices, softmax = OPERATORS.npu_moe_gating_top_k_softmax_v2(
        x, k=k, finished=finished, renorm=int(late), output_softmax=whole
    )
    exact = x.double().softmax(-1).flatten(0, -2)
    choice = (x.float() if late else x.float().softmax(-1)).flatten(0, -2)
    wanted = torch.tensor(_choose(choice, k, 1, 1, 0), dtype=torch.int32).view(-1, k)
    weights = exact.gather(1, wanted.long())
    assert_rounded_once(y.flatten(0, -2), weights / weights.sum(-1, keepdim=True) if late else weights)
    if finished is not None:
        wanted[finished.flatten()] = experts
    assert torch.equal(indices.flatten(0, -2), wanted)
    assert (y.dtype, indices.dtype, softmax.dtype) == (dtype, torch.int32, torch.float32)
    if whole and not late:
        assert_rounded_once(softmax.flatten(0, -2), exact)
    else:
        assert softmax.shape == (0,)


def test_a_sum_of_zero_is_not_divided_by() -> None:
    x = torch.full((1, 8), -1e4)
    y, experts, _ = OPERATORS.npu_moe_gating_top_k(x, 2, norm_type=1)
    assert y.tolist() == [[0, 0]]
    assert experts.tolist() == [[0, 1]]


def test_without_the_flag_the_norm_is_not_computed() -> None:
    assert not OPERATORS.npu_moe_gating_top_k(torch.ones(2, 8), 2)[2].any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_accepts_the_operators(dtype: Any) -> None:
    wide, bias = tensor(1, 5, 32, dtype=dtype), tensor(2, 16, dtype=dtype)
    for x in (wide[:, :16], wide[:, :16].clone(), wide.view(10, 16)[::2]):
        options = {"bias": bias, "k_group": 2, "group_count": 4, "group_select_mode": 1, "norm_type": 1}
        assert_checked_by_torch(OPERATORS.npu_moe_gating_top_k, x, 3, **options)
        assert_checked_by_torch(OPERATORS.npu_moe_gating_top_k_softmax, x, None, 3)
        assert_checked_by_torch(OPERATORS.npu_moe_gating_top_k_softmax_v2, x, k=3, renorm=1)
    assert_compiles(lambda x, b: OPERATORS.npu_moe_gating_top_k(x, 3, bias=b, out_flag=True), wide[:, :16], bias)
    assert_compiles(lambda x: OPERATORS.npu_moe_gating_top_k_softmax(x, None, 3), wide)
    assert_compiles(lambda x: OPERATORS.npu_moe_gating_top_k_softmax_v2(x, k=3, output_softmax=True), wide)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x": torch.ones(8)}, "1 dimensions"),
        ({"x": torch.ones(2, 12, dtype=torch.float64)}, "float64"),
        ({"x": torch.ones(2, 2049)}, "2049 experts"),
        ({"x": torch.ones(2, 900), "group_count": 100}, "rounded up to a multiple of 32"),
        ({"group_count": 5}, "12 experts do not make 5 groups"),
        ({"group_count": 6}, "more than two each"),
        ({"group_count": 2, "k_group": 3}, "k_group is 3"),
        ({"group_count": 4, "k": 4}, "k is 4, but 1 groups of 3 experts make 3"),
        ({"k": 0}, "k is 0"),
        ({"bias": torch.ones(12, dtype=torch.bfloat16)}, "takes the dtype of x"),
        ({"bias": torch.ones(11)}, r"the shape \(12,\)"),
        ({"renorm": 1}, "renorm is 1"),
        ({"norm_type": 2}, "norm_type is 2"),
        ({"group_select_mode": 2}, "group_select_mode is 2"),
        ({"input_ids": torch.ones(2)}, "no choice by input_ids"),
    ],
)
def test_what_the_npu_refuses_is_refused(options: dict[str, Any], message: str) -> None:
    arguments = {"x": torch.ones(2, 12), "k": 2} | options
    with pytest.raises(RuntimeError, match=message):
        OPERATORS.npu_moe_gating_top_k(arguments.pop("x"), arguments.pop("k"), **arguments)


@pytest.mark.parametrize(
    ("x", "finished", "k", "message"),
    [
        (torch.ones(8), None, 1, "1 dimensions"),
        (torch.ones(2, 8), None, 9, "k is 9 with 8 experts"),
        (torch.ones(2, 2000), None, 1025, "at most 1024"),
        (torch.ones(2, 8), torch.ones(2), 1, "takes bool"),
        (torch.ones(2, 8, dtype=torch.int32), None, 1, "int32"),
    ],
)
def test_what_the_npu_refuses_of_a_softmax_is_refused(x: Any, finished: Any, k: int, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        OPERATORS.npu_moe_gating_top_k_softmax(x, finished, k)
    with pytest.raises(RuntimeError, match=f"npu_moe_gating_top_k_softmax_v2.*{message}"):
        OPERATORS.npu_moe_gating_top_k_softmax_v2(x, k=k, finished=finished)


def test_softmax_gating_comes_before_or_after_the_choice() -> None:
    with pytest.raises(RuntimeError, match="renorm is 2; it takes 0 or 1"):
        OPERATORS.npu_moe_gating_top_k_softmax_v2(torch.ones(2, 8), renorm=2)
