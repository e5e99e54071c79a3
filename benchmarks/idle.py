"""What an activated interpreter costs that never imports vLLM: every pip, git hook and build tool of the environment.

In a virtual environment of its own, with a copy of the package as a wheel would install it, so that nothing else takes
part that is installed here.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ascend_overlay
from ascend_overlay import hooks, overlays
from ascend_overlay.hooks.autoload import FILE_NAME
from benchmarks.measure import Cost, Result, clean_environment, differences, in_turns, run_process, summary

NAME = "idle"
GOAL_MS = 1.0
WARM_UP = 5


def run(*, quick: bool) -> Iterator[Result]:
    """Compare interpreter starts: bare, installed, and activated in both ways."""
    with tempfile.TemporaryDirectory() as folder:
        bare = _environment(Path(folder) / "bare", autoload=False)
        with_pth = _environment(Path(folder) / "pth", autoload=True)
        startup = str(with_pth.site / "ascend_overlay" / "hooks" / "startup")
        off, on = clean_environment(), clean_environment(ASCEND_OVERLAY="1")
        through_path = clean_environment(ASCEND_OVERLAY="1", PYTHONPATH=startup)
        cases = {
            "bare": (bare, off),
            "autoload installed, not activated": (with_pth, off),
            "activated by .pth": (with_pth, on),
            "activated by sitecustomize on PYTHONPATH": (bare, through_path),
        }
        rounds = 60 if quick else 300
        costs: dict[str, list[Cost]] = {name: [] for name in cases}

        def measure(name: str) -> float:
            place, environment = cases[name]
            costs[name].append(run_process([str(place.python), "-c", "pass"], environment))
            return costs[name][-1].wall

        in_turns({name: lambda name=name: measure(name) for name in cases}, rounds, warm_up=WARM_UP)  # type: ignore[misc]
    for name in list(cases)[1:]:
        for what in ("wall", "cpu"):
            base = [1000 * getattr(cost, what) for cost in costs["bare"][WARM_UP:]]
            found = [1000 * getattr(cost, what) for cost in costs[name][WARM_UP:]]
            added = summary(differences(found, base))
            text = f"start of Python, {name}, minus bare, {'wall time' if what == 'wall' else 'processor time'}"
            yield Result(NAME, text, *added, "ms", GOAL_MS, rounds, {"bare start, ms": summary(base)[0]})


class _Place:
    def __init__(self, folder: Path) -> None:
        self.python = folder / "bin" / "python"
        self.site = next(folder.glob("lib/python*/site-packages"))


def _environment(folder: Path, *, autoload: bool) -> _Place:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    place = _Place(folder)
    package = place.site / "ascend_overlay"
    for source, target in ((ascend_overlay, package), (hooks, package / "hooks"), (overlays, package / "overlays")):
        assert source.__file__ is not None
        shutil.copytree(
            Path(source.__file__).parent, target, ignore=shutil.ignore_patterns("*.pyc"), dirs_exist_ok=True
        )
    if autoload:
        from ascend_overlay.hooks import autoload as module

        (place.site / FILE_NAME).write_text(module._LINE)
    subprocess.run([str(place.python), "-m", "compileall", "-q", str(package)], check=True)
    return place
