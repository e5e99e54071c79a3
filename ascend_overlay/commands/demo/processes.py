"""A process and all that it starts: their memory while they run, and who is left afterwards. Linux only.

Elsewhere, where there is no /proc, nothing is seen: no memory, no children.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

_PROC = Path("/proc")


@dataclass
class Seen:
    """A process of the tree.

    Attributes:
        pid: its id.
        started: its start time in clock ticks since boot; tells it from a later process of the same id.
        name: the title it gave itself, or its command line.
        peak: the largest resident set it had so far (VmHWM), in bytes.
    """

    pid: int
    started: int
    name: str = ""
    peak: int = 0


@dataclass
class ProcessTree:
    """What was seen of the process `root` and its descendants.

    Attributes:
        root: id of the first process.
        seen: all processes seen so far, by id.
        peak: the largest sum of resident sets seen at one moment, in bytes. Pages that processes share count for each.
    """

    root: int
    seen: dict[int, Seen] = field(default_factory=dict)
    peak: int = 0

    def sample(self) -> None:
        """Look at the tree now."""
        total = 0
        for pid, started in _descendants(self.root).items():
            memory = _memory(pid)
            process = self.seen.get(pid)
            if process is None or process.started != started:
                process = self.seen[pid] = Seen(pid, started)
            process.name = _title(pid) or process.name
            process.peak = max(process.peak, memory.get("VmHWM", 0))
            total += memory.get("VmRSS", 0)
        self.peak = max(self.peak, total)

    def alive(self) -> list[Seen]:
        """Return those of the processes seen that still run."""
        return [process for process in self.seen.values() if _start_time(process.pid) == process.started]

    def survivors(self, *, patience: float) -> list[Seen]:
        """Return those that still run `patience` seconds from now, or earlier an empty list."""
        deadline = time.monotonic() + patience
        while (left := self.alive()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left

    def end(self) -> None:
        """End those that still run, first by SIGTERM and five seconds later by SIGKILL."""
        for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 1.0)):
            for process in self.alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number)
            if not self.survivors(patience=patience):
                return


def _descendants(root: int) -> dict[int, int]:
    """Return the ids of `root` and its descendants, each with its start time."""
    children: dict[int, list[tuple[int, int]]] = {}
    found: dict[int, int] = {}
    for entry in _PROC.glob("[0-9]*"):
        if (fields := _stat(int(entry.name))) is not None:
            pid, parent, started = int(entry.name), int(fields[1]), int(fields[19])
            children.setdefault(parent, []).append((pid, started))
            if pid == root:
                found[pid] = started
    waiting = [root]
    while waiting:
        for pid, started in children.get(waiting.pop(), ()):
            found[pid] = started
            waiting.append(pid)
    return found


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the third (state) on; None for a process that is gone or a zombie."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The second field, the name, may hold blanks and parentheses.
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else fields


def _start_time(pid: int) -> int | None:
    fields = _stat(pid)
    return None if fields is None else int(fields[19])


def _title(pid: int) -> str:
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return b" ".join(words).decode(errors="replace").strip()


def _memory(pid: int) -> dict[str, int]:
    try:
        lines = (_PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if line.startswith(("VmHWM:", "VmRSS:")))
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}
