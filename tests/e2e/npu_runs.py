"""The tiny models, in float and quantized, served on the software NPU and by vLLM's own platform for CPUs."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from e2e_kit import COMMAND, TIMEOUT, environment
from software_npu import with_an_npu
from tiny_llava import make_llava

from ascend_overlay.commands.demo import tiny
from ascend_overlay.commands.quantize.run import quantize

FAMILIES = tuple(tiny.FAMILIES)
SCHEMES = ("w8a8", "w8a8_dynamic", "w8a16")
QUANTIZED = tuple(f"{family}-{scheme}" for family in FAMILIES for scheme in SCHEMES)
REDUCED = {
    "llama3-w8a8",
    "qwen3-w8a16",
    "qwen3_moe-w8a8_dynamic",
    "gemma2-w8a8_dynamic",
    "gemma3-w8a8_dynamic",
    "deepseek_v2-w8a8",
    "deepseek_v3-w8a8_dynamic",
}
"""Each family once, and each scheme."""
_WORKER = str(Path(__file__).with_name("npu_worker.py"))
_TEXTS = """
The river asked the clouds to carry it upwards, and the market sold bread.
A language model reads a prompt and writes the next token, then the next one.
"""


@dataclass(frozen=True)
class Answers:
    """What the models answered.

    Attributes:
        npu: on the software NPU, by model; "features" and "images" beside them.
        cpu: stock vLLM on the CPU, the float models, "features" and "images"; and the quantized models with the same
            overlays as on the NPU.
        folder: where the models are.
        log: what the run on the NPU said.
    """

    npu: Mapping[str, Mapping[str, Any]]
    cpu: Mapping[str, Mapping[str, Any]]
    folder: Path
    log: str


def start(folder: Path, *arguments: str, devices: int = 1, **more: str) -> subprocess.Popen[bytes]:
    """Start Python with `arguments` where there is a software NPU; what it says goes to log.txt in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    env = environment(folder, VLLM_CPU_OMP_THREADS_BIND="nobind", **more)
    del env["VLLM_CPU_KVCACHE_SPACE"]
    if devices == 1:
        env["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    command, variables = with_an_npu(*arguments, devices=devices, asked=more.get("ASCEND_OVERLAY", ""))
    with (folder / "log.txt").open("wb") as log:
        return subprocess.Popen(command, env=env | variables, cwd=folder, stdout=log, stderr=subprocess.STDOUT)


def finish(*started: tuple[subprocess.Popen[bytes], Path], meanwhile: Callable[[], None] = lambda: None) -> None:
    """Wait for the processes, none of which may fail; every second, do something meanwhile."""
    deadline = time.monotonic() + 2 * TIMEOUT
    try:
        for process, folder in started:
            while process.poll() is None and time.monotonic() < deadline:
                meanwhile()
                time.sleep(1)
            status = process.poll()
            assert status == 0, (folder / "log.txt").read_text(errors="replace")[-6000:]
    finally:
        for process, _ in started:
            process.kill()
            process.wait()


def run(folder: Path, *arguments: str, devices: int = 1, **more: str) -> str:
    """Run Python with `arguments` where there is a software NPU; return what it says."""
    finish((start(folder, *arguments, devices=devices, **more), folder))
    return (folder / "log.txt").read_text(errors="replace")


def serve(folder: Path, *models: str, devices: int = 1, **more: str) -> str:
    """Serve models, each of which leaves a file in `folder`; return what is said."""
    return run(folder, _WORKER, str(folder), *models, devices=devices, **more)


def read(folder: Path) -> dict[str, Any]:
    """Return what the models left in `folder`."""
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def answers(folder: Path, quantized: Iterable[str]) -> Answers:
    """Serve all families, those of `quantized`, and what there is besides answering greedily."""
    models = {name: make(folder / "models" / name) for name, make in tiny.FAMILIES.items()}
    quantized = sorted(quantized)
    quantize_all(folder, quantized)
    floats = [str(models[name]) for name in FAMILIES]
    others = [str(folder / "models" / name) for name in quantized]
    more = {"FEATURES": "1", "IMAGES": str(make_llava(folder / "models" / "llava"))}
    runs: dict[str, tuple[list[str], dict[str, str]]] = {
        "npu": ([*floats, *others], more),
        "cpu": (floats, more | {"ASCEND_OVERLAY": "0"}),
        "cpu_overlaid": (others, {"ASCEND_OVERLAY": "-platform"}),
    }
    started = [
        (start(folder / name, _WORKER, str(folder / name), *chosen, **variables), folder / name)
        for name, (chosen, variables) in runs.items()
    ]
    finish(*started)
    log = (folder / "npu" / "log.txt").read_text(errors="replace")
    return Answers(read(folder / "npu"), read(folder / "cpu") | read(folder / "cpu_overlaid"), folder, log)


def quantize_all(folder: Path, names: Iterable[str]) -> None:
    """Quantize models in folder/models, FAMILY to FAMILY-SCHEME; what is run for that, on the NPU and side by side."""
    calibrated = []
    (folder / "texts.txt").write_text(_TEXTS)
    for name in names:
        family, _, scheme = name.partition("-")
        model, out = folder / "models" / family, folder / "models" / name
        if scheme != "w8a8":
            quantize(model, out, scheme)
            continue
        arguments = ("quantize", str(model), str(out), "--scheme", scheme, "--calibrate", str(folder / "texts.txt"))
        place = folder / f"quantize-{name}"
        calibrated.append((start(place, *COMMAND[1:], *arguments), place))
    finish(*calibrated)
    for _, place in calibrated:
        if "calibrated  2 prompts" not in (said := (place / "log.txt").read_text(errors="replace")):
            pytest.fail(said)
