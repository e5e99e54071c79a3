"""A cache of the test's own, and a pip that is configured for what the test says."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


class Onlooker:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps: list[tuple[str, int, int | None]] = []

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)

    def progress(self, what: str, done: int, total: int | None) -> None:
        self.steps.append((what, done, total))


@pytest.fixture
def onlooker() -> Onlooker:
    """A watcher."""
    return Onlooker()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the releases that are kept: empty, and the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ascend_overlay" / "releases"


@pytest.fixture(autouse=True)
def pip(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Configure pip, by its variables alone: `pip(index_url=...)`; at first, for no index at all."""
    for name in list(os.environ):
        if name.startswith("PIP_") or name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name)

    def configure(**options: str) -> None:
        for name in list(os.environ):
            if name.startswith("PIP_"):
                monkeypatch.delenv(name)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        for name, value in options.items():
            monkeypatch.setenv(f"PIP_{name.upper()}", value)

    configure(no_index="1")
    return configure
