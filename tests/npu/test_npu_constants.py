"""Tensors that are kept serve whoever comes next, with gradients or without."""

from __future__ import annotations

from typing import Any

from attention_kit import SECOND, Problem
from npu_kit import torch

from ascend_overlay.npu.reference.constants import kept, number


def test_so_many_results_are_kept_and_no_more() -> None:
    made: list[int] = []

    @kept(2)
    def ones(count: int) -> Any:
        made.append(count)
        return torch.ones(count)

    assert ones(1) is ones(1)
    for count in (2, 1, 3, 2):
        ones(count)
    assert made == [1, 2, 3, 2]


def test_what_was_made_in_inference_mode_can_be_kept_for_gradients() -> None:
    with torch.inference_mode():
        first, plain = number(0.30078125), torch.ones(())
    assert plain.is_inference()
    assert not first.is_inference()
    weight = torch.ones(3, requires_grad=True)
    (weight * number(0.30078125)).sum().backward()
    assert weight.grad.tolist() == [0.30078125] * 3


def test_a_step_of_decoding_in_inference_mode_leaves_nothing_behind_that_gradients_stumble_over() -> None:
    (query, key, value), options = Problem([1, 1], [141, 29]).arguments("TND", cache="tokens")
    with torch.inference_mode():
        expected = [SECOND(query, key, value, **options)[0] for _ in range(2)]
    wanting = [x.clone().requires_grad_() for x in (query, key, value)]
    out, _ = SECOND(*wanting, **options)
    assert torch.equal(out, expected[0])
    assert torch.equal(out, expected[1])
