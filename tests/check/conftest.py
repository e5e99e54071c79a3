"""What the tests of check share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from two_trees import LAYERS, NEW, OLD, PLUGIN, Run, write


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
