"""What a server on device "npu" does besides answering greedily, beside stock vLLM on the CPU."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import npu_features
import pytest
from agreement import TOLERANCE, compared
from npu_runs import Answers

pytestmark = pytest.mark.e2e


@pytest.fixture
def ours(on_npu: Answers) -> Mapping[str, Any]:
    """What was answered on the NPU."""
    assert on_npu.npu["features"]["platform"] == "NPUPlatform"
    return on_npu.npu["features"]


@pytest.fixture
def theirs(on_npu: Answers) -> Mapping[str, Any]:
    """What stock vLLM answered on the CPU."""
    assert on_npu.cpu["features"]["platform"] == "CpuPlatform"
    return on_npu.cpu["features"]


KINDS = ("plain", "penalties", "logit_bias", "stop_token_ids", "min_tokens", "bad_words", "allowed_token_ids")


@pytest.mark.parametrize("kind", KINDS)
def test_what_bears_on_tokens(ours: Mapping[str, Any], theirs: Mapping[str, Any], kind: str) -> None:
    # Tokens that are forced upon a model have log probabilities far down, which roundings bear on more.
    assert compared(ours["greedy"][kind], theirs["greedy"][kind], 2 * TOLERANCE).ties == 0


def test_it_bears_on_them(ours: Mapping[str, Any]) -> None:
    tokens = {kind: found["tokens"] for kind, found in ours["greedy"].items()}
    assert tokens.keys() == set(KINDS)
    said = set(ours["said"])
    assert said and all(set(each) & said for each in tokens["plain"])
    assert tokens["penalties"] != tokens["plain"]
    assert {token for each in tokens["logit_bias"] for token in each} == {17}
    assert all(len(each) == 1 for each in tokens["stop_token_ids"])
    assert all(len(each) >= 5 and not set(each[:4]) & said for each in tokens["min_tokens"])
    # They are texts to vLLM, and what is half a letter is none that it finds again.
    plain, without = (sum(token in said for each in tokens[kind] for token in each) for kind in ("plain", "bad_words"))
    assert without < plain / 4
    assert {token for each in tokens["allowed_token_ids"] for token in each} <= {10, 20, 30}


def test_what_begins_alike_is_computed_once(ours: Mapping[str, Any]) -> None:
    assert ours["cached"] == [128, 128, 0, 0]


@pytest.mark.parametrize("kind", npu_features.SEEDED)
def test_a_seed_is_repeatable(ours: Mapping[str, Any], kind: str) -> None:
    first, again, other = ours["seeded"][kind]
    assert first == again != other
    assert len(first) == len(npu_features.PROMPTS) * npu_features.SEEDED[kind].get("n", 1)
    # Random they are; those who ask for several answers get others, where the model is in two minds.
    fewest = len(npu_features.PROMPTS) + (kind == "n")
    assert len({tuple(tokens) for tokens in first}) >= fewest


def test_log_probabilities_of_the_prompt(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    for prompt, mine, other in zip(
        npu_features.PROMPTS, ours["prompt_logprobs"], theirs["prompt_logprobs"], strict=True
    ):
        assert len(mine) == len(prompt) - 1
        # The logits of a token that is as good as impossible are large, and bfloat16 rounds them as coarsely.
        assert mine == pytest.approx(other, abs=TOLERANCE, rel=0.02)


def test_texts_of_a_form(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    found = ours["structured"]
    assert set(found["choice"]) <= {"yes", "no"}
    assert all(re.fullmatch("[0-9]{4}", text) for text in found["regex"])
    for text in found["json"]:
        value = json.loads(text)
        assert value.keys() == {"ok", "n"} and isinstance(value["ok"], bool) and value["n"] in range(10)
    assert {name: len(texts) for name, texts in found.items()} == dict.fromkeys(found, len(npu_features.PROMPTS))
    assert found["choice"] == theirs["structured"]["choice"]


def test_requests_that_are_preempted_go_on_as_before(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    assert ours["preempted"] > 0 and theirs["preempted"] > 0
    # Which request is preempted, and what is computed again in which batch, is the same on both.
    assert compared(ours["after_preemption"], theirs["after_preemption"]).ties <= 1


def test_a_request_that_is_aborted(ours: Mapping[str, Any]) -> None:
    found = ours["aborted"]
    assert found["unfinished"] == found["blocks_in_use"] == 0
    plain = ours["greedy"]["plain"]["tokens"]
    assert found["finished"] == {"stays": plain[3]}


def test_images_are_looked_at(on_npu: Answers) -> None:
    """A vision tower's attention is PyTorch's, by vLLM's own choice; what it gives goes into a decoder's prompt."""
    ours, theirs = on_npu.npu["images"], on_npu.cpu["images"]
    assert (ours["platform"], theirs["platform"]) == ("NPUPlatform", "CpuPlatform")
    assert compared(ours, theirs).ties == 0
    without, *images = ours["logprobs"]
    for one, other in [(without, images[0]), (without, images[1]), images]:
        assert max(abs(p - q) for p, q in zip(one, other, strict=True)) > 2 * TOLERANCE
