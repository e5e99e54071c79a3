"""The shapes in a running engine: vLLM starts its processes, each is patched for its own part and says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from shape_kit import MODULES, OVERLAYS

from ascend_overlay.commands.demo.tiny import make_llama
from ascend_overlay.ledgers import Ledger, read_folder

pytestmark = pytest.mark.e2e

# Only what leaves a real run alone: shape 6 replaces sampling, and shape 7 a method of the scheduler.
CHOSEN = tuple(name for name in OVERLAYS if name not in ("shape_06", "shape_07", "shape_09"))


def main(model: str, folder: Path) -> None:
    """Generate a few tokens with the overlays of all shapes, and write what is to be known of them."""
    import ascend_overlay

    ascend_overlay.enable(load=MODULES, only=[*CHOSEN, "roles"], ledger=folder / "ledgers")
    from vllm import LLM, SamplingParams

    llm = LLM(
        model,
        # On a CPU with AMX, vLLM's attention in bfloat16 uses tiles that nothing in so small a model has asked for.
        dtype="float32",
        max_model_len=64,
        max_num_seqs=2,
        enforce_eager=True,
        skip_tokenizer_init=True,
        additional_config={"shape_04_fp32_logits": True},
    )
    adapted = llm.llm_engine.vllm_config.additional_config.get("adapted")
    outputs = llm.generate(
        {"prompt_token_ids": [5, 6, 7]}, SamplingParams(temperature=0, max_tokens=4, detokenize=False)
    )
    result = {"tokens": len(outputs[0].outputs[0].token_ids), "adapted": adapted}
    (folder / "result.json").write_text(json.dumps(result))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Ledger]]:
    folder = tmp_path_factory.mktemp("engine")
    model = make_llama(folder / "model")
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parent),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    script = folder / "program.py"
    script.write_text(
        "import pathlib\nimport test_shapes_in_an_engine as tests\n"
        f"if __name__ == '__main__':\n    tests.main({str(model)!r}, pathlib.Path({str(folder)!r}))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, text=True, capture_output=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    ledgers = {str(ledger.process["role"]): ledger for ledger in read_folder(folder / "ledgers")}
    return json.loads((folder / "result.json").read_text()), ledgers


def state(ledger: Ledger, overlay: str, ending: str) -> str:
    return next(entry.state for entry in ledger.of(overlay) if entry.target.endswith(ending))


def test_the_engine_generates(run: Any) -> None:
    assert run[0] == {"tokens": 4, "adapted": True}


def test_nothing_failed_anywhere(run: Any) -> None:
    ledgers = run[1]
    assert {"main", "engine_core", "worker"} <= set(ledgers)
    for ledger in ledgers.values():
        assert [entry.target for entry in ledger if entry.state not in ("applied", "pending", "skipped")] == []


def test_engine_core_passed_the_three_wrappers_in_order(run: Any) -> None:
    passed = [overlay for overlay, text in run[1]["engine_core"].notes if text == "passed"]
    assert passed == ["shape_08_outer", "shape_08_middle", "shape_08_inner"]


def test_the_worker_clamped_its_row_parallel_layers(run: Any) -> None:
    assert ("shape_11", "clamped RowParallelLinear") in run[1]["worker"].notes
    assert ("shape_11", "clamped RowParallelLinear") not in run[1]["main"].notes


def test_the_option_reached_the_layer_in_the_worker(run: Any) -> None:
    assert ("shape_04", "logits in fp32") in run[1]["worker"].notes


@pytest.mark.parametrize(
    ("role", "core", "worker"),
    [("main", "skipped", "skipped"), ("engine_core", "applied", "skipped"), ("worker", "skipped", "applied")],
)
def test_each_process_has_its_own_patch(run: Any, role: str, core: str, worker: str) -> None:
    ledger = run[1][role]
    assert state(ledger, "shape_13", "EngineCore.step") == core
    assert state(ledger, "shape_13", "WorkerBase.get_model") == worker
    assert state(ledger, "shape_13_alone", "IntermediateTensors.items") == "applied"
