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

from ascend_overlay.hooks.autoload import FILE_NAME

import ascend_overlay
from ascend_overlay import hooks, overlays
from benchmarks.measure import Result, clean_environment, differences, in_turns, run_process, summary

NAME = "idle"
GOAL_MS = 1.0


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
        samples = in_turns(
            {
                name: lambda place=place, environment=environment: (
                    1000
                    * run_process(  # type: ignore[misc]
                        [str(place.python), "-c", "pass"], environment
                    ).wall
                )
                for name, (place, environment) in cases.items()
            },
            rounds,
            warm_up=5,
        )
    start = summary(samples["bare"])[0]
    for name in list(cases)[1:]:
        added = summary(differences(samples[name], samples["bare"]))
        details = {"bare start, ms": start}
        yield Result(NAME, f"start of Python, {name}, minus bare", *added, "ms", GOAL_MS, rounds, details)


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
