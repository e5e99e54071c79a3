"""The built-in overlays on the vLLM that is installed, whichever of the releases it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ascend_overlay import versions

from .releases import RELEASES

pytestmark = [pytest.mark.grid, pytest.mark.release]

_PROBE = Path(__file__).with_name("in_force.py")
_LEFT_OUT = {"release", "condition"}


def _run(*arguments: str, timeout: float = 1200) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=timeout, cwd=_PROBE.parent
    )


def test_it_is_one_of_the_releases(record_property: Any) -> None:
    release = versions.installed("vllm")
    record_property("vllm", release)
    record_property("torch", versions.installed("torch"))
    assert release in RELEASES


def test_every_patch_is_in_force_or_for_another_release(record_property: Any) -> None:
    done = _run(str(_PROBE))
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    wrong = [each for each in found if each[3] != "applied" and each[4] not in _LEFT_OUT]
    assert wrong == []
    applied = {each[0] for each in found if each[3] == "applied"}
    record_property("overlays", ", ".join(sorted(applied)))
    assert {"layernorm", "activation", "rotary", "moe", "quantization", "attention"} <= applied


def test_check_finds_nothing_that_breaks() -> None:
    done = _run("-m", "ascend_overlay", "check", "--json")
    (found,) = json.loads(done.stdout)["releases"]
    broken = [each for each in found["overlays"] if each["state"] == "breaks" and each["left_out"] is None]
    assert broken == [], done.stderr[-4000:]
    # What its range leaves out is a failure, too: on such a release one does without it.
    assert done.returncode == int(any(each["left_out"] for each in found["overlays"]))


def test_operators_and_layers_agree_with_stock(record_property: Any) -> None:
    done = _run("-m", "ascend_overlay", "verify", "--json")
    found = json.loads(done.stdout)
    bad = [case for case in found["cases"] if case["verdict"] == "FAIL"]
    assert (done.returncode, bad) == (0, []), done.stderr[-4000:]
    skipped = [case["skipped"] for case in found["cases"] if case["skipped"]]
    record_property("compared", len(found["cases"]) - len(skipped))
    for sentence in dict.fromkeys(skipped):
        record_property("left out", f"{skipped.count(sentence)}: {sentence}")
    # A release may lack a layer or two; most are there.
    assert len(skipped) < len(found["cases"]) / 10


def test_the_demo(record_property: Any) -> None:
    done = _run("-m", "ascend_overlay", "demo", "--json")
    assert done.returncode == 0, (done.stdout[-4000:], done.stderr[-4000:])
    found = json.loads(done.stdout)
    assert [check["name"] for check in found["checks"] if not check["ok"]] == []
    record_property("demo", found["environment"]["run"].partition(",")[0])
    record_property("checks", len(found["checks"]))
