"""Whichever way the overlays were switched on, every kind of process that vLLM starts has the same ones, once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from e2e_kit import COMMAND, environment
from scratch import Scratch
from ways_in_body import SPAWNED

from ascend_overlay.ledgers import Ledger, read_folder

pytestmark = pytest.mark.vllm

HERE = Path(__file__).parent
BODY = HERE / "ways_in_body.py"
WAYS = tuple(SPAWNED)


class Outcome(NamedTuple):
    """What the processes of one way in answered and recorded."""

    way: str
    answers: dict[str, str]
    ledgers: list[Ledger]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Outcome]]]:
    """All ways in, two at a time: most of it is importing, which keeps one core busy each."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield {way: pool.submit(_go, way, tmp_path_factory.mktemp(way)) for way in WAYS}


@pytest.fixture(params=WAYS)
def outcome(request: pytest.FixtureRequest, outcomes: dict[str, Future[Outcome]]) -> Outcome:
    """What came of one way in."""
    return outcomes[request.param].result()


def _go(way: str, folder: Path) -> Outcome:
    asked = {"ASCEND_OVERLAY_LEDGER": str(folder / "ledger"), "ASCEND_OVERLAY_LOAD": "ways_in_probe"}
    env = environment(folder, PYTHONPATH=str(HERE), **asked)
    python, before = sys.executable, []
    if way == "run":
        before = [*COMMAND, "run"]
    elif way in ("autoload", "torch_backend", "entry_point"):
        env["ASCEND_OVERLAY"] = "1"
    if way == "entry_point":
        # PyTorch would be a way in as well, and an earlier one.
        env["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"
    if way == "autoload":
        scratch = Scratch(folder)
        python = str(scratch.python)
        scratch.run(scratch.bin / "ascend-overlay", "autoload", "on")
    done = subprocess.run(
        [*before, python, str(BODY), way], env=env, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-8000:]
    return Outcome(way, json.loads(done.stdout.splitlines()[-1]), read_folder(folder / "ledger"))


def test_every_process_is_patched_exactly_once(outcome: Outcome) -> None:
    assert len(outcome.answers) == 5
    counts = {process: answer.split().count("probed") for process, answer in outcome.answers.items()}
    assert set(counts.values()) == {1}, outcome.answers


def test_every_process_left_one_ledger(outcome: Outcome) -> None:
    roles = Counter(ledger.process["role"] for ledger in outcome.ledgers)
    # The program itself and the `python -c` child are both "main".
    assert roles == {"main": 2, SPAWNED[outcome.way][1]: 1, "child": 1, "inspection": 1}
    pids = [ledger.process["pid"] for ledger in outcome.ledgers]
    assert len(set(pids)) == len(pids)


def test_children_carry_what_the_parent_carries(outcome: Outcome) -> None:
    patches = [
        Counter((entry.overlay, entry.kind, entry.target, entry.detail) for entry in found) for found in outcome.ledgers
    ]
    assert ("probe", "wrap", "vllm.version:_prev_minor_version") in {key[:3] for key in patches[0]}
    assert all(count == 1 for count in patches[0].values())
    for ledger, found in zip(outcome.ledgers, patches, strict=True):
        assert found == patches[0], ledger.process


def test_nothing_failed(outcome: Outcome) -> None:
    for ledger in outcome.ledgers:
        assert [entry for entry in ledger if entry.state == "failed"] == []
        (probe,) = ledger.of("probe")
        assert probe.state == "applied", ledger.process


@pytest.mark.parametrize("asked", [{}, {"ASCEND_OVERLAY": "0"}], ids=["unset", "0"])
def test_installed_but_not_asked_for_is_nothing(tmp_path: Path, asked: dict[str, str]) -> None:
    script = (
        "import sys; from vllm.plugins import load_general_plugins; load_general_plugins(); import vllm.version; "
        "print(vllm.version._prev_minor_version(), 'ascend_overlay.engine.engine' in sys.modules)"
    )
    env = environment(
        tmp_path,
        PYTHONPATH=str(HERE),
        ASCEND_OVERLAY_LEDGER=str(tmp_path / "ledger"),
        ASCEND_OVERLAY_LOAD="ways_in_probe",
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=env | asked,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "probed" not in done.stdout
    assert done.stdout.split()[-1] == "False"
    assert not os.path.exists(tmp_path / "ledger")
