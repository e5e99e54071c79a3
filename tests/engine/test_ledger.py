"""The ledger: states, JSON, files, table."""

from __future__ import annotations

import importlib
import json
import os
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import ConfigError
from ascend_overlay.ledgers import STATES, Ledger, read_folder


@pytest.fixture
def mixed(site: Any, offer: Any) -> Any:
    """A ledger with every state in it."""
    site.write({"lib.py": "def run(): return 'stock'\n", "user.py": "from lib import run\n", "later.py": ""})
    importlib.import_module("user")
    applied, skipped, failed, pending = (
        Overlay(name, reason=f"because of {name}") for name in ("applied", "skipped", "failed", "pending")
    )
    applied.wrap("lib:run")(lambda wrapped, instance, args, kwargs: wrapped())
    skipped.wrap("lib:run", when=ascend_overlay.conditions.predicate(lambda: False, "pigs fly"))(lambda *a: None)
    failed.wrap("lib:run")(lambda *a: None)
    failed.wrap("lib:missing")(lambda *a: None)
    pending.add("later:thing", 1)
    offer(applied, skipped, failed, pending, name="plug")
    with pytest.warns(RuntimeWarning):
        ascend_overlay.enable(strict=False)
    return ascend_overlay.ledger()


def test_every_state(mixed: Ledger) -> None:
    assert [entry.state for entry in mixed] == ["applied", "skipped", "reverted", "failed", "pending"]
    assert {entry.state for entry in mixed} == set(STATES)
    (applied,) = mixed.of("applied")
    assert applied.copies == ["user.run"] and applied.seconds > 0
    assert (applied.plugin, applied.kind, applied.target) == ("plug", "wrap", "lib:run")
    assert mixed.of("skipped")[0].reason == "not so that pigs fly"
    assert "taken back: lib:missing failed" in mixed.of("failed")[0].reason
    assert mixed.process["pid"] == os.getpid() and mixed.process["role"] == "main"


def test_json_goes_both_ways(mixed: Ledger) -> None:
    assert Ledger.from_dict(json.loads(mixed.to_json())) == mixed


def test_table_tells_it_all(mixed: Ledger) -> None:
    text = str(mixed)
    for part in ("applied", "skipped", "failed", "pending", "reverted", "lib:run", "lib:missing", "plug", "pigs fly"):
        assert part in text, text
    assert "1 copy re-bound" in text.replace("\n", " ")


def test_notes_are_kept_once(offer: Any) -> None:
    ascend_overlay.note("some_overlay", "something is deprecated")
    ascend_overlay.note("some_overlay", "something is deprecated")
    assert ascend_overlay.ledger().notes == (("some_overlay", "something is deprecated"),)
    assert "something is deprecated" in str(ascend_overlay.ledger())


def test_file_follows_every_change(site: Any, offer: Any, tmp_path: Any) -> None:
    site.write({"lib.py": "def run(): return 'stock'\n"})
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lib:run")(lambda wrapped, instance, args, kwargs: wrapped())
    offer(overlay)
    folder = tmp_path / "deep" / "ledgers"

    def state() -> str:
        (path,) = folder.glob("*")
        assert path.name == f"main-{os.getpid()}.json"
        (found,) = read_folder(folder)
        return found.of("one")[0].state

    ascend_overlay.enable(ledger=folder)
    assert state() == "pending"
    importlib.import_module("lib")
    assert state() == "applied"
    ascend_overlay.disable()
    assert state() == "reverted"


def test_folder_that_disappears_is_a_warning_not_a_crash(
    offer: Any, tmp_path: Any, site: Any, caplog: pytest.LogCaptureFixture
) -> None:
    import shutil

    site.write({"lib.py": "def run(): return 'stock'\n"})
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lib:run")(lambda wrapped, instance, args, kwargs: wrapped())
    offer(overlay)
    ascend_overlay.enable(ledger=tmp_path / "ledgers")
    shutil.rmtree(tmp_path / "ledgers")
    importlib.import_module("lib")
    assert "cannot be written any more" in caplog.text


@pytest.mark.parametrize("text", ["", "{", "[]", '{"process": {}}', '{"process": {}, "entries": [{"what": 1}]}'])
def test_file_that_is_no_ledger(tmp_path: Any, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ConfigError, match=r"report.json' is not a ledger.*ASCEND_OVERLAY_LEDGER alone"):
        read_folder(tmp_path)


def test_ledgers_come_in_the_order_of_their_start(mixed: Ledger, tmp_path: Any) -> None:
    for pid, started in ((30, "2026-01-01T00:00:02"), (20, "2026-01-01T00:00:03"), (10, "2026-01-01T00:00:03")):
        data = mixed.to_dict() | {"process": {**mixed.process, "pid": pid, "started": started}}
        (tmp_path / f"main-{pid}.json").write_text(json.dumps(data))
    assert [found.process["pid"] for found in read_folder(tmp_path)] == [30, 10, 20]


def test_undo_that_could_not_reach_somebody_is_told(site: Any, offer: Any) -> None:
    site.write(
        {
            "lib.py": "class Thing: pass\n",
            "ours.py": "from lib import Thing\nclass Ours(Thing): pass\n",
            "late.py": "import lib\nclass Keeper:\n    def __init__(self): self.cls = lib.Thing\nKEEPER = Keeper()\n",
        }
    )
    overlay = Overlay("one", reason="a test")
    overlay.subclass("lib:Thing", "ours:Ours")
    offer(overlay)
    ascend_overlay.enable()
    importlib.import_module("lib")
    importlib.import_module("late")
    ascend_overlay.disable()
    (entry,) = ascend_overlay.ledger()
    assert entry.state == "reverted" and "attribute cls of a live late.Keeper" in entry.stale
