"""A stock vLLM on device "npu" with nothing but torch_npu and this library, beside its own platform for CPUs.

`pytest -m e2e` runs the reduced form of the quantized models; `pytest -m grid tests/e2e` every family in every scheme.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from agreement import TOLERANCE, compared
from grid import marks
from npu_runs import FAMILIES, QUANTIZED, REDUCED, Answers, read, run, serve

PERFORMANCE = Path(__file__).parents[2] / "docs" / "performance.md"
COUNTED = ("llama3", "qwen3_moe", "deepseek_v2")


@pytest.mark.e2e
@pytest.mark.parametrize("family", FAMILIES)
def test_it_answers_as_stock_vllm_does_on_the_cpu(
    on_npu: Answers, family: str, record_property: pytest.RecordProperty
) -> None:
    ours, theirs = on_npu.npu[family], on_npu.cpu[family]
    assert (ours["platform"], ours["devices"]) == ("NPUPlatform", ["npu:0"])
    assert theirs["platform"] == "CpuPlatform"
    found = compared(ours, theirs)
    record_property("agreement", f"{family}: {found}")
    # Whichever of two equally likely tokens is taken, it is seldom.
    assert found.ties <= 1


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(reduced=name in REDUCED)) for name in QUANTIZED])
def test_quantized_it_answers_as_the_same_overlays_do_on_the_cpu(
    on_npu: Answers, name: str, record_property: pytest.RecordProperty
) -> None:
    ours, theirs = on_npu.npu[name], on_npu.cpu[name]
    assert (ours["platform"], ours["devices"]) == ("NPUPlatform", ["npu:0"])
    assert theirs["platform"] == "CpuPlatform"
    assert ours["quantization"] == theirs["quantization"] == "ascend"
    # The same operators do the same. Gemma 2's attention is vLLM's own on the CPU; a rounding may be a step of int8.
    found = compared(ours, theirs, 2 * TOLERANCE if name.startswith("gemma2") else TOLERANCE / 10)
    record_property("agreement", f"{name}: {found}")
    assert found.ties == 0


@pytest.mark.e2e
@pytest.mark.parametrize("family", COUNTED)
def test_a_layer_launches_what_is_written(on_npu: Answers, family: str) -> None:
    # The values of the last request are in one piece by themselves, so its step may have one less.
    assert max(on_npu.npu[family]["launches of a layer"]) == _documented(family, 2)


@pytest.mark.e2e
@pytest.mark.parametrize("family", COUNTED)
def test_around_the_forward_is_launched_what_is_written(on_npu: Answers, family: str) -> None:
    # These requests ask for log probabilities, so the choice of their tokens is not counted: it is three in the figure.
    assert set(on_npu.npu[family]["launches around"]) == {_documented(family, 5) - 3}


@pytest.mark.e2e
@pytest.mark.parametrize("family", COUNTED)
def test_the_host_waits_for_nothing_in_a_forward(on_npu: Answers, family: str) -> None:
    waits = on_npu.npu[family]["waits"]
    assert len(waits) >= 16 and not any(waits)


def _documented(family: str, column: int) -> int:
    """Return the launches that docs/performance.md has, with all overlays."""
    section = PERFORMANCE.read_text(encoding="utf-8").partition("\n## Launches\n")[2].partition("\n## ")[0]
    # The table behind is of a setting.
    row, *_ = [line for line in section.splitlines() if line.startswith(f"| {family} |")]
    return int(row.split("|")[column])


@pytest.mark.e2e
def test_it_does_without_vllms_compiled_parts(on_npu: Answers, tmp_path: Path) -> None:
    """As a vLLM that was built with VLLM_TARGET_DEVICE=empty is without them."""
    serve(tmp_path, str(on_npu.folder / "models" / "llama3"), BARE="1")
    assert read(tmp_path)["llama3"] == on_npu.npu["llama3"]


@pytest.mark.e2e
def test_two_devices_answer_as_one_does(on_npu: Answers, tmp_path: Path) -> None:
    """With nothing asked for but the devices: in captured graphs."""
    said = serve(tmp_path, str(on_npu.folder / "models" / "llama3"), devices=2, RANKS="2")
    found = read(tmp_path)["llama3"]
    assert found["platform"] == "NPUPlatform"
    assert compared(found, on_npu.npu["llama3"]).ties == 0
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


@pytest.mark.e2e
def test_what_is_not_served_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "refused.py").write_text(REFUSED)
    said = run(tmp_path, str(tmp_path / "refused.py"), str(tmp_path / "model"))
    lines = [line.removeprefix("answer: ") for line in said.splitlines() if line.startswith("answer: ")]
    assert len(lines) == 9, said
    for line, word in zip(lines, ("sleep", "LoRA", "float32", "fp8", "fp8", "4 devices", "inductor"), strict=False):
        assert "on the NPU platform, " in line and word in line, lines
    assert "FULL_AND_PIECEWISE" in lines[7].upper() and lines[7].endswith(" 128"), lines
    assert lines[8] == "ascend_overlay.overlays.platform.worker.NPUWorker True", lines
