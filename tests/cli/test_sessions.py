"""Processes in sessions of their own end with the block that started them, however it is left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ascend_overlay.commands.sessions import session

# A process that has a child of its own, and tells both.
_PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
print(os.getpid(), child.pid, flush=True)
time.sleep(100)
"""


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """A shell starts what runs in the background with interrupts ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _gone(pid: int, patience: float = 10.0) -> bool:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state not in "ZX":
                time.sleep(0.05)
                continue
        return True
    return False


def _returns() -> None:
    return


def _raises() -> None:
    raise ValueError


def _is_interrupted() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)


@pytest.mark.parametrize(
    ("leave", "error"), [(_returns, None), (_raises, ValueError), (_is_interrupted, KeyboardInterrupt)]
)
def test_all_of_it_ends(leave: Callable[[], None], error: type[BaseException] | None, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with (
        pytest.raises(error) if error else contextlib.nullcontext(),
        out.open("wb") as file,
        session([sys.executable, "-c", _PARENT], env=os.environ, output=file),
    ):
        deadline = time.monotonic() + 30
        while not out.read_bytes().endswith(b"\n") and time.monotonic() < deadline:
            time.sleep(0.02)
        leave()
    pids = [int(pid) for pid in out.read_text().split()]
    assert len(pids) == 2
    assert all(_gone(pid) for pid in pids)


def test_an_interrupt_while_it_is_started_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def popen(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        process = real(*arguments, **options)
        started.append(process.pid)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        return process

    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", popen)
    entered = False
    with (
        pytest.raises(KeyboardInterrupt),
        session([sys.executable, "-c", "import time; time.sleep(100)"], env=os.environ, output=subprocess.DEVNULL),
    ):
        entered = True
    (pid,) = started
    assert not entered
    assert _gone(pid)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupts_that_are_ignored_stay_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with session([sys.executable, "-c", ""], env=os.environ, output=subprocess.DEVNULL) as process:
        assert process.wait(60) == 0
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_another_thread_can_start_one() -> None:
    statuses = []

    def body() -> None:
        with session([sys.executable, "-c", "raise SystemExit(3)"], env=os.environ, output=2) as process:
            statuses.append(process.wait(60))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert statuses == [3]


def test_a_command_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError), session(["/no/such/command"], env=os.environ, output=2):
        raise AssertionError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
