"""`ascend-overlay demo --npu software`: beside the two runs of the demo, which are shared, one on the software NPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from downloads import for_the_software_npu
from e2e_kit import Demo, again

from ascend_overlay.commands import json_output
from ascend_overlay.commands.demo import command, runs
from ascend_overlay.commands.demo.checks import OPERATORS
from ascend_overlay.commands.demo.watching import Run

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def figures(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What `demo --npu software --json` prints."""
    kept, documents = tmp_path_factory.mktemp("demo_npu") / "kept", list[Any]()
    execute = runs.execute

    def third(name: str, spec: Any, folder: Path, **more: Any) -> Run:
        return execute(name, spec, folder, **more) if name == "npu" else again(name, demo)

    with pytest.MonkeyPatch.context() as patched:
        found = for_the_software_npu()
        patched.syspath_prepend(found.folder)
        patched.setenv("PYTHONPATH", os.fspath(found.folder))
        patched.setattr(json_output, "reserve", lambda: documents.append)
        patched.setattr(runs, "execute", third)
        status = command.main(["--npu", "software", "--json", "--keep", str(kept)])
    (document,) = documents
    failed = [check for check in document["checks"] if not check["ok"]]
    log = (kept / "npu" / "log.txt").read_text(errors="replace")
    assert (status, failed) == (0, []), log[-6000:]
    yield document


def test_the_third_run_says_what_stock_vllm_says(figures: dict[str, Any]) -> None:
    assert [check["name"] for check in figures["checks"] if check["name"].startswith("npu")] == [
        "npu",
        *(f"npu {what}" for what in ("tokens", "logprobs", "processes", "patches", "operators")),
        *(f"npu {what}" for what in ("device", "platform", "graphs")),
    ]
    assert figures["npu"]["result"]["device"] == "npu"
    assert all(found["acceptable"] and found["tokens"] == 16 for found in figures["npu_differences"])


def test_the_operators_are_counted_where_they_ran_on_the_npu(figures: dict[str, Any]) -> None:
    counts = {name: sum(by_role.values()) for name, by_role in figures["npu_operators"].items()}
    assert [name for name in OPERATORS if not counts[name]] == []
    # What lies in captured graphs runs more often than it is called, and the ledgers count that, on the CPU.
    (engine,) = [ledger for ledger in figures["npu"]["ledgers"] if ledger["process"]["role"] == "engine_core"]
    assert 0 < counts["npu_rms_norm"] < engine["operators"]["npu_rms_norm"]


def test_the_engine_process_has_left_its_report(figures: dict[str, Any]) -> None:
    (report,) = figures["npu"]["npu_reports"]
    roles = {ledger["process"]["pid"]: ledger["process"]["role"] for ledger in figures["npu"]["ledgers"]}
    assert roles[report["process"]] == "engine_core"
    assert report["ended"] is True
    steps = report["model steps"]
    assert steps.keys() == {"prefill", "decode"}
    assert steps["decode"]["steps"] > steps["prefill"]["steps"] > 0
    # vLLM waits for what it has copied, and a graph with attention in it for its last replay.
    assert 0 < steps["decode"]["launches"]["least"] < 60 and 0 < steps["decode"]["host waits"]["most"] < 10
