"""The engine runs of the end-to-end tests, each shared by everything that can be learned from it."""

from __future__ import annotations

import json
import subprocess

import npu_runs
import pytest
from e2e_kit import COMMAND, TIMEOUT, Demo, environment
from grid import asked_for


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


@pytest.fixture(scope="session")
def on_npu(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> npu_runs.Answers:
    """What the models answer on the software NPU and on the CPU: those of the selected tests and the reduced form."""
    asked = {str(params["name"]) for params in asked_for(request) if params.get("name") in npu_runs.QUANTIZED}
    return npu_runs.answers(tmp_path_factory.mktemp("npu"), npu_runs.REDUCED | asked)
