"""The native parts are built once, by whoever comes first; and what is said where they cannot be."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from software_kit import Software

from ascend_overlay.errors import ConfigError
from ascend_overlay.npu.software import build, cache

MAKES = """
import sys, time
from pathlib import Path
from ascend_overlay.npu.software import cache

def make(folder):
    (folder / "half").touch()
    time.sleep(0.5)
    with open(sys.argv[2], "a") as log:
        log.write("made ")
    (folder / "whole").touch()

print((cache.made(Path(sys.argv[1]), make) / "whole").exists())
"""


def test_two_processes_make_it_once(python: Any, tmp_path: Path) -> None:
    folder, log = tmp_path / "cache" / "parts", tmp_path / "log"
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda _: python("-c", MAKES, str(folder), str(log)).stdout, range(3)))
    assert done == ["True\n"] * 3
    assert log.read_text() == "made "
    assert sorted(path.name for path in folder.parent.iterdir()) == [".parts.lock", "parts"]


def test_what_was_not_finished_is_not_there(tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        (folder / "half").touch()
        raise ConfigError("no")

    with pytest.raises(ConfigError, match="no"):
        cache.made(tmp_path / "parts", fails)
    assert not (tmp_path / "parts").exists()
    assert [path.name for path in tmp_path.iterdir()] == [".parts.lock"]


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="let XDG_CACHE_HOME name a folder"):
        cache.made(tmp_path / "file" / "parts", lambda folder: None)


def test_the_cache_is_where_others_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.home() == tmp_path / "ascend_overlay" / "software_npu"


def _run(python: Any, **env: str) -> str:
    done = python.command("run", "--npu", "software", "true", env=env, check=False)
    assert done.returncode == 1, done.stderr
    return str(done.stderr)


def test_without_torch_npu(python: Any) -> None:
    text = _run(python)
    assert "the software NPU runs the genuine torch_npu, which is not installed" in text
    assert "pip install --no-deps 'torch_npu==" in text


def test_a_torch_npu_of_another_torch(site: Any, python: Any) -> None:
    site.write({"torch_npu/__init__.py": "", "torch_npu/version.py": "__version__ = '2.9.0'\n"})
    text = _run(python)
    assert "torch_npu 2.9.0 cannot be imported beside torch" in text
    assert "of the same release" in text


def _genuine(site: Any) -> None:
    """Let a torch_npu that fits seem to be installed."""
    from ascend_overlay import versions

    torch = versions.installed("torch")
    assert torch is not None
    site.write({"torch_npu/__init__.py": "", "torch_npu/version.py": f"__version__ = '{torch.partition('+')[0]}'\n"})


@pytest.fixture
def no_tools(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("missing", build.TOOLS)
def test_without_a_tool(site: Any, python: Any, no_tools: Path, tmp_path: Path, missing: str) -> None:
    _genuine(site)
    for tool in build.TOOLS:
        if tool != missing:
            _write_tool(no_tools / tool, "exit 0")
    text = _run(python, PATH=str(no_tools), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert f"{missing} is not there to do it. Install {build.TOOLS[missing]}" in text


def test_a_compiler_that_fails(site: Any, python: Any, no_tools: Path, tmp_path: Path) -> None:
    _genuine(site)
    _write_tool(no_tools / "readelf", "exit 0")
    for compiler in ("gcc", "g++"):
        _write_tool(no_tools / compiler, "echo 'runtime.h:1: error: I am not well' >&2; exit 3")
    text = _run(python, PATH=f"{no_tools}:{os.environ['PATH']}", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert "the software NPU cannot be built: gcc ended with status 3" in text
    assert "I am not well" in text


def _write_tool(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_other_sources_are_another_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ascend_overlay.npu.genuine.source import TorchNpu

    genuine, newer = TorchNpu(tmp_path, "2.13.0"), TorchNpu(tmp_path, "2.13.1")
    (tmp_path / "one.c").write_text("int one;")
    monkeypatch.setattr(build, "_NATIVE", tmp_path)
    first = build._key(genuine, ("*.c",))
    assert build._key(genuine, ("*.c",)) == first != build._key(newer, ("*.c",))
    (tmp_path / "one.c").write_text("int two;")
    assert build._key(genuine, ("*.c",)) != first


def test_the_runtime_warns_of_nothing(software: Software) -> None:
    sources = [str(path) for path in sorted(build._NATIVE.glob("*.c"))]
    flags = ["-fsyntax-only", "-Wall", "-Wextra", "-Wno-unused-parameter", "-D_GNU_SOURCE"]
    done = subprocess.run(["gcc", *flags, *sources], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_the_sources_are_in_the_wheel() -> None:
    # As it is installed, or from the checkout: what is not package data is found in neither.
    assert {"module.cpp", "runtime.h", "streams.c"} <= {path.name for path in build._NATIVE.iterdir()}
    assert sys.prefix
