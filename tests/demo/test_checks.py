"""Each thing that can be wrong after the two runs turns one check red, with a sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from demo_kit import all_ledgers, finished, ledger, output

from ascend_overlay.commands.demo import checks
from ascend_overlay.commands.demo.checks import Check, all_checks, operator_counts
from ascend_overlay.commands.demo.compare import compare
from ascend_overlay.commands.demo.processes import Seen
from ascend_overlay.ledgers import Entry


def judged(folder: Path, *, stock: dict[str, Any] | None = None, overlaid: dict[str, Any] | None = None) -> list[Check]:
    """Judge two good runs with some attributes changed; return the checks that fail."""
    one = finished("stock", folder, **(stock or {}))
    other = finished("overlaid", folder, **({"ledgers": all_ledgers(npu_rms_norm=7)} | (overlaid or {})))
    results = one.result and other.result
    differences = compare(one.result["outputs"], other.result["outputs"]) if results else []
    return [check for check in all_checks(one, other, differences) if not check.ok]


def only(failed: list[Check], name: str) -> str:
    """Return the text of the one check that fails."""
    assert [check.name for check in failed] == [name]
    return failed[0].text


def test_two_good_runs_pass(tmp_path: Path) -> None:
    assert judged(tmp_path) == []


def test_a_run_that_died_is_named_with_its_phase_and_log(tmp_path: Path) -> None:
    failed = judged(tmp_path, stock={"status": -9, "result": {}, "phase": "start the engine"})
    text = only(failed, "stock")
    for part in ("killed by signal 9", "while it was to start the engine", str(tmp_path / "log.txt")):
        assert part in text


def test_a_known_cause_comes_with_its_cure(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("RuntimeError: operator torchvision::nms does not exist\n")
    failed = judged(tmp_path, stock={"status": 1, "result": {}})
    assert "pip uninstall torchvision torchaudio torchcodec triton" in only(failed, "stock")


def test_the_error_that_it_began_with_is_said(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("Traceback (most recent call last):\nValueError: no weights.\n")
    failed = judged(tmp_path, stock={"status": 1, "result": {}})
    assert f"status 1. ValueError: no weights. Its log is {tmp_path / 'log.txt'}" in only(failed, "stock")


def test_a_run_that_took_too_long(tmp_path: Path) -> None:
    assert "--timeout" in only(judged(tmp_path, stock={"status": None, "result": {}}), "stock")


def test_a_status_of_zero_without_a_result_is_a_failure(tmp_path: Path) -> None:
    only(judged(tmp_path, stock={"result": {}}), "stock")


def test_processes_left_behind(tmp_path: Path) -> None:
    failed = judged(tmp_path, overlaid={"survivors": [Seen(4711, 1, "VLLM::Worker")]})
    assert "VLLM::Worker (pid 4711)" in only(failed, "overlaid")


def test_a_stock_run_with_overlays_is_none(tmp_path: Path) -> None:
    result = {"overlaid": True, "outputs": [output([5, 6])]}
    assert "enable()" in only(judged(tmp_path, stock={"result": result}), "untouched")


def test_other_tokens(tmp_path: Path) -> None:
    other = {"overlaid": True, "outputs": [output([5, 8])]}
    failed = judged(tmp_path, overlaid={"result": other})
    assert [check.name for check in failed] == ["tokens", "logprobs"]
    assert "1 of 2 greedy tokens agree" in failed[0].text


def test_other_log_probabilities(tmp_path: Path) -> None:
    shifted = [{"5": -0.9, "999": -3.0}, {"6": -0.1, "999": -3.0}]
    failed = judged(tmp_path, overlaid={"result": {"overlaid": True, "outputs": [output([5, 6], shifted)]}})
    assert "0.8000 nats" in only(failed, "logprobs")


@pytest.mark.parametrize("role", ["main", "inspection", "engine_core", "worker"])
def test_a_process_without_a_ledger_is_named(tmp_path: Path, role: str) -> None:
    # The operators are counted where a ledger is left, so that only the missing one is the trouble.
    roles = [name for name in ("main", "inspection", "engine_core", "worker") if name != role]
    failed = judged(tmp_path, overlaid={"ledgers": [ledger(name, npu_swiglu=1) for name in roles]})
    assert role in only(failed, "processes")


def test_no_ledger_at_all(tmp_path: Path) -> None:
    names = [check.name for check in judged(tmp_path, overlaid={"ledgers": []})]
    assert names == ["processes", "patches", "operators"]


def test_a_worker_inside_the_engine_core_is_a_worker(tmp_path: Path) -> None:
    both = ledger("engine_core", npu_swiglu=1)
    both.process["roles"] = ["engine_core", "worker"]
    assert judged(tmp_path, overlaid={"ledgers": [ledger("main"), ledger("inspection"), both]}) == []


def test_a_failed_patch_is_named_with_its_reason(tmp_path: Path) -> None:
    ledgers = [*all_ledgers(npu_swiglu=1)[:3], ledger("worker", states=("applied", "failed"))]
    text = only(judged(tmp_path, overlaid={"ledgers": [*ledgers, ledger("child", npu_swiglu=1)]}), "patches")
    for part in ("worker", "vllm.a:1", "because"):
        assert part in text


def test_a_process_in_which_nothing_was_applied(tmp_path: Path) -> None:
    ledgers = [*all_ledgers()[:3], ledger("worker", states=("pending",), npu_swiglu=1)]
    assert "worker 0" in only(judged(tmp_path, overlaid={"ledgers": ledgers}), "patches")


def test_an_operator_that_never_ran(tmp_path: Path) -> None:
    failed = judged(tmp_path, overlaid={"ledgers": all_ledgers(npu_swiglu=3, npu_rms_norm=0)})
    assert "npu_rms_norm did not run" in only(failed, "operators")


def test_an_operator_that_other_models_need(tmp_path: Path) -> None:
    assert judged(tmp_path, overlaid={"ledgers": all_ledgers(npu_swiglu=3, npu_geglu=0)}) == []
    failed = judged(tmp_path, overlaid={"ledgers": all_ledgers(npu_geglu=0)})
    assert "none of the NPU operators ran" in only(failed, "operators")


def test_no_operator_counted(tmp_path: Path) -> None:
    only(judged(tmp_path, overlaid={"ledgers": all_ledgers()}), "operators")


def _skipped(overlay: str, cause: str) -> Entry:
    return Entry(overlay, "plugin", "dist", "1.0", "vllm.a:b", "wrap", state="skipped", cause=cause, reason="because")


@pytest.mark.parametrize(
    ("entries", "passes"),
    [
        ([_skipped("norms", "release"), _skipped("gates", "release")], True),
        ([_skipped("norms", "release"), _skipped("gates", "condition")], False),
        ([_skipped("norms", "release")], False),
        ([], False),
    ],
)
def test_operators_of_overlays_for_other_releases_are_not_missed(
    entries: list[Entry], passes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_calling", lambda: {"norms", "gates"})
    ledgers = [replace(each, entries=(*each.entries, *entries)) for each in all_ledgers()]
    failed = judged(tmp_path, overlaid={"ledgers": ledgers})
    if passes:
        assert failed == []
    else:
        only(failed, "operators")


def test_the_overlays_that_call_operators_are_known() -> None:
    found = checks._calling()
    assert {"layernorm", "moe", "attention"} <= found and not {"registry", "roles", "compat"} & found


def test_operators_are_counted_by_role() -> None:
    counts = operator_counts([ledger("main", a=1), ledger("worker", a=2, b=0), ledger("worker", a=3)])
    assert counts == {"a": {"main": 1, "worker": 5}, "b": {"worker": 0}}
