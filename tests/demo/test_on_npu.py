"""The third run of the demo, on an NPU: how it is started, and each thing that can be wrong about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from demo_kit import finished, ledger, on_npu, output, report

from ascend_overlay.commands.demo import compare, runs
from ascend_overlay.commands.demo.checks import Check
from ascend_overlay.commands.demo.on_npu import checks, operator_calls
from ascend_overlay.commands.demo.watching import Run
from ascend_overlay.ledgers import Ledger


def failing(run: Run, folder: Path) -> list[Check]:
    """Return the checks that fail of a run on an NPU beside a good stock run."""
    stock = finished("stock", folder)
    return [check for check in checks(stock, run, compare.of_runs(stock, run)) if not check.ok]


def test_a_good_run_passes_every_check(tmp_path: Path) -> None:
    stock, run = finished("stock", tmp_path), on_npu(tmp_path)
    found = checks(stock, run, compare.of_runs(stock, run))
    assert [check.name for check in found if not check.ok] == []
    whats = ("tokens", "logprobs", "processes", "patches", "operators", "device", "platform", "graphs")
    assert [check.name for check in found] == ["npu", *(f"npu {what}" for what in whats)]


def _with_notes(*texts: str) -> list[Ledger]:
    worker = Ledger(ledger("worker").process, ledger("worker").entries, tuple(("platform", text) for text in texts))
    return [ledger("main"), ledger("inspection"), ledger("engine_core"), worker]


REFUSED = "vLLM is not given the NPU's platform: CANN is not found"
REPORTS = [report("worker", npu_rms_norm=7)]


@pytest.mark.parametrize(
    ("changes", "name", "says"),
    [
        ({"status": -9, "result": {}}, "npu", "killed by signal 9"),
        ({"result": {"device": "cpu"}}, "npu device", "on the device 'cpu'"),
        ({"result": {"device": "cpu"}, "ledgers": _with_notes(REFUSED)}, "npu device", REFUSED),
        ({"result": {"platform": "vllm_ascend.platform.NPUPlatform"}}, "npu platform", "vllm_ascend.platform"),
        ({"result": {"platform": "vllm.platforms.cpu.CpuPlatform"}}, "npu platform", "CpuPlatform"),
        ({"result": {"outputs": [output([5, 8])]}}, "npu tokens", "1 of 2 greedy tokens agree"),
        ({"ledgers": _with_notes()}, "npu graphs", "no graph was captured"),
        (
            {"ledgers": _with_notes("9 graphs were captured, none of which was ever replayed; 0 calls of attention")},
            "npu graphs",
            "9 graphs were captured, and replayed 0 times",
        ),
        ({"reports": [report("worker", npu_rms_norm=0)]}, "npu operators", "npu_rms_norm did not run"),
        # What the ledgers count ran, but nobody saw it on the NPU.
        ({"reports": [report("worker", _npu_helper=5)]}, "npu operators", "npu_rms_norm did not run"),
    ],
)
def test_what_is_wrong_turns_its_check_red(tmp_path: Path, changes: dict[str, Any], name: str, says: str) -> None:
    run = on_npu(tmp_path)
    for attribute, value in changes.items():
        merged = run.result | value if attribute == "result" and value else value
        setattr(run, attribute, merged)
    failed = {check.name: check.text for check in failing(run, tmp_path)}
    assert says in failed[name]


def test_the_calls_are_those_on_the_npu(tmp_path: Path) -> None:
    run = on_npu(tmp_path)
    # The ledgers count each run of a kernel, of the CPU as well.
    assert run.ledgers[-1].operators == {"npu_rms_norm": 20, "npu_geglu": 0}
    run.reports = [report("worker", **{"npu_rms_norm": 4, "npu_rms_norm.out": 3, "_npu_helper": 9})]
    assert operator_calls(run) == {"npu_rms_norm": {"worker": 7}, "npu_geglu": {"worker": 0}}
    run.reports = []
    assert operator_calls(run)["npu_rms_norm"] == {"worker": 20}


@pytest.mark.parametrize(
    ("name", "npu", "there", "absent"),
    [
        ("stock", None, [], ["run"]),
        ("overlaid", None, ["run", "--trace", "--ledger"], ["--exclude", "--npu"]),
        ("stock", "card", [], ["run"]),
        ("overlaid", "card", ["run", "--trace", "--exclude"], ["--npu"]),
        ("npu", "card", ["run", "--trace"], ["--exclude", "--npu"]),
        ("stock", "software", ["run", "--no-overlays", "--npu"], ["--trace", "--npu-report"]),
        ("overlaid", "software", ["run", "--trace", "--exclude", "--npu"], ["--npu-report", "--no-overlays"]),
        ("npu", "software", ["run", "--trace", "--npu", "--npu-report"], ["--exclude", "--no-overlays"]),
    ],
)
def test_how_a_run_is_started(name: str, npu: runs.Npu | None, there: list[str], absent: list[str]) -> None:
    words = runs.command(name, Path("folder"), "worker.py", npu=npu)
    assert words[-1] == "worker.py"
    assert [word for word in there if word not in words] == [word for word in absent if word in words] == []


@pytest.mark.parametrize(
    ("name", "npu", "target"),
    [("stock", None, None), ("stock", "card", "cpu"), ("overlaid", "software", "cpu"), ("npu", "card", None)],
)
def test_which_device_vllm_is_to_look_for(
    name: str, npu: runs.Npu | None, target: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, str] = {}
    monkeypatch.setattr(runs, "follow", lambda run, command, env, **_: seen.update(env))
    monkeypatch.delenv("VLLM_TARGET_DEVICE", raising=False)
    if name == "npu":
        monkeypatch.setenv("VLLM_TARGET_DEVICE", "cpu")
    runs.execute(name, {"compiled": False}, tmp_path, timeout=1, progress=lambda *_: None, npu=npu)
    assert seen.get("VLLM_TARGET_DEVICE") == target
