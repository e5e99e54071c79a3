"""What the tests of check share: trees of two releases, and a plugin between them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

OLD = {
    "vllm/__init__.py": "",
    "vllm/version.py": "__version__ = '1.0.0'\n",
    "vllm/engine.py": """\
        LIMIT = 1
        def plan(a, b=1):
            '''Plan.'''
            total = a + b
            return total
        class Engine:
            def __init__(self, size):
                self.size = size
            def step(self, x):
                return x
            def stop(self):
                return None
        class Layer:
            pass
        """,
}
NEW = {
    **OLD,
    "vllm/version.py": "__version__ = '1.1.0'\n",
    "vllm/engine.py": """\
        LIMIT = 1
        def plan(a, b=1):
            '''Plan, in other words.'''
            total = a + b
            return total
        class Engine:
            def __init__(self, size):
                self.size = size
            def step(self, x, more=False):
                return x
            def halt(self):
                return None
        def Layer():
            return 1
        def extra():
            pass
        """,
}
PLUGIN = """\
    from ascend_overlay import Overlay
    from ascend_overlay.hooks import hookimpl

    steps = Overlay("steps", vllm=">=1.0,<2", reason="Steps.", retire="vllm>=1.1")

    @steps.replace("vllm.engine:Engine.step")
    def step(self, x):
        return x

    quiet = Overlay("quiet", vllm=">=1.0,<1.1", reason="Quiet.")

    @quiet.wrap("vllm.engine:plan")
    def plan(wrapped, instance, args, kwargs):
        return wrapped(*args, **kwargs)

    stopping = Overlay("stopping", reason="Stops.", upstream_marker="vllm.engine:extra")

    @stopping.wrap("vllm.engine:Engine.stop")
    def stop(wrapped, instance, args, kwargs):
        return wrapped(*args, **kwargs)

    stopping.edit("vllm.engine:plan", find="total = a + b", put="total = a - b")

    layers = Overlay("layers", reason="Layers.")
    layers.subclass("vllm.engine:Layer", "my_layers:MyLayer")
    adding = Overlay("adding", reason="Adds.")
    adding.add("vllm.engine:extra", 1)
    OVERLAYS = [steps, quiet, stopping, layers, adding]

    @hookimpl
    def ascend_overlay_overlays():
        return OVERLAYS
    """
LAYERS = """\
    from vllm.engine import Engine, Layer

    class MyLayer(Layer):
        def f(self, engine: Engine):
            return engine.size
    """

Run = Callable[..., subprocess.CompletedProcess[str]]


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write files below a folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
    return folder


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the trees old and new, and the plugin in mine."""
    folder = tmp_path_factory.mktemp("trees")
    write(folder / "old", OLD)
    write(folder / "new", NEW)
    write(folder / "mine", {"my_plugin.py": PLUGIN, "my_layers.py": LAYERS})
    return folder


@pytest.fixture(scope="session")
def ask(trees: Path) -> Run:
    """Return a function that runs the command line on these trees."""

    def run(command: Sequence[str], *, load: str | None = "my_plugin") -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "ascend_overlay", *command, *(["--load", load] if load else [])]
        environment = os.environ | {"PYTHONPATH": str(trees / "mine"), "COLUMNS": "160", "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(words, capture_output=True, text=True, cwd=trees, env=environment, check=False)

    return run


@pytest.fixture(scope="session")
def found(ask: Run) -> dict[str, Any]:
    """Return what check says about the plugin on the new tree, by overlay."""
    only = "steps,quiet,stopping,layers,adding"
    done = ask(["check", "--base", "old", "--vllm", "new", "--only", only, "--json"])
    assert done.returncode == 1, done.stderr
    (release,) = json.loads(done.stdout)["releases"]
    assert (release["release"], release["compared_with"]) == ("1.1.0", "1.0.0")
    return {each["overlay"]: each for each in release["overlays"]}
