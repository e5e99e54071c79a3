"""What was called in a process: with ``--npu-report DIR`` each process leaves a file in the folder."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from multiprocessing import util
from pathlib import Path
from typing import Any

from ascend_overlay import redaction
from ascend_overlay.npu.software.launches import launches
from ascend_overlay.npu.software.native_calls import Native
from ascend_overlay.npu.software.sites import Sites
from ascend_overlay.npu.software.steps import Steps

_COPY = "copy to the "
_INTERVAL = 1.0
"""Seconds from one look to the next. A process that is killed leaves what it had called at the last."""


class Report:
    """The file of this process: written while it runs, whenever something was called since, and when it ends.

    Processes end in every way. `vllm serve` kills its engine at once when it is told to end; those of multiprocessing
    run no atexit handler, and one that is forked forgets the finalizers of its parent.
    """

    def __init__(self, native: Native, folder: str) -> None:
        self.native, self.folder = native, folder
        self._process = os.getpid()
        self.steps = Steps(native)
        self._sites = Sites()
        native.listen(self._sites.note)
        # A child by fork has the counts of its parent, too.
        self._calls_before = {(name, detail): calls for name, detail, calls in native.counts()}
        self._waits_before = native.waits()
        self._graphs_before = native.graph_counts()
        self._written: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()
        self._end = threading.Event()
        self.write_at_exit()
        util.register_after_fork(self, Report.write_at_exit)
        threading.Thread(target=self._keep_writing, name="software NPU's report", daemon=True).start()

    def write_at_exit(self) -> None:
        """Have the last word written when this process ends by itself."""
        # A child by fork is called, too, and has a report of its own.
        if os.getpid() == self._process:
            # multiprocessing ends its processes without atexit, but runs this; so does the main process.
            util.Finalize(None, self._write_last, exitpriority=10)

    def write(self, *, ended: bool) -> None:
        """Write the file, if anything was called since it was last written; `ended`: nothing more will be."""
        with self._lock:
            calls = self._calls()
            if not any("::" in name for name, _ in calls) or (calls == self._written and not ended):
                return
            rows = [(name, detail, number) for (name, detail), number in calls.items()]
            waits = {what: times - self._waits_before[what] for what, times in self.native.waits().items()}
            graphs = {what: n - self._graphs_before[what] for what, n in self.native.graph_counts().items()}
            content = summary(rows, waits, self._sites.rows(), self.steps.summary(), graphs)
            Path(self.folder).mkdir(parents=True, exist_ok=True)
            scratch = Path(self.folder) / f".{self._process}.part"
            scratch.write_text(json.dumps({**content, "ended": ended}, indent=1), encoding="utf-8")
            scratch.replace(Path(self.folder) / f"{self._process}.json")
            self._written = calls

    def _calls(self) -> dict[tuple[str, str], int]:
        before = self._calls_before
        found = {(name, detail): calls - before.get((name, detail), 0) for name, detail, calls in self.native.counts()}
        return {key: calls for key, calls in found.items() if calls}

    def _keep_writing(self) -> None:
        try:
            while not self._end.wait(_INTERVAL):
                self.write(ended=False)
        except OSError as error:
            print(f"ascend-overlay: no report can be written to {self.folder}: {error.strerror}.", file=sys.stderr)

    def _write_last(self) -> None:
        self._end.set()
        self.native.listen(None)
        self.write(ended=True)


_report: Report | None = None


def start(native: Native, folder: str) -> None:
    """Count from now on, and keep the report of this process in `folder`; so do its children by fork."""
    global _report
    native.count()
    _report = Report(native, folder)
    os.register_at_fork(after_in_child=_anew)


def _anew() -> None:
    global _report
    if _report is not None:
        _report = Report(_report.native, _report.folder)


def step_begins(kind: str) -> None:
    """Note that a step of a model begins, where a report is to be written; elsewhere it does nothing.

    Args:
        kind: what is compared with its like, such as "decode".
    """
    if _report is not None:
        _report.steps.begins(kind)


def summary(
    counts: Iterable[tuple[str, str, int]],
    waits: Mapping[str, int],
    sites: Sequence[Mapping[str, Any]] = (),
    steps: Mapping[str, Any] | None = None,
    graphs: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Return the report: operators with dtypes and counts, copies, waits of the host and where, launches, graphs."""
    rows = sorted(counts, key=lambda row: (-row[2], row))
    return {
        "process": os.getpid(),
        "command": redaction.arguments(sys.argv[:2]),
        "operators": [
            {"operator": name, "dtypes": dtypes.split(",") if dtypes else [], "calls": calls}
            for name, dtypes, calls in rows
            if not name.startswith(_COPY)
        ],
        "copies": {f"{name.removeprefix('copy ')}, {how}": n for name, how, n in rows if name.startswith(_COPY)},
        "host waits": dict(waits),
        "host waits by line": list(sites),
        "launches": sum(launches(rows).values()),
        "graphs": dict(graphs or {}),
        "model steps": dict(steps or {}),
    }
