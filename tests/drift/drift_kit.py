"""Two tiny releases between which everything happens, and overlays that patch them and lean on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import ascend_overlay

HOSTILE = "</pre><script>alert('docstring')</script><img src=x onerror=alert(1)>"
REASON = "a <b>reason</b> & 'more' [bold red]x[/] \\x1b[31mred \\u202eturned \\ud800"

OLD = {
    "version.py": '__version__ = "0.32.0"\n',
    "__init__.py": "",
    "ops.py": '''
        def same(x):
            return x

        def laid_out(x):
            """Old."""
            return x

        def body(x):
            return x + 1

        def signed(x):
            return x

        def old_name(x, y):
            first = x * 2 + y
            second = first - 3 * y
            return max(first, second)

        def lost(x):
            total = sum(x)
            return total

        def edited(x):
            y = x + 1
            return y

        def for_old(x):
            return x

        class Kind:
            """Makes things."""

            def run(self):
                return 1
    ''',
    "base.py": """
        class Base:
            def update_cache(self, a):
                return a

            def read(self):
                return 1
    """,
}

NEW = {
    "version.py": '__version__ = "0.33.0"\n',
    "__init__.py": "",
    "ops.py": f'''
        def same(x):
            return x

        def laid_out(x):
            """{HOSTILE} \x1b[31m"""
            return x

        def body(x):
            """{HOSTILE} \x1b[31m"""
            return x + 2

        def signed(x, scale):
            return x

        def new_name(x, y):
            first = x * 2 + y
            second = first - 3 * y
            return max(first, second)

        def brought(x):
            return x

        def edited(x):
            z = x + 2
            return z

        def Kind(run):
            return run
    ''',
    "base.py": """
        class Base:
            def update_cache(self, a, skip_scale=False):
                return a

            def read(self):
                return 2
    """,
}

PLUGIN = {
    "plug.py": f'''
        from ascend_overlay import Overlay
        from ascend_overlay.hooks import hookimpl

        def through(wrapped, instance, args, kwargs):
            return wrapped(*args, **kwargs)

        def signed(x):
            return x

        mine = Overlay("mine", reason="{REASON}")
        mine.wrap("vllm.ops:same")(through)
        mine.wrap("vllm.ops:laid_out")(through)
        mine.wrap("vllm.ops:body", reason="{REASON}")(through)
        mine.replace("vllm.ops:signed")(signed)
        mine.wrap("vllm.ops:old_name")(through)
        mine.wrap("vllm.ops:lost")(through)
        mine.add("vllm.ops:brought", 1)
        mine.edit("vllm.ops:edited", find="y = x + 1", put="y = x + 5")
        mine.wrap("vllm.ops:for_old", vllm="<0.33")(through)
        mine.subclass("vllm.ops:Kind", "plug_implementation:OurKind")

        late = Overlay("late", reason="a test", retire="vllm>=0.33")
        late.wrap("vllm.ops:body")(through)
        marked = Overlay("marked", reason="a test", upstream_marker="vllm.ops:brought")
        marked.wrap("vllm.ops:same")(through)
        bounded = Overlay("bounded", reason="a test", vllm="<0.33")
        bounded.wrap("vllm.ops:same")(through)
        neither = Overlay("neither", reason="a test", vllm="<0.30")
        neither.wrap("vllm.ops:lost")(through)

        @hookimpl
        def ascend_overlay_overlays():
            from plug_leaning import leaner
            return [mine, late, marked, bounded, neither, leaner]
    ''',
    "plug_implementation.py": "from vllm.ops import Kind\n\nclass OurKind(Kind):\n    pass\n",
    "plug_leaning.py": """
        from ascend_overlay import Overlay

        leaner = Overlay("leaner", reason="a test")
        leaner.subclass("vllm.base:Base", "plug_leaning_base:Ours")
    """,
    "plug_leaning_base.py": """
        from vllm.base import Base

        class Ours(Base):
            def update_cache(self, a):
                return super().update_cache(a)

            def read(self):
                return super().read() + 1
    """,
}
NAMES = "mine,late,marked,bounded,neither,leaner"


def tree(folder: Path, texts: dict[str, str]) -> Path:
    """Write a release; return the folder of the package."""
    package = folder / "vllm"
    for name, text in texts.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
    return package


RUNNER = """
import json, sys
from click.testing import CliRunner
from ascend_overlay.commands.cli import main
answers = []
for arguments in json.loads(sys.stdin.read()):
    found = CliRunner().invoke(main, arguments)
    answers.append([found.exit_code, found.stdout, found.stderr])
json.dump(answers, sys.__stdout__)
"""
"""Runs several commands in one process: to start one takes as long as what it does here."""


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    status: int
    out: str
    err: str


class Place:
    """A folder with the two releases and the plugin, in which commands are run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tree(folder / "old", OLD)
        tree(folder / "new", NEW)
        for name, text in PLUGIN.items():
            (folder / name).write_text(dedent(text), encoding="utf-8")
        package = Path(ascend_overlay.__file__).parent.parent
        search = [str(folder), *([str(package)] if str(package) in sys.path else [])]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ASCEND_OVERLAY", "PYTHON"))}
        self._environment = kept | {"PYTHONPATH": os.pathsep.join(search), "COLUMNS": "120"}

    def alone(self, *arguments: str) -> Answer:
        """Run a command in a process of its own."""
        done = self._python(["-m", "ascend_overlay", *arguments])
        return Answer(done.returncode, done.stdout, done.stderr)

    def run(self, *commands: Sequence[str]) -> list[Answer]:
        """Run commands, one after the other in one process."""
        done = self._python(["-c", RUNNER], json.dumps(commands))
        assert done.returncode == 0, done.stderr
        return [Answer(*each) for each in json.loads(done.stdout)]

    def _python(self, arguments: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            input=text,
            env=self._environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
        )


@dataclass(frozen=True)
class Answers:
    """What was said about the two releases.

    Attributes:
        place: where it was asked.
        json: what `drift --json` printed.
        table: what `drift --all --diff` printed.
        drift: the page of `drift`.
        again: the same page, written once more.
        grid: the page of `check` over both releases.
    """

    place: Place
    json: dict[str, Any]
    table: str
    drift: str
    again: str
    grid: str


OPTIONS = ("--load", "plug", "--only", NAMES)
DRIFT = ("drift", "old/vllm", "new/vllm", *OPTIONS)


def ask(place: Place) -> Answers:
    """Ask about the two releases in all ways."""
    check = ("check", "--base", "old/vllm", "--vllm", "old/vllm", "--vllm", "new/vllm", *OPTIONS)
    first = place.alone(*DRIFT, "--json", "--html", "drift.html")
    table, again, grid = place.run(
        [*DRIFT, "--all", "--diff"], [*DRIFT, "--html", "again.html"], [*check, "--html", "grid.html"]
    )
    assert (first.status, table.status, again.status, grid.status) == (0, 0, 0, 1), (first, table, again, grid)
    pages = [(place.folder / name).read_text(encoding="utf-8") for name in ("drift.html", "again.html", "grid.html")]
    return Answers(place, json.loads(first.out), table.out, *pages)
