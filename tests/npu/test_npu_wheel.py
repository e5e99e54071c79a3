"""The reference kernels beside the genuine torch_npu: same schemas, same shapes, and its registrations win."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from genuine_names import NO_META
from npu_kit import torch
from torch_npu_wheel import VERSION, fetched, prepared

from ascend_overlay.npu.reference import KERNELS, activation, normalization, rotary

pytestmark = pytest.mark.vllm

NAMES = [kernel.name for kernel in KERNELS]
HERE = Path(__file__).parent
_TIME = re.compile(r"[\d-]+:\d\d:\d\d")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Run a script of this folder with the genuine torch_npu; returns what it saved."""
    folder = tmp_path_factory.mktemp("torch_npu")
    with prepared(fetched()) as variables:
        yield functools.partial(_run, folder, variables)


def _run(folder: Path, variables: dict[str, str], script: str) -> Any:
    result = folder / f"{script}.pt"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ASCEND")}
    offline = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    done = subprocess.run(
        [sys.executable, str(HERE / f"{script}.py"), str(result)],
        env=clean | variables | offline,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return torch.load(result, weights_only=False)


@pytest.fixture(scope="module")
def genuine(wheel: Any) -> Any:
    """What genuine_operators.py found."""
    return wheel("genuine_operators")


def test_it_is_the_release_that_the_schemas_are_from(genuine: Any) -> None:
    assert genuine["version"].startswith(VERSION)


@pytest.mark.parametrize("name", NAMES)
def test_our_schema_is_torch_npus(genuine: Any, name: str) -> None:
    found = genuine["operators"][name]
    assert found["our schema"] == found["genuine schema"]


@pytest.mark.parametrize("name", NAMES)
def test_our_fake_kernel_announces_what_torch_npus_does(genuine: Any, name: str) -> None:
    found = genuine["operators"][name]
    assert found["meta before"] == (name not in NO_META)
    if name not in NO_META:
        assert found["our fake"] == found["genuine meta"]


def test_its_registrations_win(genuine: Any) -> None:
    assert genuine["defined"] == []
    assert genuine["notes"] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_cpu_kernel_stands_behind_the_genuine_schema(genuine: Any, name: str) -> None:
    found = genuine["operators"][name]
    assert found["cpu before"] is False
    for way in ("got", "by name", "compiled"):
        for ours, wanted in zip(found[way], found["wanted"], strict=True):
            assert torch.equal(ours, wanted), way
    assert set(found["checks"].values()) == {"SUCCESS"}


@pytest.mark.parametrize("name", NAMES)
def test_calls_of_either_kernel_are_counted(genuine: Any, name: str) -> None:
    found = genuine["operators"][name]
    assert found["counted on CPU"] == 1
    assert found["counted on NPU"] == 1
    assert found["error on NPU"], "without an NPU its kernel cannot have succeeded"


def test_afterwards_the_genuine_npu_kernel_is_back(genuine: Any) -> None:
    assert genuine["not counted"] == {}
    counted, bare = genuine["operators"]["npu_swiglu"]["error on NPU"], genuine["error without counting"]
    # Each says when it was raised.
    assert _TIME.sub("", bare) == _TIME.sub("", counted)


def test_the_layer_overlays_run_beside_it(wheel: Any) -> None:
    found = wheel("genuine_layers")
    assert found["platform"] == "cpu"
    assert found["torch_npu"].startswith(VERSION)
    assert found["states"] == ["applied"]
    counts = {name: count for name, count in found["counts"].items() if count}
    assert counts == {"npu_add_rms_norm": 1, "npu_mrope": 1, "npu_rms_norm": 1, "npu_swiglu": 1}
    x, ones = found["x"], torch.ones(64, dtype=torch.bfloat16)
    plain, with_residual, total = found["norm"]
    y, _, s = normalization.npu_add_rms_norm(x, x, ones, 1e-6)
    assert torch.equal(plain, normalization.npu_rms_norm(x, ones, 1e-6)[0])
    assert torch.equal(with_residual, y)
    assert torch.equal(total, s)
    assert torch.equal(found["gate"], activation.npu_swiglu(x))
    turned = rotary.npu_mrope(torch.arange(6), x, x, found["cache"], 64, rotary_mode="interleave")
    assert all(torch.equal(ours, wanted) for ours, wanted in zip(found["rope"], turned, strict=True))
