"""Counting the calls of operators: what counts, when, and where the counts go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from npu_kit import torch

import ascend_overlay
from ascend_overlay import npu
from ascend_overlay.npu import tracing


@pytest.fixture
def traced(engine: Any) -> Iterator[None]:
    """Counting switched on, from zero."""
    npu.load("npu_swiglu", "npu_rms_norm")
    with ascend_overlay.enabled(trace=True):
        yield


def _swiglu(x: Any) -> Any:
    return torch.ops.npu.npu_swiglu(x)


def test_each_call_counts(traced: None) -> None:
    for _ in range(3):
        _swiglu(torch.ones(2, 8))
    assert tracing.counts()["npu_swiglu"] == 3
    assert tracing.counts()["npu_rms_norm"] == 0, "an operator that something calls is listed before it runs"


def test_a_compiled_graph_counts_when_it_runs_and_not_when_it_is_made(traced: None) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: _swiglu(_swiglu(x)), fullgraph=True, backend="aot_eager")
    compiled(torch.ones(2, 8))
    assert tracing.counts()["npu_swiglu"] == 2
    compiled(torch.ones(2, 8))
    assert tracing.counts()["npu_swiglu"] == 4


def test_off_no_call_passes_through_the_counting(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    npu.load("npu_swiglu")
    seen: list[str] = []
    monkeypatch.setattr(tracing, "_count", seen.append)
    _swiglu(torch.ones(2, 8))
    assert seen == []
    with ascend_overlay.enabled(trace=True):
        _swiglu(torch.ones(2, 8))
        assert seen == ["npu_swiglu"]
    _swiglu(torch.ones(2, 8))
    assert seen == ["npu_swiglu"]
    assert tracing.counts() == {}


def test_switched_on_twice_starts_from_zero(engine: Any) -> None:
    npu.load("npu_swiglu")
    for _ in range(2):
        with ascend_overlay.enabled(trace=True):
            _swiglu(torch.ones(2, 8))
            assert tracing.counts()["npu_swiglu"] == 1


def test_the_counts_are_in_the_ledger(traced: None, engine: Any) -> None:
    _swiglu(torch.ones(2, 8))
    assert ascend_overlay.ledger().operators["npu_swiglu"] == 1


def test_a_killed_process_leaves_its_counts(python: Any, tmp_path: Any) -> None:
    done = python.script(
        """
        import os, pathlib, signal, sys, time
        import ascend_overlay

        folder = sys.argv[1] if len(sys.argv) > 1 else os.environ["FOLDER"]
        ascend_overlay.enable(only=["roles"], trace=True, ledger=folder)
        from ascend_overlay import npu
        npu.load("npu_swiglu")
        import torch

        for _ in range(7):
            torch.ops.npu.npu_swiglu(torch.ones(2, 8))
        file = next(pathlib.Path(folder).glob("*.json"))
        for _ in range(600):
            if '"npu_swiglu": 7' in file.read_text():
                break
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        env={"FOLDER": str(tmp_path / "ledgers")},
        check=False,
        timeout=120,
    )
    assert done.returncode == -9, done.stderr
    (file,) = (tmp_path / "ledgers").glob("*.json")
    assert json.loads(file.read_text())["operators"] == {"npu_swiglu": 7}


def test_a_forked_child_counts_its_own(python: Any) -> None:
    done = python.script(
        """
        import os, sys
        import ascend_overlay
        ascend_overlay.enable(only=["roles"], trace=True)
        from ascend_overlay import npu
        from ascend_overlay.npu import tracing
        npu.load("npu_swiglu")
        import torch

        torch.set_num_threads(1)
        torch.ops.npu.npu_swiglu(torch.ones(2, 8))
        child = os.fork()
        if child == 0:
            torch.ops.npu.npu_swiglu(torch.ones(2, 8))
            torch.ops.npu.npu_swiglu(torch.ones(2, 8))
            os._exit(tracing.counts()["npu_swiglu"])
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), tracing.counts()["npu_swiglu"])
        """,
        timeout=120,
    )
    assert done.stdout.split() == ["2", "1"]
