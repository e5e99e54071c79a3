"""A process that does something for each line that it is sent, and answers it by a line."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

MARK = "benchmark "
"""What an answer begins with; other lines of output are left alone."""


class Conversation:
    """The process, in a process group of its own; its errors go to the file `log`."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        self._errors = log.open("w")
        self._process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )

    def tell(self, line: str) -> None:
        """Send a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        """Wait for the next answer and return it.

        Raises:
            RuntimeError: the process ended without one.
        """
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(MARK):
                return line.removeprefix(MARK).strip()
        self._errors.flush()
        raise RuntimeError(f"the process ended early:\n{self._log.read_text()[-4000:]}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and all that it started."""
        os.killpg(self._process.pid, number)

    def end(self) -> None:
        """Close its input, and end whatever of its group is left a minute later."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(60)
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        self._process.wait()
        self._errors.close()


def say(answer: object) -> None:
    """Give an answer; called by the process."""
    # What was printed before may not have ended its line.
    print(f"\n{MARK}{answer}", flush=True)
