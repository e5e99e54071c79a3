"""Places and holders that refuse to be changed, or to be changed back: said, never hidden, and finished later."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay, api
from ascend_overlay.errors import OverlayError

LIBRARY = """
    class Refused(Exception): pass
    class Stubborn(Exception): pass
    REFUSE = []
    def check(what):
        if REFUSE and REFUSE[0] == what: raise Refused(what)

    class Table(dict):
        def __setitem__(self, key, value):
            check("set"); dict.__setitem__(self, key, value)
        def __delitem__(self, key):
            check("delete"); dict.__delitem__(self, key)
    class Rows(list):
        def __setitem__(self, index, value):
            check("set"); list.__setitem__(self, index, value)
        def __delitem__(self, index):
            check("delete"); list.__delitem__(self, index)
        def insert(self, index, value):
            check("set"); list.insert(self, index, value)
    class Settings:
        def __init__(self): self.__dict__["mode"] = "stock"
        def __setattr__(self, name, value):
            check("set"); object.__setattr__(self, name, value)
        def __delattr__(self, name):
            check("delete"); object.__delattr__(self, name)
    class Equal:
        def __eq__(self, other): raise Refused("eq")
        __hash__ = None
    def run(): return "stock"
    TABLE, ROWS, SETTINGS = Table(key="stock"), Rows(["stock"]), Settings()
    EQUALS = {"key": Equal(), "other": run}
    HOLDS = Table(run=run)
"""


@pytest.fixture
def lib(site: Any) -> Any:
    """The module that is patched."""
    site.write({"lib.py": LIBRARY})
    return importlib.import_module("lib")


KINDS = {
    "item": (lambda o: o.item("lib:TABLE", "key", "ours"), lambda m: m.TABLE["key"], "ours"),
    "new item": (lambda o: o.item("lib:TABLE", "new", "ours"), lambda m: m.TABLE.get("new", "stock"), "ours"),
    "entry": (lambda o: o.entry("lib:ROWS", "ours"), lambda m: m.ROWS[-1], "ours"),
    "attribute": (lambda o: o.attribute("lib:SETTINGS.mode", "ours"), lambda m: m.SETTINGS.mode, "ours"),
    "added attribute": (
        lambda o: o.add("lib:SETTINGS.new", "ours"),
        lambda m: vars(m.SETTINGS).get("new", "stock"),
        "ours",
    ),
}


def declared(kind: str) -> Overlay:
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lib:run")(lambda wrapped, instance, args, kwargs: "ours")
    KINDS[kind][0](overlay)
    return overlay


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_place_that_refuses_to_be_changed(lib: Any, offer: Any, kind: str, strict: bool) -> None:
    _, use, patched = KINDS[kind]
    offer(declared(kind))
    lib.REFUSE.append("set")
    if strict:
        with pytest.raises(OverlayError, match=r"overlay 'one'.*Refused: set"):
            ascend_overlay.enable()
    else:
        with pytest.warns(RuntimeWarning, match=r"overlay 'one'.*Refused: set"):
            ascend_overlay.enable(strict=False)
    assert use(lib) == "stock" and lib.run() == "stock" and lib.HOLDS["run"] is lib.run
    assert {entry.state for entry in ascend_overlay.ledger().of("one")} == {"reverted", "failed"}
    lib.REFUSE.clear()
    ascend_overlay.disable()
    ascend_overlay.enable()
    assert use(lib) == patched and lib.run() == "ours"
    ascend_overlay.disable()
    assert use(lib) == "stock" and lib.run() == "stock"


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_place_that_refuses_to_be_changed_back(lib: Any, offer: Any, kind: str, strict: bool) -> None:
    _, use, patched = KINDS[kind]
    offer(declared(kind))
    ascend_overlay.enable(strict=strict)
    lib.REFUSE.append("delete" if "ew" in kind or kind in ("entry", "added attribute") else "set")
    if strict:
        with pytest.raises(OverlayError, match=r"overlay 'one'.*refuses to be changed back.*Refused.*next disable\(\)"):
            ascend_overlay.disable()
    else:
        with pytest.warns(RuntimeWarning, match="refuses to be changed back"):
            ascend_overlay.disable()
    # The rest is taken back, and the ledger tells which is not.
    assert lib.run() == "stock" and use(lib) == patched
    states = {entry.kind: entry.state for entry in ascend_overlay.ledger().of("one")}
    assert states.pop("wrap") == "reverted" and set(states.values()) == {"failed"}
    lib.REFUSE.clear()
    ascend_overlay.disable()
    assert use(lib) == "stock"
    assert list(api._engine._patcher.slots) == []
    ascend_overlay.enable()
    assert use(lib) == patched and lib.run() == "ours"
    ascend_overlay.disable()
    assert use(lib) == "stock" and lib.run() == "stock"


def test_what_refuses_while_a_failed_overlay_is_taken_back(lib: Any, offer: Any, site: Any) -> None:
    site.write({"spoils.py": "import lib\nlib.REFUSE.append('delete')\n", "later.py": "def run(): ...\n"})
    overlay = Overlay("one", reason="a test")
    overlay.item("lib:TABLE", "new", "ours")
    overlay.replace("later:run", "spoils:missing")
    offer(overlay)
    ascend_overlay.enable()
    assert lib.TABLE["new"] == "ours"
    with (
        pytest.warns(RuntimeWarning, match=r"overlay 'one'.*refuses to be changed back"),
        pytest.raises(OverlayError, match=r"overlay 'one'.*spoils:missing"),
    ):
        importlib.import_module("later")
    assert lib.TABLE["new"] == "ours"
    lib.REFUSE.clear()
    ascend_overlay.disable()
    assert "new" not in lib.TABLE and lib.run() == "stock" and list(api._engine._patcher.slots) == []


def test_a_holder_that_refuses_is_named_and_the_others_follow(lib: Any, offer: Any) -> None:
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lib:run")(lambda wrapped, instance, args, kwargs: "ours")
    offer(overlay)
    lib.REFUSE.append("set")
    ascend_overlay.enable()
    (entry,) = ascend_overlay.ledger()
    assert entry.state == "applied" and lib.run() == "ours"
    assert any("lib.HOLDS" in text and "Refused" in text for text in entry.stale + entry.notes), entry
    assert lib.HOLDS["run"]() == "ours" and lib.EQUALS["other"]() == "ours"
    ascend_overlay.disable()
    assert lib.HOLDS["run"]() == "stock" and lib.EQUALS["other"]() == "stock" and lib.run() == "stock"
    lib.REFUSE.clear()
    assert lib.HOLDS["run"] is lib.run


@pytest.mark.parametrize("strict", [True, False])
def test_a_failed_enable_over_a_wrapped_target(lib: Any, offer: Any, site: Any, strict: bool) -> None:
    site.write({"user.py": "from lib import run\nTABLE = {'run': run}\n"})
    user = importlib.import_module("user")
    good, bad = Overlay("good", reason="a test"), Overlay("bad", reason="a test")
    good.wrap("lib:run")(lambda wrapped, instance, args, kwargs: f"good({wrapped()})")
    bad.wrap("lib:run")(lambda wrapped, instance, args, kwargs: f"bad({wrapped()})")
    bad.wrap("lib:missing")(lambda wrapped, instance, args, kwargs: None)
    offer(good, bad)
    ascend_overlay.enable(only=["good"])
    for _ in range(2):
        if strict:
            with pytest.raises(OverlayError):
                ascend_overlay.enable(only=["bad"])
        else:
            with pytest.warns(RuntimeWarning, match="missing"):
                ascend_overlay.enable(only=["bad"], strict=False)
            ascend_overlay.disable(only=["bad"])
        assert lib.run() == "good(stock)"
        assert user.run is lib.run and user.TABLE["run"] is lib.run
    ascend_overlay.disable()
    assert lib.run() == "stock" and user.run is lib.run and user.TABLE["run"] is lib.run


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("hook", ["applied", "reverted", "failed"])
def test_a_hook_that_raises(lib: Any, offer: Any, hook: str, strict: bool) -> None:
    def raises(**arguments: Any) -> None:
        raise ZeroDivisionError("the hook")

    if hook == "failed":
        function: Any = lambda entry, error: raises()  # noqa: E731
    else:
        function = lambda entry: raises()  # noqa: E731
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lib:missing" if hook == "failed" else "lib:run")(lambda wrapped, instance, args, kwargs: "ours")
    offer(overlay, **{hook: function})
    if strict:
        with pytest.raises(OverlayError):
            ascend_overlay.enable()
            ascend_overlay.disable()
    else:
        with pytest.warns(RuntimeWarning, match="the hook"):
            ascend_overlay.enable(strict=False)
            ascend_overlay.disable()
    ascend_overlay.disable()
    assert lib.run() == "stock" and list(api._engine._patcher.slots) == []
    assert {entry.state for entry in ascend_overlay.ledger().of("one")} <= {"reverted", "failed"}
