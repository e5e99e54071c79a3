"""The engine runs of the end-to-end tests, each shared by everything that can be learned from it."""

from __future__ import annotations

import json
import subprocess

import pytest
from e2e_kit import COMMAND, TIMEOUT, Demo, environment


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """`ascend-overlay demo --json` as another program runs it."""
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [*COMMAND, "demo", "--json", "--keep", str(folder / "kept")],
        env=environment(folder),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=2 * TIMEOUT,
        check=False,
    )
    assert done.stdout, done.stderr
    return Demo(done.returncode, json.loads(done.stdout), done.stderr, folder / "kept")
