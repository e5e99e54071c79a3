"""A run in processes of its own, watched from outside: its phases, its memory, its end, and who outlives it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ascend_overlay.commands.demo.processes import ProcessTree, Seen
from ascend_overlay.commands.sessions import session
from ascend_overlay.ledgers import Ledger

_POLL = 0.2

Progress = Callable[[str, str, float, bool], None]
"""Called as progress(name of the run, phase, seconds in it, whether the phase is over)."""


@dataclass
class Run:
    """What came of one run.

    Attributes:
        name: what it is called.
        folder: where it wrote.
        status: exit status of its main process; None if it was ended because it took too long.
        seconds: wall time from start to exit.
        phases: seconds of each phase that came to its end, by name.
        phase: the phase it was in when it ended early, else "".
        result: what its script reported; empty if it did not get there.
        peak: largest sum of the resident sets of all its processes, in bytes; 0 where that is not known.
        processes: the processes that were seen.
        survivors: those that outlived the main process by more than a moment, and were ended.
        ledgers: the ledgers that its processes wrote.
        reports: what its processes had called on a software NPU, where that was asked for.
    """

    name: str
    folder: Path
    status: int | None = None
    seconds: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)
    phase: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    peak: int = 0
    processes: list[Seen] = field(default_factory=list)
    survivors: list[Seen] = field(default_factory=list)
    ledgers: list[Ledger] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)

    @property
    def log(self) -> Path:
        """The file that holds all its output."""
        return self.folder / "log.txt"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "status": self.status,
            "seconds": self.seconds,
            "phases": self.phases,
            "ended_in_phase": self.phase,
            "peak_memory_bytes": self.peak,
            "processes": [{"pid": seen.pid, "name": seen.name, "peak_bytes": seen.peak} for seen in self.processes],
            "survivors": [seen.pid for seen in self.survivors],
            "result": self.result,
            "ledgers": [ledger.to_dict() for ledger in self.ledgers],
            "log": str(self.log),
        } | ({"npu_reports": self.reports} if self.reports else {})


def follow(run: Run, command: Sequence[str], env: Mapping[str, str], *, timeout: float, progress: Progress) -> None:
    """Run `command` in the folder of `run`, which is there, and note in `run` what came of it.

    What it says goes to the log. It may leave phases in `phases.jsonl` and a result in `result.json`.

    Args:
        run: what is filled in.
        command: what is run.
        env: its environment.
        timeout: seconds after which it is ended.
        progress: told about each phase.
    """
    started = time.monotonic()
    with run.log.open("wb") as log, session(command, env=env, output=log, cwd=run.folder) as child:
        tree = ProcessTree(child.pid)
        try:
            run.status = _watch(child, tree, run, started + timeout, progress)
        finally:
            run.seconds = time.monotonic() - started
            # The tree first: a child that lost its parent is found by what was seen before.
            run.survivors = [] if run.status is None else tree.survivors(patience=5.0)
            tree.end()
    run.peak, run.processes = tree.peak, list(tree.seen.values())
    if (run.folder / "result.json").exists():
        run.result = json.loads((run.folder / "result.json").read_text(encoding="utf-8"))


def _watch(
    child: subprocess.Popen[bytes], tree: ProcessTree, run: Run, deadline: float, progress: Progress
) -> int | None:
    """Wait for the end of `child`; return its exit status, or None after the deadline."""
    phases = _Phases(run, progress)
    while (status := child.poll()) is None:
        tree.sample()
        phases.read()
        if time.monotonic() > deadline:
            return None
        time.sleep(_POLL)
    phases.read()
    return status


class _Phases:
    """Follows the file in which the worker script notes its phases."""

    def __init__(self, run: Run, progress: Progress) -> None:
        self._run = run
        self._progress = progress
        self._path = run.folder / "phases.jsonl"
        self._position = 0
        self._since = time.monotonic()
        self._begin("start Python")

    def read(self) -> None:
        for event in self._events():
            if event["event"] == "begin":
                self._begin(event["phase"])
            else:
                self._run.phases[event["phase"]] = event["seconds"]
                self._run.phase = ""
                self._progress(self._run.name, event["phase"], event["seconds"], True)
        if self._run.phase:
            self._progress(self._run.name, self._run.phase, time.monotonic() - self._since, False)

    def _begin(self, phase: str) -> None:
        self._run.phase, self._since = phase, time.monotonic()

    def _events(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._position)
            lines = file.read()
        whole = lines[: lines.rfind(b"\n") + 1]
        self._position += len(whole)
        return [json.loads(line) for line in whole.splitlines()]
