"""What is said to a full disk, to a reader that leaves, and where there are no other characters than ASCII."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WORDS = [sys.executable, "-m", "ascend_overlay"]
COMMANDS = {"a table": ["list"], "lines": ["explain", "json"]}


@pytest.mark.parametrize("command", list(COMMANDS))
def test_a_full_disk(command: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*WORDS, *COMMANDS[command]], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    said = " ".join(done.stderr.split())
    assert (done.returncode, said) == (
        2,
        "Error: standard output takes no more of what is said: No space left on device.",
    )


@pytest.mark.parametrize("command", list(COMMANDS))
def test_a_reader_that_left(command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone:
        done = subprocess.run([*WORDS, *COMMANDS[command]], stdout=gone, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")


def test_characters_that_there_are_not(tmp_path: Path) -> None:
    for name, text in (("old", "x = 1\n"), ("new", "x = 2\n")):
        (tmp_path / name / "vllm").mkdir(parents=True)
        (tmp_path / name / "vllm" / "__init__.py").write_text(text)
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    words = [*WORDS, "drift", "old/vllm", "new/vllm", "--only", "layernorm"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0 and "old/vllm ? " in done.stdout, done.stderr
