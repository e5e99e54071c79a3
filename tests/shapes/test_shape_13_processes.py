"""Shape 13: a patch for EngineCore only, one for workers only, and one where vllm-ascend is absent.

Here the processes are named as vLLM names its own; in test_shapes_in_an_engine.py vLLM itself starts them.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from shape_kit import late

from ascend_overlay import Overlay
from ascend_overlay.conditions import distribution, role
from ascend_overlay.errors import RuledOutError
from ascend_overlay.hooks import hookimpl

CORE = "vllm.v1.engine.core:EngineCore.step"
WORKER = "vllm.v1.worker.worker_base:WorkerBase.get_model"
ANYWHERE = "vllm.sequence:IntermediateTensors.items"

overlay = Overlay("shape_13", reason="each process has its own part", vllm=">=0.32", default=False)
alone = Overlay(
    "shape_13_alone",
    reason="vllm-ascend brings its own",
    vllm=">=0.32",
    when=~distribution("vllm-ascend"),
    default=False,
)


def passing(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return wrapped(*args, **kwargs)


overlay.wrap(CORE, when=role("engine_core"))(passing)
overlay.wrap(WORKER, when=role("worker"))(passing)


@alone.wrap(ANYWHERE)
def sorted_items(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return sorted(wrapped(*args, **kwargs))


@hookimpl
def ascend_overlay_overlays() -> Iterable[Overlay]:
    return [overlay, alone]


def names() -> list[str]:
    from vllm.sequence import IntermediateTensors

    return [name for name, _ in IntermediateTensors({"b": 1, "a": 2}).items()]  # type: ignore[dict-item]


def stock() -> None:
    assert names() == ["b", "a"]


def effect() -> None:
    assert names() == ["a", "b"]


@pytest.mark.vllm
@pytest.mark.usefixtures("vllm_loaded")
def test_where_vllm_ascend_is_absent_and_present(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import vllm.sequence  # noqa: F401

    stock()
    with late(__name__, "shape_13_alone"):
        effect()
    metadata = tmp_path / "vllm_ascend-0.23.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: vllm-ascend\nVersion: 0.23.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    ruled_out = pytest.raises(RuledOutError, match="the distribution vllm-ascend is installed")
    with ruled_out, late(__name__, "shape_13_alone"):
        pytest.fail("an overlay that is asked for by name and stays off is an error")
    stock()


PROCESSES = {"MainProcess": "main", "EngineCore": "engine_core", "VllmWorker-0": "worker"}

LIGHT_VLLM = {
    "__init__.py": "",
    "version.py": "__version__ = '0.32.0'",
    "v1/__init__.py": "",
    "v1/engine/__init__.py": "",
    "v1/engine/core.py": "class EngineCore:\n    def step(self): ...",
    "v1/worker/__init__.py": "",
    "v1/worker/worker_base.py": "class WorkerBase:\n    def get_model(self): ...",
}


def report(queue: Any) -> None:
    """Import both targets, as a process of vLLM may, and tell which patches are in force."""
    import vllm.v1.engine.core
    import vllm.v1.worker.worker_base  # noqa: F401

    import ascend_overlay

    states = {entry.target: entry.state for entry in ascend_overlay.ledger().of("shape_13")}
    queue.put((multiprocessing.current_process().name, states))


def main() -> None:
    import ascend_overlay

    # The machinery would miss the modules that this vLLM does not have.
    machinery = ["roles", "caches", "registry", "layer_registry", "vllm_cpu"]
    ascend_overlay.enable(load=["test_shape_13_processes"], only=["shape_13"], exclude=machinery)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    for name in PROCESSES:
        if name == "MainProcess":
            report(queue)
        else:
            process = context.Process(target=report, args=(queue,), name=name)
            process.start()
            process.join(60)
    print(json.dumps(dict(queue.get(timeout=10) for _ in PROCESSES)))


def test_each_process_has_its_own_patch(tmp_path: Path) -> None:
    for name, text in LIGHT_VLLM.items():
        path = tmp_path / "vllm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parent)])
    environment = {**os.environ, "PYTHONPATH": path}
    program = "import test_shape_13_processes as shape\nif __name__ == '__main__': shape.main()"
    output = subprocess.check_output([sys.executable, "-c", program], env=environment, text=True, timeout=180)
    states = json.loads(output.splitlines()[-1])
    expected = {
        "MainProcess": {CORE: "skipped", WORKER: "skipped"},
        "EngineCore": {CORE: "applied", WORKER: "skipped"},
        "VllmWorker-0": {CORE: "skipped", WORKER: "applied"},
    }
    assert states == expected
