"""All shapes at once, with the overlays enabled before vLLM is imported: each patch applies when its target is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from shape_kit import MODULES, OVERLAYS

pytestmark = pytest.mark.vllm


def main(folder: Path) -> None:
    """Enable everything, look at everything, disable everything, and print what was found as JSON."""
    import ascend_overlay

    ascend_overlay.enable(load=MODULES, only=OVERLAYS, propagate=False)
    report: dict[str, Any] = {"loaded by enabling": [name for name in ("vllm", "torch") if name in sys.modules]}
    from shape_kit import leftovers, one_rank
    from vllm import LLM  # noqa: F401

    with one_rank(folder):
        report["effect"] = {name: outcome(name, "effect") for name in MODULES}
        report["ledger"] = [
            [entry.overlay, entry.target, entry.state] for entry in ascend_overlay.ledger() if not entry.machinery
        ]
        ascend_overlay.disable()
        report["leftovers"] = leftovers(*MODULES)
        report["stock"] = {name: outcome(name, "stock") for name in MODULES}
    print(json.dumps(report))


def outcome(module: str, function: str) -> str:
    """Run a function of a shape's module; return "" or how it failed."""
    try:
        getattr(sys.modules[module], function)()
    except BaseException:
        return traceback.format_exc()
    return ""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("first")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    program = f"import pathlib, test_shapes_before_vllm as tests; tests.main(pathlib.Path({str(folder)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, text=True, capture_output=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_enabling_imports_neither_vllm_nor_torch(report: Any) -> None:
    assert report["loaded by enabling"] == []


@pytest.mark.parametrize("module", MODULES)
def test_effect_and_undo(report: Any, module: str) -> None:
    assert report["effect"][module] == ""
    assert report["stock"][module] == ""


def test_ledger_and_leftovers(report: Any) -> None:
    states = {(overlay, target): state for overlay, target, state in report["ledger"]}
    elsewhere = {
        ("shape_12", "vllm.v1.metrics.loggers:build_1_2_5_buckets"),
        ("shape_13", "vllm.v1.engine.core:EngineCore.step"),
        ("shape_13", "vllm.v1.worker.worker_base:WorkerBase.get_model"),
    }
    assert {key for key, state in states.items() if state == "skipped"} == elsewhere
    assert {key: state for key, state in states.items() if state not in ("applied", "skipped")} == {}
    assert {overlay for overlay, _ in states} == set(OVERLAYS)
    assert report["leftovers"] == []
