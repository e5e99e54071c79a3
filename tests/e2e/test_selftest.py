"""`ascend-overlay selftest` on the software NPU: every step runs, and the file has what it found."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from downloads import for_the_software_npu
from e2e_kit import COMMAND, TIMEOUT, environment

from ascend_overlay.overlays.platform.choice import PATH

pytestmark = pytest.mark.e2e


def test_every_step_goes_well_on_the_software_npu(tmp_path: Path) -> None:
    found = for_the_software_npu()
    env = environment(tmp_path, PYTHONPATH=os.fspath(found.folder), SOME_TOKEN="nobodys-business")
    out = tmp_path / "selftest.json"
    done = subprocess.run(
        [*COMMAND, "selftest", "--npu", "software", "--quick", "--timeout", str(3 * TIMEOUT), "--out", str(out)],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=4 * TIMEOUT,
        check=False,
    )
    text = out.read_text()
    file = json.loads(text)
    failed = [step for step in file["steps"] if not step["ok"]]
    assert (done.returncode, file["ok"], failed) == (0, True, []), done.stdout + done.stderr
    steps = {step["step"]: step["found"] for step in file["steps"]}
    assert list(steps) == [
        "environment",
        "verify",
        *("llama3 on the CPU", "llama3 on npu, eagerly", "llama3 on npu, by graphs"),
        "launches",
    ]
    assert (steps["environment"]["platform"], len(steps["environment"]["devices"])) == (PATH, 1)
    assert steps["llama3 on the CPU"]["device"] == "cpu"
    tokens = [steps[name]["tokens"] for name in steps if name.startswith("llama3")]
    assert tokens[0] == tokens[1] == tokens[2] and len(tokens[0]) == 4
    assert not any("graphs were captured" in note for note in steps["llama3 on npu, eagerly"]["notes"])
    assert {"synchronize", "item", "replay of a graph of 50 adds"} <= steps["launches"]["measured"].keys()
    assert "these times say nothing of a card" in done.stdout
    assert "nobodys-business" not in text and str(Path.home()) not in text
