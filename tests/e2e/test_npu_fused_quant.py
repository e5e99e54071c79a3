"""Norms and activations that quantize what they return, beside the same model in single steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from agreement import compared
from npu_runs import finish, quantize_all, read, start

from ascend_overlay.commands.demo import tiny

pytestmark = pytest.mark.grid

LAUNCHES = {
    "llama3-w8a8_dynamic": (12, 15),
    "qwen3-w8a8_dynamic": (14, 17),
    "qwen3_moe-w8a8_dynamic": (19, 20),
    "deepseek_v2-w8a8_dynamic": (24, 27),
    "llama3-w8a8": (13, 15),
    "qwen3-w8a8": (15, 17),
}
"""Of a layer, by default and with fused_quant off; docs/performance.md has those of W8A8_DYNAMIC."""
APART = {"ASCEND_OVERLAY_FUSED_QUANT": "0"}
EXPERTS = {"qwen3_moe-w8a8_dynamic": 18, "deepseek_v2-w8a8_dynamic": 23}
"""With the setting fused_experts."""
_HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The models, quantized."""
    folder = tmp_path_factory.mktemp("models")
    for family in {name.partition("-")[0] for name in LAUNCHES}:
        tiny.FAMILIES[family](folder / "models" / family)
    quantize_all(folder, LAUNCHES)
    return {name: folder / "models" / name for name in LAUNCHES}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, models: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """What the models answer on the NPU, with and without, by model."""
    folder = tmp_path_factory.mktemp("fused")
    runs: dict[str, dict[str, str]] = {
        "together": {},
        "apart": APART,
        "experts": {"ASCEND_OVERLAY_FUSED_EXPERTS": "1"},
    }
    worker = str(_HERE / "npu_worker.py")
    for run, more in runs.items():
        finish((start(folder / run, worker, str(folder / run), *map(str, models.values()), **more), folder / run))
    return {run: read(folder / run) for run in runs}


@pytest.mark.parametrize("model", LAUNCHES)
def test_it_answers_as_single_steps_do(served: dict[str, dict[str, Any]], model: str) -> None:
    together, apart = served["together"][model], served["apart"][model]
    assert together["platform"] == apart["platform"] == "NPUPlatform"
    # What is not rounded in between is another step of int8 now and then.
    assert compared(together, apart, 0.1).ties <= 1
    assert (max(together["launches of a layer"]), max(apart["launches of a layer"])) == LAUNCHES[model]


@pytest.mark.parametrize("model", EXPERTS)
def test_experts_in_one_operator_answer_as_single_steps_do(served: dict[str, dict[str, Any]], model: str) -> None:
    found, apart = served["experts"][model], served["apart"][model]
    assert compared(found, apart, 0.1).ties <= 1
    assert max(found["launches of a layer"]) == EXPERTS[model]


@pytest.mark.parametrize("model", ["qwen3-w8a8_dynamic", "deepseek_v2-w8a8_dynamic", "qwen3-w8a8"])
def test_graphs_answer_as_no_graph_does(models: dict[str, Path], model: str, tmp_path: Path) -> None:
    """Pieces and whole graphs, over new memory that is full of NaN, and what the compiler traces."""
    hows = ("eager", "default", "compiled_both")
    runs = [f"{models[model]}:{how}" for how in hows]
    worker = str(_HERE / "npu_graphs_worker.py")
    finish((start(tmp_path, worker, str(tmp_path), *runs, ASCEND_OVERLAY_NPU_POISON="1"), tmp_path))
    found = {how: json.loads((tmp_path / f"{model}-{how}.json").read_text()) for how in hows}
    for how in hows[1:]:
        assert found[how]["tokens"] == found["eager"]["tokens"], how
        assert found[how]["counts"]["replayed"], how
