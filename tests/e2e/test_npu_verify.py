"""`ascend-overlay verify` where there is an NPU: its own rows for it, whatever vLLM is built for."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from e2e_kit import COMMAND, TIMEOUT, environment
from grid import marks
from software_npu import with_an_npu

_WITHOUT = (str(Path(__file__).with_name("verify_without_devices.py")),)


def _verified(folder: Path, *python: str, **more: str) -> dict[str, Any]:
    command, variables = with_an_npu(*python, "verify", "--quick", "--json")
    env = environment(folder, **more) | variables
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.stdout, done.stderr[-6000:]
    found: dict[str, Any] = json.loads(done.stdout)
    failed = [case for case in found["cases"] if case["verdict"] == "FAIL"]
    assert (done.returncode, found["ok"], failed) == (0, True, []), failed
    for kind in ("operator", "NPU", "layer", "NPU layer"):
        assert sum(case["kind"] == kind and case["verdict"] == "ok" for case in found["cases"]) >= 60, kind
    return found


@pytest.mark.parametrize(
    "more",
    [
        # The platform is there, and stock vLLM must be stock all the same.
        pytest.param({}, id="platform", marks=marks(reduced=True)),
        pytest.param({"VLLM_PLUGINS": "none"}, id="no platform", marks=marks(reduced=False)),
    ],
)
def test_all_rows_pass_but_attention_which_is_of_the_cpu(tmp_path: Path, more: dict[str, str]) -> None:
    for case in _verified(tmp_path, *COMMAND[1:], **more)["cases"]:
        if case["verdict"] == "skipped":
            assert case["kind"] == "NPU layer" and case["overlay"] in ("attention", "mla")
            assert case["skipped"].startswith("attention is compared on the CPU alone")


@pytest.mark.e2e
def test_a_vllm_that_was_built_for_no_device_has_rows_that_say_what_it_lacks(tmp_path: Path) -> None:
    reasons: dict[str, set[str]] = {}
    for case in _verified(tmp_path, *_WITHOUT)["cases"]:
        if case["verdict"] == "skipped":
            reasons.setdefault(case["name"], set()).add(case["skipped"].rpartition("torch.ops.")[2])
            assert "stock vLLM computes it by its compiled parts" in case["skipped"] or case["kind"] == "NPU layer"
    assert reasons["RotaryEmbedding"] == {"_C.rotary_embedding."}
    assert reasons["UnquantizedFusedMoEMethod"] == {"_C.prepack_moe_weight."}
    # What vLLM has in PyTorch, too, is compared.
    assert not reasons.keys() & {"RMSNorm", "SiluAndMul", "UnquantizedLinearMethod"}
