"""A stock vLLM on device "npu" with nothing but torch_npu and this library, beside its own platform for CPUs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from e2e_kit import TIMEOUT, environment
from software_npu import with_an_npu

pytestmark = pytest.mark.e2e

FAMILIES = ("llama3", "qwen3_moe", "deepseek_v2")
TOLERANCE = 0.1
"""Largest difference of a log probability, in nats: 0.04 was seen, in bfloat16."""
_WORKER = Path(__file__).with_name("npu_worker.py")
_PERFORMANCE = Path(__file__).parents[2] / "docs" / "performance.md"


def _run(folder: Path, *arguments: str, devices: int = 1, **more: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir(parents=True, exist_ok=True)
    env = environment(folder, VLLM_CPU_OMP_THREADS_BIND="nobind", **more)
    del env["VLLM_CPU_KVCACHE_SPACE"]
    if devices == 1:
        env["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    command, variables = with_an_npu(*arguments, devices=devices, asked=more.get("ASCEND_OVERLAY", ""))
    done = subprocess.run(
        command, env=env | variables, cwd=folder, capture_output=True, text=True, timeout=2 * TIMEOUT, check=False
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return done


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mapping[str, Any]]:
    """What each platform answers, by "cpu" or "npu" and family. The NPU is there for both."""
    found: dict[str, dict[str, Any]] = {}
    for name, more in (("npu", {}), ("cpu", {"ASCEND_OVERLAY": "0"})):
        folder = tmp_path_factory.mktemp(name)
        _run(folder, str(_WORKER), str(folder), *FAMILIES, **more)
        found[name] = {family: json.loads((folder / f"{family}.json").read_text()) for family in FAMILIES}
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_it_answers_as_vllms_platform_for_cpus_does(results: Mapping[str, Mapping[str, Any]], family: str) -> None:
    on_npu, on_cpu = results["npu"][family], results["cpu"][family]
    assert on_npu["platform"] == "NPUPlatform"
    assert on_npu["devices"] == ["npu:0"]
    assert on_cpu["platform"] == "CpuPlatform"
    assert on_npu["tokens"] == on_cpu["tokens"]
    for ours, theirs in zip(on_npu["logprobs"], on_cpu["logprobs"], strict=True):
        assert ours == pytest.approx(theirs, abs=TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_launches_what_is_written(results: Mapping[str, Mapping[str, Any]], family: str) -> None:
    # The values of the last request are in one piece by themselves, so its step may have one less.
    assert max(results["npu"][family]["launches of a layer"]) == _documented(family)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_host_waits_for_nothing_in_a_forward(results: Mapping[str, Mapping[str, Any]], family: str) -> None:
    waits = results["npu"][family]["waits"]
    assert len(waits) >= 16 and not any(waits)


def _documented(family: str) -> int:
    """Return the launches of a layer that docs/performance.md has, with all overlays."""
    section = _PERFORMANCE.read_text(encoding="utf-8").partition("\n## Launches\n")[2].partition("\n## ")[0]
    (row,) = [line for line in section.splitlines() if line.startswith(f"| {family} |")]
    return int(row.split("|")[2])


def test_it_does_without_vllms_compiled_parts(results: Mapping[str, Mapping[str, Any]], tmp_path: Path) -> None:
    """As a vLLM that was built with VLLM_TARGET_DEVICE=empty is without them."""
    _run(tmp_path, str(_WORKER), str(tmp_path), "llama3", BARE="1")
    found = json.loads((tmp_path / "llama3.json").read_text())
    assert found == results["npu"]["llama3"]


def test_two_devices_answer_as_one_does(results: Mapping[str, Mapping[str, Any]], tmp_path: Path) -> None:
    """With nothing asked for but the devices: in captured graphs."""
    done = _run(tmp_path, str(_WORKER), str(tmp_path), "llama3", devices=2, RANKS="2")
    found = json.loads((tmp_path / "llama3.json").read_text())
    assert found["platform"] == "NPUPlatform"
    assert found["tokens"] == results["npu"]["llama3"]["tokens"]
    for ours, theirs in zip(found["logprobs"], results["npu"]["llama3"]["logprobs"], strict=True):
        assert ours == pytest.approx(theirs, abs=TOLERANCE)
    said = done.stdout + done.stderr
    assert said.count("graphs were captured, replayed") == 2, said[-6000:]


REFUSED = """
import sys
from pathlib import Path
from vllm.engine.arg_utils import EngineArgs
from ascend_overlay.commands.demo import tiny

model = tiny.FAMILIES["llama3"](Path(sys.argv[1]))
for options in (
    {"enable_sleep_mode": True},
    {"enable_lora": True},
    {"dtype": "float32"},
    {"kv_cache_dtype": "fp8"},
    {"quantization": "fp8"},
    {"tensor_parallel_size": 4},
):
    try:
        EngineArgs(str(model), **options).create_engine_config()
    except Exception as error:
        print("answer:", type(error).__name__, " ".join(str(error).split()))
    else:
        print("answer: served", options)
inductor = {"mode": 3, "backend": "inductor"}
try:
    EngineArgs(str(model), compilation_config=inductor).create_engine_config()
except Exception as error:
    print("answer:", type(error).__name__, " ".join(str(error).split()))
config = EngineArgs(str(model)).create_engine_config()
compilation = config.compilation_config
print("answer:", compilation.mode, compilation.cudagraph_mode, config.cache_config.block_size)
print("answer:", config.parallel_config.worker_cls, config.scheduler_config.async_scheduling)
"""


def test_what_is_not_served_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "refused.py").write_text(REFUSED)
    done = _run(tmp_path, str(tmp_path / "refused.py"), str(tmp_path / "model"))
    lines = [line.removeprefix("answer: ") for line in done.stdout.splitlines() if line.startswith("answer: ")]
    assert len(lines) == 9, done.stdout
    for line, word in zip(lines, ("sleep", "LoRA", "float32", "fp8", "fp8", "4 devices", "inductor"), strict=False):
        assert "on the NPU platform, " in line and word in line, lines
    assert "FULL_AND_PIECEWISE" in lines[7].upper() and lines[7].endswith(" 128"), lines
    assert lines[8] == "ascend_overlay.overlays.platform.worker.NPUWorker True", lines
