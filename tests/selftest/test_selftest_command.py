"""`ascend-overlay selftest`: steps that fail, hang and are interrupted, by stand-ins for what they run."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ascend_overlay.commands import software_npu, troubles
from ascend_overlay.commands.demo import checks
from ascend_overlay.commands.demo.checks import Check
from ascend_overlay.commands.demo.watching import Progress, Run, follow
from ascend_overlay.commands.selftest import command, steps
from ascend_overlay.commands.selftest.steps import Step

GOOD = "import json; json.dump({'x': 1}, open('result.json', 'w'))"
HANGS = "import time; print('begun', flush=True); time.sleep(100)"
DIES = "raise SystemExit('what was wrong')"


def step(folder: Path, name: str, code: str, *judged: Check) -> Step:
    """Return a step that runs Python code."""

    def run(timeout: float, progress: Progress) -> Run:
        found = Run(name, folder / name)
        found.folder.mkdir(parents=True)
        follow(found, [sys.executable, "-c", code], {}, timeout=timeout, progress=progress)
        return found

    return Step(name, 1, run, lambda run: [checks.ended(run), *judged], lambda run: run.result)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command with these steps; return its status and its file."""
    monkeypatch.setattr(troubles, "missing", lambda *, npu=None: None)
    monkeypatch.setattr(software_npu, "see", lambda npu: None)
    monkeypatch.setattr(command.tempfile, "mkdtemp", lambda **_: str(tmp_path / "scratch"))  # type: ignore[attr-defined]

    def run(every: Sequence[Step], *arguments: str) -> tuple[int, dict[str, Any]]:
        monkeypatch.setattr(steps, "all_steps", lambda *_, **__: every)
        status = command.main(["--out", str(tmp_path / "out.json"), *arguments])
        return status, json.loads((tmp_path / "out.json").read_text())

    return run


def test_all_is_well(stage: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    every = [step(tmp_path, "one", GOOD, Check("what", True, "it holds.")), step(tmp_path, "two", GOOD)]
    status, found = stage(every, "--npu", "software")
    assert (status, found["ok"], found["complete"], found["npu"]) == (0, True, True, "software")
    assert [(done["step"], done["ok"], done["found"]) for done in found["steps"]] == [
        ("one", True, {"x": 1}),
        ("two", True, {"x": 1}),
    ]
    printed = capsys.readouterr().out
    assert "what: it holds." in printed and "All 2 steps went well." in printed and "out.json" in printed


def test_what_fails_or_hangs_does_not_stop_the_others(
    stage: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every = [
        step(tmp_path, "hangs", HANGS),
        step(tmp_path, "dies", DIES),
        step(tmp_path, "wrong", GOOD, Check("what", False, "it does not hold.")),
        step(tmp_path, "torn", "open('result.json', 'w').write('{')"),
        step(tmp_path, "good", GOOD),
    ]
    status, found = stage(every, "--timeout", "20")
    assert status == 1
    assert (found["ok"], found["complete"]) == (False, True)
    hangs, dies, wrong, torn, good = found["steps"]
    assert hangs["status"] is None and hangs["log"] == ["begun"] and hangs["seconds"] < 10
    assert dies["status"] == 1 and dies["log"] == ["what was wrong"]
    assert [check["ok"] for check in wrong["checks"]] == [True, False]
    assert "the self-test itself failed" in torn["checks"][0]["text"]
    assert good["ok"] and "log" not in good
    captured = capsys.readouterr()
    assert "4 of 5 steps failed." in captured.out and "it does not hold." in captured.out
    assert "are left in" in captured.err


@pytest.mark.parametrize("npu", ["software", "card"])
def test_times_of_a_software_npu_are_called_meaningless(
    npu: str, stage: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = {"item": {"launched": 1.5, "done": 2.5}, "add": {"error": "RuntimeError: no"}}
    code = f"import json; json.dump({{'measured': {measured}}}, open('result.json', 'w'))"
    stage([step(tmp_path, "launches", code)], "--npu", npu)
    printed = capsys.readouterr().out
    assert ("on a software NPU: these times say nothing of a card" in printed) is (npu == "software")
    assert [
        cell.strip() for cell in next(line for line in printed.splitlines() if "item" in line).split("│")[1:-1]
    ] == [
        "item",
        "1.5",
        "2.5",
    ]


def test_an_interrupt_leaves_what_was_found(stage: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(timeout: float, progress: Progress) -> Run:
        raise KeyboardInterrupt

    every = [step(tmp_path, "one", GOOD), Step("two", 1, interrupted, lambda run: [], lambda run: {})]
    status, found = stage(every)
    assert status == 130
    assert ([done["step"] for done in found["steps"]], found["ok"], found["complete"]) == (["one"], False, False)
    assert "Interrupted" in capsys.readouterr().err


def test_only_variables_with_a_name_here_are_told(stage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh")
    monkeypatch.setenv("SOMETHING", "of-nobodys-business")
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "1")
    code = "raise SystemExit('hf_abcdefgh /home/somebody/x http://me:my-password@host/')"
    _, found = stage([step(tmp_path, "dies", code)])
    assert found["variables"]["ASCEND_RT_VISIBLE_DEVICES"] == "1"
    assert found["steps"][0]["log"] == ["*** ~/x http://***@host/"]
    for secret in ("hf_abcdefgh", "of-nobodys-business", "/home/somebody", "my-password"):
        assert secret not in json.dumps(found)


def test_a_step_gets_its_share_of_what_is_left(stage: Any, tmp_path: Path) -> None:
    given: list[float] = []

    def noted(name: str, share: int) -> Step:
        inner = step(tmp_path, name, GOOD)

        def run(timeout: float, progress: Progress) -> Run:
            given.append(timeout)
            return inner.run(60, progress)

        return Step(name, share, run, inner.judge, inner.findings)

    stage([noted("one", 1), noted("two", 3), noted("three", 1)], "--timeout", "1000")
    assert given[0] == pytest.approx(200, abs=1)
    # What one does not need is the others'.
    assert given[1] == pytest.approx(750, rel=0.05) and given[2] == pytest.approx(1000, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--npu", "hard"], "'card', 'software'"),
        (["--timeout", "0"], "--timeout"),
        (["--out", "/proc/no"], "pass --out another file"),
        (["more"], "unexpected extra argument"),
    ],
)
def test_arguments_that_cannot_be_used(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(troubles, "missing", lambda *, npu=None: None)
    assert command.main(arguments) == 2
    assert says in capsys.readouterr().err


def test_without_vllm_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    assert command.main([]) == 2
    assert "vLLM is not installed" in capsys.readouterr().err
