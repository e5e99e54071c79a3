"""The weights of the tiny models: rounding moves little, and every mistake that a family is able to show moves more."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import hugging_face
import mistakes
import torch
from zoo_kit import TOLERANCES

from ascend_overlay.commands.demo import tiny

SEEDS = (0, 1, 2)


class Checkpoint:
    """A tiny model on disk, and what transformers says in float32."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokens = hugging_face.encode(folder, hugging_face.TEXT)
        self.right = hugging_face.logprobs(hugging_face.load(folder), self.tokens)

    def moved(self, model: Any) -> float:
        """Return how far, at most, `model` is away from what is right."""
        return hugging_face.largest_difference(self.right, hugging_face.logprobs(model, self.tokens))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the checkpoint of a family and a seed."""

    @functools.cache
    def checkpoint(family: str, seed: int) -> Checkpoint:
        return Checkpoint(tiny.FAMILIES[family](tmp_path_factory.mktemp(family), seed=seed))

    return checkpoint


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_rounding_stays_well_within_the_tolerance(checkpoints: Any, family: str, dtype: torch.dtype) -> None:
    # Two runs that are compared both round, but seldom by the same at the same place.
    allowed = 0.7 * TOLERANCES[str(dtype).removeprefix("torch.")]
    for seed in SEEDS:
        checkpoint = checkpoints(family, seed)
        assert checkpoint.moved(hugging_face.load(checkpoint.folder, dtype)) < allowed, seed


@pytest.mark.parametrize(
    ("family", "mistake"),
    [
        pytest.param(family, mistake, id=f"{family}-{mistake.__name__}")
        for family, made in mistakes.MISTAKES.items()
        for mistake in made
    ],
)
def test_a_mistake_moves_more_than_the_tolerance(checkpoints: Any, family: str, mistake: mistakes.Mistake) -> None:
    for seed in SEEDS:
        checkpoint = checkpoints(family, seed)
        model = hugging_face.load(checkpoint.folder)
        mistake(model)
        assert checkpoint.moved(model) > TOLERANCES["bfloat16"], seed


def test_each_family_has_mistakes() -> None:
    assert mistakes.MISTAKES.keys() == tiny.FAMILIES.keys()


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_likeliest_token_is_seldom_in_doubt(checkpoints: Any, family: str) -> None:
    for seed in SEEDS:
        first, second = checkpoints(family, seed).right.topk(2, dim=-1).values.unbind(-1)
        doubtful = (first - second) < TOLERANCES["bfloat16"] / 3
        assert doubtful.float().mean() < 0.15, seed
