"""The command and the recorded schemas beside the genuine torch_npu."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from downloads import unavailable
from verify_kit import torch

from ascend_overlay.errors import ConfigError
from ascend_overlay.npu import schemas
from ascend_overlay.npu.genuine import meta, process, source
from ascend_overlay.npu.genuine import schemas as genuine
from ascend_overlay.npu.schemas.__main__ import record

CLASSES = "__torch__."
"""Four schemas with classes in them belong to another namespace, that of torch_npu's distributed part."""


@pytest.fixture(scope="module")
def torch_npu() -> Any:
    """The release that our schemas are from."""
    try:
        return source.find(schemas.HOME)
    except ConfigError as error:
        unavailable(str(error))


@pytest.fixture(scope="module")
def importable(torch_npu: Any) -> Any:
    """The same, where it can be imported, too."""
    if reason := process.obstacle(torch_npu):
        unavailable(reason)
    return torch_npu


@pytest.fixture(scope="module")
def quick(importable: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the real command says, one case for each operator or layer and dtype."""
    return _verify(tmp_path_factory.mktemp("verify"), "--quick")


def _verify(folder: Path, *options: str) -> Any:
    import subprocess

    command = [sys.executable, "-m", "ascend_overlay", "verify", "--torch-npu", schemas.HOME, "--json"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ASCEND_OVERLAY")}
    done = subprocess.run(
        [*command, *options], cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr[-6000:]
    return done, json.loads(done.stdout)


def _failing(data: Any) -> list[Any]:
    return [case for case in data["cases"] if case["verdict"] == "FAIL"]


@pytest.mark.vllm
def test_the_record_is_what_the_wheel_says(torch_npu: Any) -> None:
    assert record(schemas.HOME, torch_npu.folder) == schemas.releases()[schemas.HOME]


@pytest.mark.vllm
def test_what_is_read_from_the_library_is_what_torch_reports(importable: Any) -> None:
    found, with_meta = genuine.read(importable.folder)
    assert len(found) > 380
    said = meta.ask(importable, list(found), [])
    assert said.version.startswith(schemas.HOME)
    for name, text in found.items():
        if CLASSES not in text:
            assert said.schemas[name] == str(torch._C.parse_schema(text)), name
    assert said.meta == with_meta


@pytest.mark.vllm
def test_the_command_finds_nothing_wrong(quick: Any) -> None:
    done, data = quick
    assert done.returncode == 0, _failing(data)
    assert data["ok"] and data["missing"] == []
    assert data["torch_npu"]["meta_kernels_asked"] is True


@pytest.mark.vllm
def test_the_command_compares_every_operator_and_asks_torch_npu(quick: Any) -> None:
    _, data = quick
    operators = [case for case in data["cases"] if case["kind"] == "operator"]
    meta_kernels = schemas.releases()[schemas.HOME].meta
    for case in operators:
        assert case["torch_npu"] == ("same" if case["name"] in meta_kernels else "no meta"), case
    layers = [case for case in data["cases"] if case["kind"] == "layer"]
    assert {case["name"] for case in layers} >= {"SiluAndMul"}
    assert all(case["verdict"] == "ok" for case in layers)


@pytest.mark.e2e
def test_all_cases(importable: Any, tmp_path: Path) -> None:
    done, data = _verify(tmp_path)
    assert done.returncode == 0, _failing(data)
    assert data["ok"]
