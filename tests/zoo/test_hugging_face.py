"""The zoo against transformers' own implementations in float32, which share no code with vLLM's layers.

transformers is given what vLLM was given and what it answered, and has to find each answer likeliest, and each of the
likeliest tokens as likely, up to the tolerance of the dtype that vLLM computed in.
"""

from __future__ import annotations

import functools
from typing import Any

import hugging_face
import pytest
import torch
from zoo_kit import ALL, TOLERANCES, Run, Zoo, params

EAGER = [run for run in ALL if run.mode == "eager"]


@pytest.fixture(scope="module")
def reference(zoo: Zoo) -> Any:
    """Return the model of a family in transformers."""

    @functools.cache
    def model(family: str) -> Any:
        return hugging_face.load(zoo.models[family])

    return model


@pytest.mark.parametrize("run", params(EAGER))
@pytest.mark.parametrize("name", ["stock", "overlaid"])
def test_logprobs_are_those_of_transformers(zoo: Zoo, reference: Any, run: Run, name: str) -> None:
    tolerance = TOLERANCES[run.dtype]
    found = zoo.result(name, run)
    for output in found["outputs"] + found["again"]:
        tokens = output["prompt_tokens"] + output["tokens"]
        expected = hugging_face.logprobs(reference(run.family), tokens)[:-1]
        ours = output["prompt_logprobs"] + output["logprobs"]
        for place, listed in enumerate(reversed(ours), start=1):
            row = expected[-place]
            there = torch.tensor([int(token) for token in listed])
            difference = (row[there] - torch.tensor(list(listed.values()))).abs().max()
            assert difference <= tolerance, (output["prompt"], place)
        answered = expected[-len(output["tokens"]) :]
        chosen = answered.gather(-1, torch.tensor(output["tokens"])[:, None])[:, 0]
        assert (answered.max(-1).values - chosen <= tolerance).all(), output["prompt"]


@pytest.mark.parametrize("run", params(EAGER))
def test_prompts_were_compared_to_their_end(zoo: Zoo, run: Run) -> None:
    for output in zoo.result("overlaid", run)["outputs"]:
        assert len(output["prompt_logprobs"]) == len(output["prompt_tokens"]) - 1
        assert all(len(listed) >= 20 for listed in output["prompt_logprobs"] + output["logprobs"])
