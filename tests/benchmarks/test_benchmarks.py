"""The benchmarks run and report; how fast anything is, is no test's business."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def benchmarks() -> Any:
    """The package, which is not installed."""
    sys.path.insert(0, str(ROOT))
    try:
        yield importlib.import_module("benchmarks")
    finally:
        sys.path.remove(str(ROOT))


@pytest.fixture(scope="module")
def measure(benchmarks: Any) -> Any:
    """Its module of samples and what to make of them."""
    return importlib.import_module("benchmarks.measure")


def test_candidates_take_turns_in_alternating_order(measure: Any) -> None:
    order: list[str] = []

    def candidate(name: str) -> float:
        order.append(name)
        return float(len(order))

    samples = measure.in_turns({"a": lambda: candidate("a"), "b": lambda: candidate("b")}, 2, warm_up=1)
    assert order == ["b", "a", "a", "b", "b", "a"]
    assert samples == {"a": [3.0, 6.0], "b": [4.0, 5.0]}


def test_summaries(measure: Any) -> None:
    assert measure.summary([3.0, 1.0, 2.0, 5.0, 4.0]) == (3.0, 2.0, 4.0)
    assert measure.ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
    assert measure.differences([2.0, 9.0], [1.0, 3.0]) == [1.0, 6.0]


@pytest.mark.parametrize(
    ("value", "low", "verdict"), [(1.004, 1.0, "met"), (1.05, 0.99, "within the spread"), (1.05, 1.02, "missed")]
)
def test_a_goal_is_missed_when_the_difference_is_larger_than_the_spread(
    measure: Any, value: float, low: float, verdict: str
) -> None:
    assert measure.Result("b", "what", value, low, value, "ratio", goal=1.0).verdict == verdict


def test_an_unknown_benchmark_is_named(tmp_path: Path) -> None:
    done = _run("nothing")
    assert done.returncode == 2
    assert "there is no benchmark 'nothing'; there are: idle, import, calls, rebinding, check, engine" in done.stderr
    done = _run("decode", "--models", "llama3,nothing")
    assert done.returncode == 2
    assert "there is no model 'nothing'; there are: llama3, qwen3" in done.stderr


@pytest.mark.vllm
def test_one_benchmark_to_json(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    done = _run("--quick", "--json", str(file), "calls")
    assert done.returncode in (0, 1), done.stderr
    record = json.loads(file.read_text())
    kinds = {result["what"].partition(",")[0] for result in record["results"]}
    assert kinds == {"replace", "subclass", "attribute", "add", "wrap", "kernel", "in the function itself"}
    assert record["machine"]["vllm"]
    assert all(result["value"] > 0 and result["runs"] > 1 for result in record["results"])


ANSWERING = """
import sys
for line in sys.stdin:
    print("noise", end="")
    print(f"\\nbenchmark {line.strip()} again", flush=True)
    if line == "end\\n":
        sys.exit("it had enough")
"""


def test_a_conversation(benchmarks: Any, tmp_path: Path) -> None:
    conversation = importlib.import_module("benchmarks.conversation").Conversation
    process = conversation([sys.executable, "-c", ANSWERING], os.environ, tmp_path / "log.txt")
    try:
        for word in ("one", "end"):
            process.tell(word)
            assert process.answer() == f"{word} again"
        with pytest.raises(RuntimeError, match="ended early:\nit had enough"):
            process.answer()
    finally:
        process.end()


@pytest.mark.e2e
def test_decoding_is_measured_model_by_model(benchmarks: Any) -> None:
    decode = importlib.import_module("benchmarks.decode")
    models = ["llama3", "wide_llama3"]
    results = list(decode.run(quick=True, models=models, pairs=1))
    assert [result.what.split(", ")[1:3] for result in results] == [["eager", name] for name in models]
    for result in results:
        assert (result.goal, result.unit, result.runs) == (1.5, "ratio", 1)
        assert 0.1 < result.value < 10
        assert result.details["stock, tokens/s"] > 0
        assert result.details["each pair"] == [result.value]


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=300, check=False)
