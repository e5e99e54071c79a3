"""The tests, run over a copy of the checkout with a fault in it."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .lines import MANY, PLACE, Lines, marked
from .mutants import Mutant

ROOT = Path(__file__).parents[2]
ROOMS = ("ascend_overlay/places", "ascend_overlay/patches", "ascend_overlay/engine")
GROUPS = ("tests/places", "tests/engine", "tests/patches", "tests/hooks")
"""The tests that look at places/, patches/ and engine/."""

LAST = (
    "tests/engine/test_process_roles.py",
    "tests/engine/test_random_sequences.py",
    "tests/engine/test_interruptions.py",
    "tests/histories",
)
"""Tests that try much by chance or for long; they are tried where the others have found nothing."""

_MANY = 60
"""Cases of one table of tests that are recorded; tables of more of them try one thing in all combinations."""

_NONE_RUN = 5
_MARKS = "not vllm and not e2e and not grid"
_LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info")
_PRELOADED = ("pytest", "hypothesis", "pydantic", "msgspec", "wrapt", "concurrent.futures", "email", "asyncio")


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
        tests: files and folders of tests.
        within: seconds of tests that are run over one fault.
        last: tests that are run whole where the others have found nothing.
    """

    def __init__(
        self, folder: Path, tests: Sequence[str] = GROUPS, within: float = 30.0, last: Sequence[str] = LAST
    ) -> None:
        self.folder = folder
        self._tests, self._last, self._within = tests, last, within
        self._failing: list[str] = []
        self._lines = Lines({})
        self._count = 0
        self._finders: Counter[str] = Counter()
        for module in _PRELOADED:
            importlib.import_module(module)
        shutil.copytree(ROOT / "ascend_overlay", folder / "ascend_overlay", ignore=_LEFT_OUT)
        for name in ("hooks", "overlays"):
            shutil.copytree(ROOT / name, folder / "ascend_overlay" / name, ignore=_LEFT_OUT)
        shutil.copytree(ROOT / "tests", folder / "tests", ignore=_LEFT_OUT)
        for name in ("setup.cfg", "pyproject.toml"):
            shutil.copy(ROOT / name, folder / name)

    def prepare(self, recorded: Path | None = None) -> Sequence[str]:
        """Run the tests without a fault, to see who comes by which line; return those that fail, which are left out.

        Args:
            recorded: where to keep what was seen, for other runs; of what is there already, nothing is run again.
        """
        place = recorded or self.folder / "lines.json"
        failing = place.with_suffix(".failing")
        before = failing.read_text(encoding="utf-8").splitlines() if failing.exists() else []
        self._failing = [*before, *self._record(place)]
        failing.write_text("\n".join(self._failing), encoding="utf-8")
        self._lines = Lines.read(place)
        return self._failing

    def _record(self, place: Path) -> list[str]:
        sources = {
            path: path.read_text(encoding="utf-8") for room in ROOMS for path in (self.folder / room).glob("*.py")
        }
        for path, source in sources.items():
            if "from __future__" in source:
                name = path.relative_to(self.folder).as_posix()
                path.write_text(marked(name, source), encoding="utf-8")
        apart = [f"--ignore={test}" for test in LAST if test not in self._tests]
        code, said = self._run(
            ["-p", "tests.mutation.lines", *apart, *self._tests], 3600.0, {PLACE: str(place), MANY: str(_MANY)}
        )
        for path, source in sources.items():
            path.write_text(source, encoding="utf-8")
        if code not in (0, 1, _NONE_RUN):
            raise SystemExit(f"the tests cannot be run without a fault:\n{said[-3000:]}")
        failing = _failing(said)
        return _failing(self._run(failing, 600.0)[1]) if failing else []

    def of(self, mutant: Mutant) -> Outcome:
        """Run the tests that come by the line of a fault, up to the first that fails."""
        started = time.perf_counter()
        path = self.folder / mutant.file
        source, times = path.read_text(encoding="utf-8"), path.stat()
        near = self._near(mutant, source)
        path.write_text(mutant.applied(source), encoding="utf-8")
        # Python takes a file of the same length, written in the same second, for the one that it has compiled.
        self._count += 1
        os.utime(path, (self._count, self._count))
        try:
            by = self._found_by(near)
        finally:
            path.write_text(source, encoding="utf-8")
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        if by is not None:
            self._finders[by.partition("[")[0]] += 1
        return Outcome(by is not None, by or "", time.perf_counter() - started)

    def _found_by(self, near: Sequence[str]) -> str | None:
        by = self._failed(near, 20.0 + 2 * sum(map(self._lines.seconds.__getitem__, near))) if near else None
        return by or (self._failed(self._last, 900.0) if self._last else None)

    def _near(self, mutant: Mutant, source: str) -> list[str]:
        """Return the tests that come by, as many as can be run in the time that is given."""
        chosen, left = [], self._within
        for test in self._lines.tests_of(mutant.file, source, mutant.line, self._finders):
            if test in self._failing or (chosen and self._lines.seconds[test] > left):
                continue
            chosen.append(test)
            left -= self._lines.seconds[test]
        return chosen

    def _failed(self, tests: Sequence[str], patience: float) -> str | None:
        code, said = self._run(["-x", "--no-header", *tests], patience)
        if code is None:
            return "it hangs"
        return None if code == 0 else next(iter(_failing(said)), f"exit {code}")

    def _run(
        self, arguments: Sequence[str], patience: float, more: Mapping[str, str] | None = None
    ) -> tuple[int | None, str]:
        """Run pytest in a copy of this process, which has loaded what all tests need; None where it hangs."""
        said = self.folder / "said.txt"
        child = os.fork()
        if child == 0:
            self._be_the_tests(arguments, said, more or {})
        ends = time.monotonic() + patience
        while time.monotonic() < ends:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status), said.read_text(encoding="utf-8", errors="replace")
            time.sleep(0.02)
        os.killpg(child, 9)
        os.waitpid(child, 0)
        return None, ""

    def _be_the_tests(self, arguments: Sequence[str], said: Path, more: Mapping[str, str]) -> None:
        code = 70
        try:
            os.setsid()
            output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.chdir(self.folder)
            os.environ.update(
                more, PYTHONPATH=str(self.folder), OMP_NUM_THREADS="1", HISTORIES="60", INTERRUPTIONS="40"
            )
            if not more:
                os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
                sys.dont_write_bytecode = True
            for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
                del sys.modules[name]
            sys.path[:] = [str(self.folder), *(entry for entry in sys.path if entry not in ("", str(ROOT)))]
            import pytest

            code = int(pytest.main(["-q", "-m", _MARKS, "-p", "no:cacheprovider", "--tb=line", *arguments]))
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)


def _failing(said: str) -> list[str]:
    return [
        line.split(" ", 1)[1].split(" - ")[0].strip()
        for line in said.splitlines()
        if line.startswith(("FAILED ", "ERROR "))
    ]
