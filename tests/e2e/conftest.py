"""The engine runs of the end-to-end tests, each shared by everything that can be learned from it."""

from __future__ import annotations

import json
import subprocess

import pytest
from e2e_kit import COMMAND, TIMEOUT, Demo, environment


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """`ascend-overlay demo` as a user runs it, its output in a pipe."""
    folder = tmp_path_factory.mktemp("demo")
    report = folder / "figures.json"
    done = subprocess.run(
        [*COMMAND, "demo", "--json", str(report), "--keep", str(folder / "kept")],
        env=environment(folder),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=2 * TIMEOUT,
        check=False,
    )
    assert report.exists(), done.stdout
    return Demo(done.returncode, done.stdout, json.loads(report.read_text()), folder / "kept")
