"""check_settings(): whether what the settings ask for could be enabled, without enabling anything."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay, api, settings
from ascend_overlay.engine.engine import Engine
from ascend_overlay.errors import ConfigError, PluginError


@pytest.fixture
def declared(site: Any, offer: Any) -> None:
    site.write({"lib.py": "def run(): return 'stock'\n"})
    overlay = Overlay("one", reason="a test")
    overlay.replace("lib:run")(lambda: "ours")
    offer(overlay)


def check(engine: Engine, **arguments: Any) -> None:
    api.check_settings(engine.settings(**arguments))


def test_nothing_is_enabled(declared: None, engine: Engine, tmp_path: Path) -> None:
    environment = dict(os.environ)
    check(engine, only=["one"], ledger=str(tmp_path / "ledger"))
    assert settings.in_force() is None and dict(os.environ) == environment and "lib" not in sys.modules
    assert engine.journal.folder is None and list(ascend_overlay.ledger()) == []
    engine.journal.write()
    assert list((tmp_path / "ledger").glob("*.json")) == []


def test_what_is_wrong_is_raised(declared: None, engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no overlay 'tow' \(in only=\); there are: one"):
        check(engine, only=["tow"])
    with pytest.raises(PluginError, match="no module 'no_such_plugin'"):
        check(engine, load=["no_such_plugin"])
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file"):
        check(engine, ledger=str(tmp_path / "file"))
    assert engine.journal.folder is None


@pytest.mark.filterwarnings("error")
def test_the_strictness_of_those_settings_counts_and_of_no_others(declared: None, engine: Engine) -> None:
    with pytest.raises(RuntimeWarning, match="no module 'no_such_plugin'"):
        check(engine, load=["no_such_plugin"], strict=False)
    assert engine._complaints.settings.strict
    check(engine, only=["one"], strict=False)
    assert engine._complaints.settings.strict


def test_what_is_in_force_stays(declared: None, engine: Engine, tmp_path: Path) -> None:
    ascend_overlay.enable(ledger=str(tmp_path / "ledger"))
    before, folder = settings.in_force(), engine.journal.folder
    for other in (None, str(tmp_path / "other")):
        check(engine, only=["one"], ledger=other)
        assert settings.in_force() is before and engine.journal.folder is folder is not None
    assert list((tmp_path / "other").glob("*.json")) == []
    assert [entry.state for entry in ascend_overlay.ledger().of("one")] == ["pending"]
