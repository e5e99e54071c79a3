"""Served with the setting fused_qkv: norms of queries and keys, rotary embedding and cache write in one operator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from agreement import compared
from grid import marks
from npu_runs import finish, read, start

from ascend_overlay.commands.demo import tiny

FAMILIES = ("qwen3", "qwen3_moe")
LAUNCHES = {"qwen3": 9, "qwen3_moe": 14}
"""Of a layer; docs/performance.md has them."""
ASKED = {"ASCEND_OVERLAY_FUSED_QKV": "1"}
_HERE = Path(__file__).parent
RUNS = ("eager", "default", "pieces", "compiled", "compiled_both", "decode", "every")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What stock vLLM on the CPU and the NPU with the setting answer, by model."""
    folder = tmp_path_factory.mktemp("fused")
    models = [str(tiny.FAMILIES[name](folder / "models" / name, head_dim=128)) for name in FAMILIES]
    runs: dict[str, dict[str, str]] = {"npu": ASKED, "cpu": {"ASCEND_OVERLAY": "0"}}
    worker = str(_HERE / "npu_worker.py")
    finish(
        *((start(folder / run, worker, str(folder / run), *models, **more), folder / run) for run, more in runs.items())
    )
    return {run: read(folder / run) for run in runs}


@pytest.mark.e2e
@pytest.mark.parametrize("family", FAMILIES)
def test_it_answers_as_stock_vllm_does(served: dict[str, dict[str, Any]], family: str) -> None:
    ours, theirs = served["npu"][family], served["cpu"][family]
    assert (ours["platform"], theirs["platform"]) == ("NPUPlatform", "CpuPlatform")
    assert compared(ours, theirs).ties <= 1
    assert max(ours["launches of a layer"]) == LAUNCHES[family]
    assert not any(ours["waits"])


@pytest.mark.parametrize("family", [pytest.param(name, marks=marks(reduced=name == "qwen3")) for name in FAMILIES])
def test_graphs_answer_as_no_graph_does(family: str, tmp_path: Path) -> None:
    """Padded batches, pieces and whole graphs, over new memory that is full of NaN."""
    hows = RUNS[:2] if family == "qwen3" else RUNS
    runs = [f"{family}_128:{how}" for how in hows]
    more = {**ASKED, "ASCEND_OVERLAY_NPU_POISON": "1"}
    finish((start(tmp_path, str(_HERE / "npu_graphs_worker.py"), str(tmp_path), *runs, **more), tmp_path))
    found = {how: json.loads((tmp_path / f"{family}_128-{how}.json").read_text()) for how in hows}
    for how in hows[1:]:
        assert found[how]["tokens"] == found["eager"]["tokens"], how
        for ours, theirs in zip(found[how]["logprobs"], found["eager"]["logprobs"], strict=True):
            # A step of bfloat16 or two, where a batch is padded.
            assert ours == pytest.approx(theirs, abs=0.06, rel=0), how
        assert found[how]["counts"]["replayed"], how
