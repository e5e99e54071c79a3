"""Captured graphs on an NPU: a stock vLLM answers as it does without them, and they are used.

New memory is full of NaN, and vLLM compares the addresses that a graph was captured with to those of a replay.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from e2e_kit import TIMEOUT, environment
from software_npu import with_an_npu

PADDED = 0.06
"""Largest difference of a log probability, in nats, where a batch is padded: a step of bfloat16 or two."""
_WORKER = Path(__file__).with_name("npu_graphs_worker.py")
_LAYERS = {"llama3": 2, "qwen3_moe": 2, "deepseek_v2": 3}
_SIZES, _FULL = 5, 4
"""Of batches for which graphs in pieces are captured (1, 2, 4, 8, 16), and whole ones: of 8 requests at most."""


class Run(NamedTuple):
    """What is expected of a run: how it is settled, the pieces for a size, and the whole graphs."""

    family: str
    how: str
    mode: str
    graphs: str
    pieces: int
    whole: int
    tolerance: float = PADDED

    @property
    def name(self) -> str:
        return f"{self.family}:{self.how}"


RUNS = (
    Run("llama3", "default", "NONE", "FULL_AND_PIECEWISE", 3, _FULL),
    Run("llama3", "pieces", "NONE", "PIECEWISE", 3, 0, 0.0),
    Run("llama3", "compiled", "VLLM_COMPILE", "PIECEWISE", 3, 0, 0.0),
    Run("llama3", "compiled_both", "VLLM_COMPILE", "FULL_AND_PIECEWISE", 3, _FULL),
    Run("llama3", "decode", "NONE", "FULL_DECODE_ONLY", 0, _FULL),
    Run("llama3", "traced", "DYNAMO_TRACE_ONCE", "FULL_DECODE_ONLY", 0, _FULL),
    # The one mode for which vLLM's model runner has no graphs.
    Run("llama3", "stock", "STOCK_TORCH_COMPILE", "NONE", 0, 0),
    # Nothing is padded, so nothing differs.
    Run("llama3", "every", "NONE", "FULL_DECODE_ONLY", 0, 8, 0.0),
    Run("qwen3_moe", "default", "NONE", "FULL_AND_PIECEWISE", 3, _FULL),
    # Two breaks a layer: the cache write and attention.
    Run("deepseek_v2", "default", "NONE", "FULL_AND_PIECEWISE", 7, _FULL),
    Run("deepseek_v2", "pieces", "NONE", "PIECEWISE", 7, 0, 0.0),
    # Nothing is between the two breaks, of which the compiler makes one.
    Run("deepseek_v2", "compiled", "VLLM_COMPILE", "PIECEWISE", 4, 0, 0.0),
    Run("deepseek_v2", "every", "NONE", "FULL_DECODE_ONLY", 0, 8, 0.0),
)

Results = Mapping[str, Mapping[str, Any]]


def _run(folder: Path, *runs: str, **more: str) -> tuple[Results, str]:
    env = environment(folder, VLLM_CPU_OMP_THREADS_BIND="nobind", VLLM_ENABLE_V1_MULTIPROCESSING="0", **more)
    del env["VLLM_CPU_KVCACHE_SPACE"]
    command, variables = with_an_npu(str(_WORKER), str(folder), *runs)
    given = env | variables | {"ASCEND_OVERLAY_NPU_POISON": "1"}
    done = subprocess.run(
        command, env=given, cwd=folder, capture_output=True, text=True, timeout=3 * TIMEOUT, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-6000:]
    return {run: json.loads((folder / f"{run.replace(':', '-')}.json").read_text()) for run in runs}, said


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, str]:
    runs = [*(f"{family}:eager" for family in _LAYERS), *(run.name for run in RUNS), "failed:capture"]
    return _run(tmp_path_factory.mktemp("graphs"), *runs, VLLM_LOGGING_LEVEL="DEBUG")


@pytest.fixture(scope="module")
def results(served: tuple[Results, str]) -> Results:
    return served[0]


@pytest.mark.e2e
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_graph_answers_as_no_graph_does(results: Results, run: Run) -> None:
    found, eager = results[run.name], results[f"{run.family}:eager"]
    assert found["tokens"] == eager["tokens"]
    for ours, theirs in zip(found["logprobs"], eager["logprobs"], strict=True):
        assert ours == pytest.approx(theirs, abs=run.tolerance, rel=0)


@pytest.mark.e2e
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_what_is_captured_is_replayed_and_told_the_lengths(results: Results, run: Run) -> None:
    found = results[run.name]
    counts = found["counts"]
    assert (found["mode"], found["graphs"]) == (run.mode, run.graphs)
    assert counts.get("captured", 0) == run.pieces * _SIZES + run.whole
    updated = counts.get("updated", 0)
    whole, left = divmod(updated, _LAYERS[run.family])
    assert left == 0
    # Thirteen steps of the first requests, and three of the others, are of single tokens.
    assert (whole >= 16) == bool(run.whole)
    in_pieces = counts.get("replayed", 0) - whole
    assert (in_pieces > 0) == bool(run.pieces)
    assert in_pieces % max(run.pieces, 1) == 0


@pytest.mark.e2e
def test_without_graphs_nothing_is_captured(results: Results) -> None:
    for family in _LAYERS:
        eager = results[f"{family}:eager"]
        assert (eager["mode"], eager["graphs"], eager["counts"]) == ("NONE", "NONE", {})


@pytest.mark.e2e
def test_the_memory_of_graphs_is_measured(results: Results) -> None:
    found = results["llama3:default"]
    assert found["estimate"] > 0
    assert 0 < found["cache"] <= found["available"]


@pytest.mark.e2e
def test_each_engine_says_what_became_of_its_graphs(served: tuple[Results, str]) -> None:
    said = served[1]
    assert said.count("graphs were captured, replayed") == sum(run.graphs != "NONE" for run in RUNS)
    assert said.count("no graphs are captured, since vLLM's model runner has none") == 1
    assert "none of which was ever replayed" not in said


@pytest.mark.e2e
def test_a_capture_that_fails_says_so_and_leaves_the_streams_as_they_were(results: Results) -> None:
    found = dict(results["failed:capture"])
    said = found.pop("said")
    assert said.startswith("OverlayError: on the NPU platform, a graph could not be captured: ")
    assert said.endswith(". Serve without graphs: --enforce-eager.")
    assert found == {"on another stream": True, "as before": True, "open": 0, "works": 6.0}


@pytest.mark.grid
@pytest.mark.parametrize("waits", ["1", "0"], ids=["the host waits", "the device does"])
def test_thousands_of_replays_give_one_answer(tmp_path: Path, waits: str) -> None:
    """Of streams, their order is where it goes wrong, and seldom."""
    variables = {"TIMES": "150", "ASCEND_OVERLAY_GRAPH_WAIT": waits}
    found = _run(tmp_path, "llama3:default", **variables)[0]["llama3:default"]
    assert found["counts"]["updated"] > 4000
    assert found["differing"] == 0


@pytest.mark.grid
@pytest.mark.parametrize("family", ["llama3", "deepseek_v2"])
def test_ordered_on_the_device_updates_give_the_same_numbers(tmp_path: Path, family: str) -> None:
    """Nothing is padded, so nothing differs from no graph."""
    runs = [f"{family}:eager", f"{family}:every"]
    found, _ = _run(tmp_path, *runs, ASCEND_OVERLAY_GRAPH_WAIT="0")
    eager, every = (found[run] for run in runs)
    assert (every["tokens"], every["logprobs"]) == (eager["tokens"], eager["logprobs"])
    assert every["counts"]["updated"] > 30
