"""vLLM's own test suite: fetched with the source distribution of the installed release, not kept in this repository."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from downloads import unavailable

from ascend_overlay import versions

_BACKEND = """
from pathlib import Path


def prepare_metadata_for_build_wheel(directory, settings=None):
    folder = Path(directory, "vllm-{version}.dist-info")
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\\nName: vllm\\nVersion: {version}\\n")
    return folder.name
"""


def fetch(scratch: Path) -> Path:
    """Return a folder with vLLM's package `tests`; skip the test where it cannot be had.

    It is kept in the cache of the tox environment where there is one, else in `scratch`.
    """
    version = versions.installed("vllm")
    cache = Path(os.environ["XDG_CACHE_HOME"]) if os.environ.get("XDG_CACHE_HOME") else scratch
    folder = cache / f"vllm-{version}-tests"
    if not (folder / "tests").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as name:
            _unpack(_download(str(version), Path(name)), Path(name))
            (Path(name) / f"vllm-{version}" / "tests").rename(folder / "tests")
    return folder


def _download(version: str, scratch: Path) -> Path:
    # pip asks the build backend of a source distribution for its metadata, and vLLM's needs torch, CMake and Rust. One
    # of ours, of the same name, answers in its place: nothing of what is downloaded gets run.
    backend = scratch / "backend" / "setuptools"
    backend.mkdir(parents=True)
    (backend / "__init__.py").touch()
    (backend / "build_meta.py").write_text(_BACKEND.format(version=version), encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-build-isolation", "--no-binary", "vllm", "--dest", str(scratch), f"vllm=={version}"]
    environment = os.environ | {"PYTHONPATH": str(backend.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    found = sorted(scratch.glob("vllm-*.tar.gz"))
    if done.returncode or not found:
        unavailable(f"the source distribution of vLLM {version} cannot be downloaded: {done.stderr[-300:].strip()}")
    return found[0]


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as source:
        wanted = [member for member in source if member.name.split("/")[1:2] == ["tests"]]
        source.extractall(folder, wanted, filter="data")
