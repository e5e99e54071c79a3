"""Several devices: a stock vLLM answers on them as on one, each rank is on its own, and one that dies is named.

`pytest -m e2e` runs the reduced form; `pytest -m grid tests/e2e/test_npu_cards.py` all, Ray where it is installed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import npu_features
import pytest
import serving
from agreement import TOLERANCE, compared
from e2e_kit import environment
from grid import asked_for, marks
from npu_cards_worker import KILLED
from npu_runs import Answers, finish, read, start
from software_npu import with_an_npu

from ascend_overlay.commands.demo.processes import ProcessTree

HCCL = {"HCCL_BUFFSIZE": "321"}
_WORKER = str(Path(__file__).with_name("npu_cards_worker.py"))


class Run(NamedTuple):
    """A model served in a way, of `HOWS`.

    Attributes:
        layers: those that each rank holds, in the order of the devices.
        reduced: whether it is part of the reduced form.
        tolerance: of log probabilities.
    """

    family: str
    how: str
    layers: list[list[str]]
    reduced: bool = False
    tolerance: float = TOLERANCE

    @property
    def name(self) -> str:
        return f"{self.family}-{self.how}"


_TWO, _THREE, _STAGES = ["0", "1"], ["0", "1", "2"], [["0"], ["1"]]
RUNS = (
    Run("qwen3_moe", "experts", 2 * [_TWO], reduced=True),
    Run("deepseek_v2", "experts", 2 * [_THREE], reduced=True),
    # Nothing is computed otherwise.
    Run("llama3", "pipeline", _STAGES, reduced=True),
    Run("qwen3_moe", "data_experts", 2 * [_TWO], reduced=True),
    Run("qwen3_moe", "tensor", 2 * [_TWO]),
    Run("qwen3_moe", "pipeline", _STAGES),
    Run("deepseek_v2", "pipeline", [["0", "1"], ["2"]]),
    Run("llama3", "both", [["0"], ["0"], ["1"], ["1"]]),
    Run("llama3", "data", 2 * [_TWO]),
    Run("qwen3_moe", "data", 2 * [_TWO]),
    Run("deepseek_v2", "data_experts", 2 * [_THREE]),
    Run("qwen3_moe", "data_tensor", 4 * [_TWO]),
    Run("llama3", "ray", 2 * [_TWO]),
)
_DEATHS = {"llama3-killed": True, "llama3-killed_stage": False, "qwen3_moe-killed_replica": False}
"""A rank dies in each; those of the reduced form."""
_WORDS = {
    "killed": "rank 1 (pipeline stage 0, tensor parallel rank 1) on npu:1",
    "killed_stage": "rank 0 (pipeline stage 0, tensor parallel rank 0) on npu:0",
    "killed_replica": "rank 0 (pipeline stage 0, tensor parallel rank 0, data parallel rank 1) on npu:1",
}
_NAMES = {"killed": "VllmWorker-1", "killed_stage": "VllmWorker-0", "killed_replica": "VllmWorker-0"}


class Served(NamedTuple):
    """What the runs left, what was said, and the processes that did not end."""

    found: Mapping[str, Mapping[str, Any]]
    log: str
    left: list[str]


def _runs_of(request: pytest.FixtureRequest) -> list[str]:
    """Return the names of the runs that selected tests look at."""
    asked = [params["run"].name for params in asked_for(request) if isinstance(params.get("run"), Run)]
    asked += [str(params["death"]) for params in asked_for(request) if "death" in params]
    return list(dict.fromkeys(asked))


@pytest.fixture(scope="module")
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = tmp_path_factory.mktemp("cards")
    names = _runs_of(request)
    if importlib.util.find_spec("ray") is None:
        names = [name for name in names if not name.endswith("-ray")]
    four = any(len(run.layers) == 4 for run in RUNS if run.name in names)
    words = [name.replace("-", ":") for name in names]
    process = start(folder, _WORKER, str(folder), *words, devices=4 if four else 2, **HCCL)
    tree = ProcessTree(process.pid)
    try:
        finish((process, folder), meanwhile=tree.sample)
        left = [found.name for found in tree.survivors(patience=15) if "resource_tracker" not in found.name]
    finally:
        tree.end()
    return Served(read(folder), (folder / "log.txt").read_text(errors="replace"), left)


@pytest.mark.parametrize(
    "run", [pytest.param(run, marks=marks(reduced=run.reduced), id=run.name) for run in RUNS if run.how != "ray"]
)
def test_they_answer_as_one_device_does(
    served: Served, on_npu: Answers, run: Run, record_property: pytest.RecordProperty
) -> None:
    _see(served, on_npu, run, record_property)


@pytest.mark.grid
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed; it is no part of the tests")
@pytest.mark.parametrize("run", [pytest.param(run, id=run.name) for run in RUNS if run.how == "ray"])
def test_ranks_that_ray_starts_answer_as_one_device_does(
    served: Served, on_npu: Answers, run: Run, record_property: pytest.RecordProperty
) -> None:
    _see(served, on_npu, run, record_property)


def _see(served: Served, on_npu: Answers, run: Run, record_property: Any) -> None:
    found = served.found[run.name]
    assert "error" not in found, (found["error"], served.log[-6000:])
    agreement = compared(found, on_npu.npu[run.family], run.tolerance)
    record_property("agreement", f"{run.name}: {agreement}")
    assert agreement.ties == 0
    ranks = found["ranks"]
    expected = [f"npu:{number}" for number in range(len(run.layers))]
    for place in ("device", "group"):
        assert [rank[place] for rank in ranks] == expected
    assert [rank["weights"] for rank in ranks] == [[device] for device in expected]
    assert [rank["layers"] for rank in ranks] == run.layers
    assert len({rank["pid"] for rank in ranks}) == len(ranks)
    for rank in ranks:
        assert rank["backend"] == "hccl"
        assert rank["hccl"] == HCCL
        assert "platform" in rank["overlays"]
        # With nothing asked for but the devices: in captured graphs.
        assert rank["graphs"]["replayed"] > 0


@pytest.mark.parametrize(
    "death", [pytest.param(name, marks=marks(reduced=reduced)) for name, reduced in _DEATHS.items()]
)
def test_a_rank_that_dies_ends_the_engine_and_is_named(served: Served, death: str) -> None:
    found = served.found[death]
    how = death.rpartition("-")[2]
    pid = found["ranks"][KILLED[how]]["pid"]
    assert found["error"].startswith("EngineDeadError: "), found
    # Before the engine core says that it ends; whether with this error or another depends on who notices first.
    before, _, after = served.log.partition(f"worker died: {_NAMES[how]} (pid {pid}), {_WORDS[how]}, killed by SIGKILL")
    assert "EngineCore encountered a fatal error" in after, before[-3000:]
    assert f"in lines with pid={pid}." in after
    assert f"pid={pid})" in before


@pytest.mark.parametrize("run", [pytest.param(run, marks=marks(reduced=run.reduced)) for run in RUNS[:1]])
def test_no_process_is_left(served: Served, run: Run) -> None:
    assert run.name in served.found
    assert served.left == []


@pytest.mark.grid
def test_replicas_are_served_by_several_servers(on_npu: Answers, tmp_path: Path) -> None:
    port = serving.free_port()
    model = str(on_npu.folder / "models" / "llama3")
    arguments = ["-m", "vllm.entrypoints.cli.main", "serve", model, "--served-model-name", "tiny", "--port", str(port)]
    arguments += ["--host", "127.0.0.1", "--max-model-len", "256", "--max-num-seqs", "8", "--data-parallel-size", "2"]
    arguments += ["--api-server-count", "2", "--kv-cache-memory-bytes", str(64 << 20), "--max-num-batched-tokens", "96"]
    command, variables = with_an_npu(*arguments, devices=2)
    server = serving.started(command, environment(tmp_path) | variables, tmp_path)
    tree = ProcessTree(server.pid)
    try:
        serving.wait_until_up(server, port, tmp_path / "log.txt")
        tree.sample()
        with ThreadPoolExecutor(8) as several:
            prompts = [*npu_features.PROMPTS, *npu_features.PROMPTS]
            answers = list(several.map(lambda prompt: serving.completion(port, prompt, 12), prompts))
        server.terminate()
        server.wait(timeout=60)
        assert tree.survivors(patience=15) == []
    finally:
        tree.end()
        server.kill()
        server.wait()
    said = (tmp_path / "log.txt").read_text(errors="replace")
    wanted = on_npu.cpu["features"]["greedy"]["plain"]["tokens"]
    assert answers == [*wanted, *wanted]
    for name in ("EngineCore_DP0", "EngineCore_DP1", "ApiServer_0", "ApiServer_1"):
        assert name in said
