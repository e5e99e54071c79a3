"""A process in a session of its own, which an interrupt of this process never leaves behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO


@contextlib.contextmanager
def session(
    command: Sequence[str], *, env: Mapping[str, str], output: int | IO[bytes], cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Start `command` as the leader of a session, and end all of that session when the block is left.

    An interrupt of the terminal is for this process alone: an import in the other one may swallow it, and go on.

    Args:
        command: what is run.
        env: its environment.
        output: where its output and its errors go: a file, or the number of a descriptor.
        cwd: the folder it is run in; by default the current one.
    """
    process: subprocess.Popen[bytes] | None = None
    try:
        # Interrupted after the fork and before its end, Popen raises, and nobody knows the process.
        with _interrupted_later():
            process = subprocess.Popen(
                command,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        yield process
    finally:
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def _interrupted_later() -> Iterator[None]:
    """Hold an interrupt back until the block is left."""
    handler = signal.getsignal(signal.SIGINT)
    # Python interrupts the main thread only, and nothing where the signal is ignored or left to the system.
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    held: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: held.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if held:
            handler(*held[-1])
