"""Each process learns of the software NPU, however torch_npu comes to be imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from software_kit import Software

SEEN = "import torch; print((torch.ones(2, device='npu') + 1).tolist())"


def _last(text: str) -> str:
    return text.splitlines()[-1]


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(SEEN, id="torch first"),
        pytest.param(f"import torch_npu; {SEEN}", id="torch_npu first"),
        pytest.param(
            f"import os; os.environ['TORCH_DEVICE_BACKEND_AUTOLOAD'] = '0'; import torch, torch_npu; {SEEN}",
            id="autoload off",
        ),
        pytest.param(
            f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {SEEN!r}]).returncode)",
            id="a child",
        ),
    ],
)
def test_ways_in(software: Software, code: str) -> None:
    assert _last(software("-c", code).stdout) == "[2.0, 2.0]"


def test_the_variable_alone_and_no_overlay(software: Software, python: Any) -> None:
    """Where a way in is there already, as in a child of enable(); no vLLM, no overlay."""
    code = "import os; from ascend_overlay.hooks.activation import arm_asked_for; arm_asked_for(); " + SEEN
    python.search = [*python.search, str(software.wheel)]
    env = {"ASCEND_OVERLAY_NPU": "software", "ASCEND_OVERLAY_NPU_MEMORY": "64MiB"}
    assert _last(python("-c", code, env=env, timeout=600).stdout) == "[2.0, 2.0]"


def test_a_wrong_variable_stops_the_import_of_torch(python: Any) -> None:
    code = "from ascend_overlay.hooks.activation import arm_asked_for; arm_asked_for(); import torch"
    done = python("-c", code, env={"ASCEND_OVERLAY_NPU": "software", "ASCEND_OVERLAY_NPU_DEVICES": "few"}, check=False)
    assert done.returncode == 1
    assert "ASCEND_OVERLAY_NPU_DEVICES is 'few'" in done.stderr


def test_nothing_for_nothing(python: Any) -> None:
    code = "import sys; from ascend_overlay.hooks.activation import torch_backend as way; before = list(sys.meta_path)"
    done = python(
        "-c",
        f"{code}; way(); print(sys.meta_path == before, 'torch' in sys.modules, 'ascend_overlay.npu' in sys.modules)",
    )
    assert done.stdout == "True False False\n"


def test_memory_that_is_mapped(software: Software) -> None:
    code = """
import torch
kept = [torch.ones(4 << 20, dtype=torch.uint8, device="npu") for _ in range(8)]
used = torch.npu.mem_get_info()[0]
try:
    torch.empty(40 << 20, dtype=torch.uint8, device="npu")
except torch.OutOfMemoryError:
    expandable = torch.npu.memory_snapshot()[0]["is_expandable"]
    kept.clear()
    torch.npu.empty_cache()
    rest = torch.zeros(40 << 20, dtype=torch.uint8, device="npu").sum().item()
    print(expandable, used >> 20, rest)
"""
    env = {"PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True"}
    done = software("-c", code, options=("--npu-memory", "64MiB"), env=env)
    assert _last(done.stdout) == "True 24 0"


def test_report(software: Software, tmp_path: Path) -> None:
    code = """
import torch
a = torch.ones(2, 2, device="npu", dtype=torch.bfloat16)
for _ in range(3):
    a @ a
a.sum().item()
a.t().cpu()
a.nonzero()
a[2:].fill_(1)
torch.zeros(2).pin_memory().to("npu", non_blocking=True)
for _ in range(20):
    torch.npu.synchronize()
"""
    software("-c", code, options=("--npu-report", str(tmp_path / "report")))
    (path,) = (tmp_path / "report").glob("*.json")
    found = json.loads(path.read_text())
    assert {"operator": "aten::mm", "dtypes": ["BFloat16", "BFloat16"], "calls": 3} in found["operators"]
    waits = found["host waits"]
    assert (waits["item"], waits["copy to the host"], waits["copy to the device"], waits["content"]) == (1, 1, 0, 1)
    assert 20 <= waits["synchronize device"] < 25  # torch_npu waits when it starts and ends
    assert found["copies"] == {"to the host, waited for": 1, "to the device, not waited for": 1}
    lines = {row["what"]: row for row in found["host waits by line"] if row["where"].startswith("<string>")}
    assert lines["synchronize device"] == {
        "what": "synchronize device",
        "where": "<string>:12 in <module>",
        "times": 20,
    }
    assert [lines[what]["where"] for what in ("item", "copy to the host", "content")] == [
        f"<string>:{line} in <module>" for line in (6, 7, 8)
    ]
    # ones, three products, a sum, nonzero; no view, nothing that has no elements, and no reading of a number
    assert found["launches"] == 6
    assert found["ended"] is True
    assert found["model steps"] == {}


def test_the_report_counts_graphs(software: Software, tmp_path: Path) -> None:
    code = """
import gc, torch
x = torch.ones(4, device="npu")
for times in (2, 3):
    graph = torch.npu.NPUGraph()
    with torch.npu.graph(graph):
        x.add_(1)
    for _ in range(times):
        graph.replay()
    del graph
    gc.collect()
"""
    software("-c", code, options=("--npu-report", str(tmp_path / "report")))
    (path,) = (tmp_path / "report").glob("*.json")
    assert json.loads(path.read_text())["graphs"] == {"captured": 2, "replayed": 5, "tasks updated": 0}


def test_a_process_that_calls_nothing_reports_nothing(software: Software, tmp_path: Path) -> None:
    software("-c", "import torch", options=("--npu-report", str(tmp_path / "report")))
    assert not (tmp_path / "report").exists()


def test_a_process_leaves_its_report_however_it_ends(software: Software, tmp_path: Path) -> None:
    file = Path(__file__).with_name("inside_endings.py")
    done = software(str(file), str(tmp_path / "report"), options=("--npu-report", str(tmp_path / "report")))
    ended = {}
    for how, pid in json.loads(_last(done.stdout)).items():
        found = json.loads((tmp_path / "report" / f"{pid}.json").read_text())
        calls = [row["calls"] for row in found["operators"] if row["operator"] == "aten::add.Tensor"]
        assert (found["process"], calls) == (pid, [5]), how
        ended[how] = found["ended"]
    assert ended == {"spawned": True, "terminated": True, "forked": True, "killed": False, "left": False}


def test_the_report_tells_what_each_kind_of_step_asks_for(software: Software, tmp_path: Path) -> None:
    code = """
import torch
from ascend_overlay.npu.software.report import step_begins
a = torch.ones(2, device="npu")
for number in range(4):
    step_begins("decode" if number else "prefill")
    a + number
    if number == 2:
        a.add_(1).sum().item()
step_begins("decode")
"""
    software("-c", code, options=("--npu-report", str(tmp_path)))
    (path,) = tmp_path.glob("*.json")
    assert json.loads(path.read_text())["model steps"] == {
        "prefill": {"steps": 1, "launches": {"least": 1, "most": 1}, "host waits": {"least": 0, "most": 0}},
        "decode": {"steps": 3, "launches": {"least": 1, "most": 3}, "host waits": {"least": 0, "most": 1}},
    }
