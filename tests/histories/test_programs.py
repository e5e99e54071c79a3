"""Histories that ended wrong once, or show in few lines what others hide: see programs.txt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from histories.test_histories import histories

PROGRAMS = (Path(__file__).parent / "programs.txt").read_text(encoding="utf-8").strip().split("\n\n")


@pytest.fixture(scope="module")
def faults() -> list[list[str]]:
    """What is wrong with each of the programs; one process runs them all."""
    done = histories("--programs", "-", text="\n\n".join(PROGRAMS))
    assert done.stdout.count("\n") == len(PROGRAMS), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("number", range(len(PROGRAMS)), ids=[program.splitlines()[0][2:] for program in PROGRAMS])
def test_program_ends_well(faults: list[list[str]], number: int) -> None:
    assert faults[number] == [], PROGRAMS[number]
