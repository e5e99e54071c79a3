"""Whichever vLLM is installed: on an NPU, it answers as on the CPU, eagerly and by captured graphs.

`pytest -m release tests/e2e/test_npu_releases.py` in an environment with that vLLM; torch_npu is fetched.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from agreement import compared
from npu_runs import finish, read, run, start

from ascend_overlay import versions

pytestmark = [pytest.mark.grid, pytest.mark.release]

FAMILIES = ("llama3", "qwen3_moe", "deepseek_v2")
HOWS = ("eager", "default")
_HERE = Path(__file__).parent
MLA_ON_CPUS = ">=0.29"
"""Releases whose platform for CPUs has latent attention; the others compute it as plain attention there."""
PLAIN = {"VLLM_MLA_DISABLE": "1"}
"""Has vLLM make plain attention of latent attention."""
RELEASE = versions.release("vllm") or ""


def _served(overlay: str) -> bool:
    """Tell whether `overlay` is for the release that is installed."""
    return _admitted(importlib.import_module(f"ascend_overlay.overlays.{overlay}").overlay.ranges.get("vllm"))


def _admitted(text: str | None) -> bool:
    """Tell whether a range admits the release that is installed."""
    return versions.in_range(text, RELEASE, whose="this test")


Results = Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def on_both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Results]:
    """What is answered on the NPU, by family and how; and on the CPU by stock vLLM."""
    folder = tmp_path_factory.mktemp("releases")
    stock = {"ASCEND_OVERLAY": "0", "VLLM_TARGET_DEVICE": "cpu"} | ({} if _admitted(MLA_ON_CPUS) else PLAIN)
    ours = {} if _served("mla") else PLAIN
    cpu, npu = folder / "cpu", folder / "npu"
    runs = [f"{family}:{how}" for family in FAMILIES for how in HOWS]
    started = [
        (start(cpu, str(_HERE / "npu_worker.py"), str(cpu), *FAMILIES, **stock), cpu),
        (start(npu, str(_HERE / "npu_graphs_worker.py"), str(npu), *runs, **ours), npu),
    ]
    finish(*started)
    return read(npu), read(cpu)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("family", FAMILIES)
def test_it_answers_on_an_npu_as_on_the_cpu(
    on_both: tuple[Results, Results], family: str, how: str, record_property: pytest.RecordProperty
) -> None:
    ours, theirs = on_both[0][f"{family}-{how}"], on_both[1][family]
    assert theirs["platform"] == "CpuPlatform"
    # The run with graphs is asked more.
    known = len(theirs["tokens"])
    found = compared({key: ours[key][:known] for key in ("tokens", "likeliest")}, theirs)
    record_property("agreement", f"vLLM {RELEASE}, {family}, {how}: {found}")
    assert found.ties <= 1
    counts = ours["counts"]
    if how == "eager":
        assert (ours["graphs"], counts) == ("NONE", {})
    else:
        assert ours["graphs"] == "FULL_AND_PIECEWISE"
        assert counts["captured"] and counts["replayed"] and counts["updated"], counts


REFUSED = """
import sys
from pathlib import Path
from vllm.engine.arg_utils import EngineArgs
from ascend_overlay.commands.demo import tiny

try:
    EngineArgs(str(tiny.FAMILIES["deepseek_v2"](Path(sys.argv[1])))).create_engine_config()
except Exception as error:
    print("answer:", " ".join(str(error).split()))
else:
    print("answer: served")
"""


def test_latent_attention_is_served_or_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "refused.py").write_text(REFUSED)
    said = run(tmp_path, str(tmp_path / "refused.py"), str(tmp_path / "model"))
    (answer,) = [line for line in said.splitlines() if line.startswith("answer: ")]
    if _served("mla"):
        assert answer == "answer: served"
        return
    assert "on the NPU platform, a model with multi-head latent attention is not served with this vLLM: " in answer
    assert f"vllm {RELEASE} is installed" in answer and "VLLM_MLA_DISABLE=1" in answer
