"""The kind call: what is done when a module is loaded, and its undo."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay, ref
from ascend_overlay.errors import ConfigError, OverlayError, TargetError
from ascend_overlay.patches import Applied, Call, Context
from ascend_overlay.places.slots import Slots

OURS = """
    done = []
    def do(): done.append("do"); return "token"
    def undo(token): done.append(("undo", token))
    def undo_plain(): done.append("undo")
    def undo_optional(token=None): done.append(("optional", token))
    def undo_any(*args): done.append(("any", args))
    def fails(): done.append("fails"); raise ValueError("no room")
    def undo_fails(token): done.append("undo fails"); raise KeyError("gone")
    def do_more(): done.append("more"); return None
    def needs(x): pass
    def needs_two(x, y): pass
    async def later(): done.append("never")
    def generator(): yield
    VALUE = 1
"""


@pytest.fixture(autouse=True)
def _packages(site: Any) -> None:
    site.write({"lib.py": "NAME = 1\n", "ours.py": OURS})


@pytest.fixture
def overlay(offer: Any) -> Overlay:
    overlay = Overlay("one", reason="a test")
    offer(overlay)
    return overlay


def load(*, early: bool = True) -> list[Any]:
    if early:
        importlib.import_module("lib")
    ascend_overlay.enable()
    importlib.import_module("lib")
    return list(importlib.import_module("ours").done)


UNDO = [
    ("ours:undo", ("undo", "token")),
    ("ours:undo_plain", "undo"),
    ("ours:undo_optional", ("optional", "token")),
    ("ours:undo_any", ("any", ("token",))),
]


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("target", ["lib", "lib:NAME"])
@pytest.mark.parametrize(("undo", "last"), UNDO)
def test_call(overlay: Overlay, early: bool, target: str, undo: str, last: Any) -> None:
    overlay.call(target, do="ours:do", undo=undo)
    assert load(early=early) == ["do"]
    entry = ascend_overlay.ledger().entries[0]
    assert (entry.state, entry.seam, entry.detail) == ("applied", "call", f"called: ours:do, taken back by {undo}")
    ascend_overlay.disable()
    assert importlib.import_module("ours").done == ["do", last]


def test_functions_at_hand(overlay: Overlay) -> None:
    done: list[Any] = []
    overlay.call("lib", do=lambda: done.append("do"), undo=done.append)
    load()
    ascend_overlay.disable()
    assert done == ["do", None]


def test_nothing_is_called_before_the_module_is_loaded(overlay: Overlay) -> None:
    overlay.call("lib", do="ours:do", undo="ours:undo")
    ascend_overlay.enable()
    assert "ours" not in sys.modules
    ascend_overlay.disable()
    assert "ours" not in sys.modules


def test_what_did_not_run_is_not_undone(overlay: Overlay) -> None:
    overlay.call("lib", do="ours:do", undo="ours:undo")
    overlay.call("lib", do="ours:fails", undo="ours:undo_plain")
    with pytest.raises(TargetError, match="the call ours:fails for lib failed: ValueError: no room"):
        load()
    assert importlib.import_module("ours").done == ["do", "fails", ("undo", "token")]


def test_an_undo_that_fails_stops_no_other(overlay: Overlay, caplog: pytest.LogCaptureFixture) -> None:
    overlay.call("lib", do="ours:do_more", undo="ours:undo_optional")
    overlay.call("lib", do="ours:do", undo="ours:undo_fails")
    overlay.attribute("lib:NAME", 2)
    load()
    with caplog.at_level(logging.ERROR, "ascend_overlay"):
        ascend_overlay.disable()
    assert importlib.import_module("ours").done == ["more", "do", "undo fails", ("optional", None)] or (
        importlib.import_module("ours").done == ["do", "more", ("optional", None), "undo fails"]
    )
    assert importlib.import_module("lib").NAME == 1
    lost = "the undo ours:undo_fails of the call ours:do failed, and what was done may still be in force"
    lost += ": KeyError: 'gone'"
    assert f"overlay 'one' (plugin 'plugin1'), lib: {lost}" in caplog.text
    states = {entry.reason: entry.state for entry in ascend_overlay.ledger()}
    assert states[lost] == "failed" and sorted(states.values()) == ["failed", "reverted"]
    caplog.clear()
    ascend_overlay.disable()
    assert caplog.text == ""


def test_an_undo_that_fails_on_the_way_to_another_module_hinders_nothing(overlay: Overlay) -> None:
    overlay.call("lib", do="ours:do", undo="ours:undo_fails")
    load()
    importlib.reload(importlib.import_module("lib"))
    assert importlib.import_module("ours").done == ["do", "undo fails", "do"]
    assert [entry.state for entry in ascend_overlay.ledger()] == ["applied"]


def test_what_cannot_be_taken_back_is_told(overlay: Overlay) -> None:
    overlay.call("lib", do="ours:do", irreversible=True)
    load()
    (entry,) = ascend_overlay.ledger().entries
    assert entry.notes == ["cannot be taken back: the overlay says that it is irreversible"]
    ascend_overlay.disable()
    (entry,) = ascend_overlay.ledger().entries
    assert entry.detail == "called: ours:do, which cannot be taken back"


REFUSED = [
    ("ours:needs", "ours:undo", "signature.*is given no argument"),
    ("ours:do", "ours:needs_two", "undo=.*signature.*what do returned, or nothing"),
    ("ours:VALUE", "ours:undo", "cannot be called"),
    ("ours:do", "ours:VALUE", "cannot be called"),
    ("ours:later", "ours:undo", "would do nothing: its kind is async function"),
    ("ours:do", "ours:generator", "would do nothing: its kind is generator"),
    ("ours:dooo", "ours:undo", "no 'dooo' there"),
    ("ours:do", "ours:undoo", "no 'undoo' there"),
]


@pytest.mark.parametrize(("do", "undo", "why"), REFUSED)
def test_refused(overlay: Overlay, do: Any, undo: Any, why: str) -> None:
    overlay.call("lib", do=do, undo=undo)
    with pytest.raises(OverlayError, match=f"(?s){why}"):
        load()
    assert "ours" not in sys.modules or importlib.import_module("ours").done == []


@pytest.mark.parametrize("target", ["lib:NAMEE", "libb"])
def test_what_is_waited_for_must_exist(overlay: Overlay, target: str) -> None:
    overlay.call(target, do="ours:do", undo="ours:undo")
    with pytest.raises(TargetError, match=target):
        load()


def test_declared_wrongly() -> None:
    overlay = Overlay("o", reason="a test")
    with pytest.raises(ConfigError, match=r"no undo: give undo=.*or say irreversible=True"):
        overlay.call("lib", do="a:b")
    with pytest.raises(ConfigError, match="has the undo 'a:c' and says"):
        overlay.call("lib", do="a:b", undo="a:c", irreversible=True)
    with pytest.raises(TargetError, match="without blanks"):
        overlay.call("lib x", do="a:b", undo="a:c")


def test_a_call_is_not_done_again_because_somebody_waits_for_its_module(overlay: Overlay, site: Any) -> None:
    """While the module of an implementation executes, each look at the ledger comes by the module of the target."""
    site.write({"late.py": "import ascend_overlay\nascend_overlay.enable()\nascend_overlay.ledger()\nNAME = 2\n"})
    overlay.call("lib", do="ours:do", undo="ours:undo")
    overlay.attribute("lib:NAME", ref("late:NAME"))
    importlib.import_module("lib")
    importlib.import_module("late")
    assert [entry.state for entry in ascend_overlay.ledger()] == ["applied", "applied"]
    assert importlib.import_module("ours").done == ["do"]


def test_functions_that_tell_no_signature_are_called_with_nothing(overlay: Overlay, caplog: Any) -> None:
    table: dict[str, int] = {}
    overlay.call("lib", do=table.update, undo=table.update)
    load()
    ascend_overlay.disable()
    assert table == {} and caplog.text == ""


@pytest.mark.parametrize("undo", ["ours:undo", "ours:undo_plain"])
def test_an_undo_runs_once_however_often_it_is_asked(undo: str) -> None:
    lib, ours = importlib.import_module("lib"), importlib.import_module("ours")
    slots = Slots()
    applied = Applied(slots)
    patch = Call(target="lib", do=ref("ours:do"), undo=ref(undo))
    patch.apply(lib, patch.load(), Context(slots, 0, "a test", {}), applied)
    (step,) = applied.undo
    step()
    step()
    assert len(ours.done) == 2


@pytest.mark.parametrize(("do", "undo", "named"), [(1, "ours:undo", "1"), ("ours:do", "text", "'text'")])
def test_what_cannot_be_called_is_said_before_the_import(do: Any, undo: str, named: str) -> None:
    patch = Call(target="lib", do=ref(do) if isinstance(do, str) else do, undo=ref(undo) if ":" in undo else undo)
    with pytest.raises(TargetError, match=f"the call for lib is {named}, which cannot be called"):
        patch.check()


def test_an_error_of_the_engine_is_raised_as_it_is(overlay: Overlay) -> None:
    def do() -> None:
        raise ConfigError("as it is")

    overlay.call("lib", do=do, irreversible=True)
    with pytest.raises(ConfigError, match=r"as it is$"):
        load()


@pytest.mark.parametrize("again", ["reload", "import"])
def test_a_call_is_undone_and_done_again_when_its_module_executes_again(overlay: Overlay, again: str) -> None:
    overlay.call("lib:NAME", do="ours:do", undo="ours:undo")
    overlay.attribute("lib:NAME", 2)
    load()
    if again == "reload":
        lib = importlib.reload(sys.modules["lib"])
    else:
        del sys.modules["lib"]
        lib = importlib.import_module("lib")
    ours = importlib.import_module("ours")
    assert ours.done == ["do", ("undo", "token"), "do"] and lib.NAME == 2
    assert [entry.state for entry in ascend_overlay.ledger()] == ["applied", "applied"]
    ascend_overlay.disable()
    assert ours.done[3:] == [("undo", "token")] and lib.NAME == 1
