"""vllm-ascend as a referee: what it serves on the software NPU is what stock vLLM says of the same models on the CPU.

Nothing of it is changed but what is compiled or a part of CANN, so the software NPU takes what production hands to a
card.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from laptop import BY_GRAPHS, EAGERLY, Laptop

pytestmark = pytest.mark.grid

_OPERATORS = {
    "llama3": {"npu_fused_infer_attention_score", "npu_scatter_pa_kv_cache", "npu_swiglu"},
    "qwen3": {"npu_fused_infer_attention_score", "npu_scatter_pa_kv_cache", "npu_swiglu"},
    "qwen3_moe": {"npu_fused_infer_attention_score", "npu_scatter_pa_kv_cache", "npu_moe_gating_top_k"},
    "deepseek_v2": {"npu_kv_rmsnorm_rope_cache", "npu_interleave_rope", "npu_moe_gating_top_k"},
}
"""Of each family, some of the operators that vllm-ascend serves it with."""
_TOLERANCE = 0.1
"""Nats. Both compute in bfloat16, and round in other places."""


@pytest.mark.parametrize("family", sorted(_OPERATORS))
@pytest.mark.parametrize("how", [EAGERLY, BY_GRAPHS], ids=["eagerly", "by graphs"])
def test_vllm_ascend_answers_as_vllm_does(family: str, how: dict[str, Any], laptop: Laptop, tmp_path: Path) -> None:
    stock = laptop.stock(family)
    served = laptop.on_the_npu(family, how, tmp_path / "ledger", tmp_path / "report")

    assert stock["platform"] == "vllm.platforms.cpu.CpuPlatform"
    assert served["platform"] == "vllm_ascend.platform.NPUPlatform"
    assert (stock["devices"], served["devices"]) == (["cpu"], ["npu:0"])
    assert served["tokens"] == stock["tokens"]
    # The tokens of a tiny model say little of its attention, their log probabilities much.
    largest = max(abs(x - y) for x, y in zip(served["logprobs"], stock["logprobs"], strict=True))
    assert largest <= _TOLERANCE, f"log probabilities are up to {largest} nats apart"
    assert bool(served["replays"]) == (how is BY_GRAPHS)
    # What is particular about production: keys and values of a block lie side by side.
    assert all(served["caches with strides"]) == (family != "deepseek_v2")

    called = _called(tmp_path / "report")
    assert called >= _OPERATORS[family], f"of {sorted(_OPERATORS[family])}, {sorted(called)} were called"
    assert _states(tmp_path / "ledger") == {"applied"}


def _called(folder: Path) -> set[str]:
    """Return the names of torch_npu's operators that a process called."""
    found: set[str] = set()
    for file in folder.glob("*.json"):
        operators: Any = json.loads(file.read_text())["operators"]
        found |= {str(row["operator"]).removeprefix("npu::").partition(".")[0] for row in operators}
    return found


def _states(folder: Path) -> set[str]:
    """Return what became of the stand-ins in the process that served."""
    (ledger,) = (json.loads(file.read_text()) for file in folder.glob("*.json"))
    return {entry["state"] for entry in ledger["entries"] if entry["overlay"] == "vllm_ascend_stand_ins"}
