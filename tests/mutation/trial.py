"""The tests, run over a copy of the checkout with a fault in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .mutants import Mutant

ROOT = Path(__file__).parents[2]
GROUPS = ("tests/places", "tests/patches", "tests/engine", "tests/hooks", "tests/histories")
"""The tests that look at places/, patches/ and engine/, in the order in which they are tried."""

_MARKS = "not vllm and not e2e and not grid"
_LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info")


@dataclass(frozen=True)
class Outcome:
    """What the tests said.

    Attributes:
        killed: a test failed, or they did not get done in time.
        by: the test, or what happened.
        seconds: how long it took.
    """

    killed: bool
    by: str
    seconds: float


class Trial:
    """A copy of the checkout, laid out as it is installed, in a folder of its own.

    Args:
        folder: where to put it.
        tests: files and folders of tests, in the order in which they are tried.

    Attributes:
        patience: seconds after which the tests count as hanging.
    """

    def __init__(self, folder: Path, tests: Sequence[str] = GROUPS) -> None:
        self.folder = folder
        self.patience = 3600.0
        self._tests = tests
        self._failing: list[str] = []
        shutil.copytree(ROOT / "ascend_overlay", folder / "ascend_overlay", ignore=_LEFT_OUT)
        for name in ("hooks", "overlays"):
            shutil.copytree(ROOT / name, folder / "ascend_overlay" / name, ignore=_LEFT_OUT)
        shutil.copytree(ROOT / "tests", folder / "tests", ignore=_LEFT_OUT)
        for name in ("setup.cfg", "pyproject.toml"):
            shutil.copy(ROOT / name, folder / name)

    def prepare(self) -> Sequence[str]:
        """Run the tests without a fault, to see how long they take; return those that fail, which are left out."""
        done, seconds = self._run("-q")
        self._failing = [line.split()[1] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        if done.returncode not in (0, 1):
            raise SystemExit(f"the tests cannot be run without a fault:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        self.patience = 3 * seconds + 60
        return self._failing

    def of(self, mutant: Mutant) -> Outcome:
        """Run the tests over one fault, up to the first that fails."""
        path = self.folder / mutant.file
        source = path.read_text(encoding="utf-8")
        path.write_text(mutant.applied(source), encoding="utf-8")
        try:
            done, seconds = self._run("-q", "-x", "--no-header")
        except subprocess.TimeoutExpired:
            return Outcome(True, "it hangs", self.patience)
        finally:
            path.write_text(source, encoding="utf-8")
        failed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return Outcome(done.returncode != 0, failed[0] if failed else f"exit {done.returncode}", seconds)

    def _run(self, *options: str) -> tuple[subprocess.CompletedProcess[str], float]:
        # Python takes a file of the same length, written in the same second, for the one that it has compiled.
        environment = {
            **os.environ,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(self.folder),
            "OMP_NUM_THREADS": "1",
            "HISTORIES": "60",
            "INTERRUPTIONS": "40",
        }
        groups = [group for group in self._tests if (self.folder / group).exists()]
        without = [part for test in self._failing for part in ("--deselect", test)]
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-m", _MARKS, "-p", "no:cacheprovider", *options, *without, *groups],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=self.patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.communicate()
            raise
        done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
        return done, time.perf_counter() - started
