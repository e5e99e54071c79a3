"""The cache: whole releases or none, for several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from releases_kit import index, sdist

from ascend_overlay.errors import ReleaseError
from ascend_overlay.releases import cache as kept
from ascend_overlay.releases import cached, find

Pip = Callable[..., None]


@pytest.fixture
def indexed(tmp_path: Path, pip: Pip) -> Path:
    """An index with 0.33.0; its archive."""
    archive = sdist(tmp_path, "0.33.0")
    pip(index_url=index(tmp_path / "index", archive))
    return archive


def test_a_file_that_somebody_removed_is_fetched_again(indexed: Path, cache: Path) -> None:
    (found,) = find(["0.33.0"])
    (found.folder / "engine" / "llm.py").unlink()
    assert cached() == []
    (again,) = find(["0.33.0"])
    assert (again.folder / "engine" / "llm.py").is_file() and cached() == ["0.33.0"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 99}', "\0", '{"format": 1, "files": "x"}'])
def test_a_marker_that_is_none(indexed: Path, cache: Path, text: str) -> None:
    (found,) = find(["0.33.0"])
    (found.folder.parent / "complete.json").write_text(text)
    assert cached() == []
    assert find(["0.33.0"])[0].sources.text("vllm.engine.llm") == "X = 1\n"


def test_an_interruption_leaves_nothing(indexed: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, calls = Path.write_bytes, []

    def interrupted(path: Path, data: bytes) -> int:
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", interrupted)
        with pytest.raises(KeyboardInterrupt):
            find(["0.33.0"])
    assert len(calls) == 2
    assert [path for path in cache.rglob("*") if path.is_file()] == [] and cached() == []
    assert find(["0.33.0"]) and cached() == ["0.33.0"]


def test_what_a_killed_process_left_is_cleared_away_later(indexed: Path, cache: Path) -> None:
    old, young = cache / "vllm" / ".scratch-old", cache / "vllm" / ".scratch-young"
    for folder in (old, young):
        folder.mkdir(parents=True)
        (folder / "x.py").touch()
    os.utime(old, (1, 1))
    find(["0.33.0"])
    assert not old.exists() and young.exists() and cached() == ["0.33.0"]


def test_several_processes_at_once(indexed: Path, cache: Path) -> None:
    code = "from ascend_overlay.releases import find; print(len(find(['0.33.0'])[0].tree.modules()))"
    each = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in each] == ["3\n"] * 2
    assert sorted(path.name for path in (cache / "vllm").iterdir()) == ["0.33.0"]


def test_a_cache_that_cannot_be_written(indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ReleaseError, match=r"releases cannot be kept in .*XDG_CACHE_HOME"):
        find(["0.33.0"])
    assert cached() == []


def test_a_disk_that_is_full(indexed: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(ReleaseError, match="No space left on device"):
            find(["0.33.0"])
    assert cached() == [] and [path for path in cache.rglob("*") if path.is_file()] == []


def test_a_folder_that_cannot_be_made_way_for(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(ReleaseError, match="Permission denied"):
        kept.keep(kept.of_release("vllm", "1"), "vllm", {"__init__.py": b""}, version="1")
