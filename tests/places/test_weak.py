"""What weak containers hold of a patched class or function follows it, and comes back."""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.places import weak

LIB = """
    class Thing:
        def run(self): return "stock"
    class Derived(Thing): pass
    def run(): return "stock"
    class Plain: pass
"""
HOLDING = """
    import weakref, lib
    KEYS = weakref.WeakKeyDictionary({lib.Thing: "thing", lib.run: "run", lib.Plain: "plain"})
    VALUES = weakref.WeakValueDictionary({"Thing": lib.Thing, "run": lib.run, "Plain": lib.Plain})
    SET = weakref.WeakSet([lib.Thing, lib.run, lib.Plain])
    class Holder:
        def __init__(self): self.table = weakref.WeakKeyDictionary({lib.Thing: 1, lib.run: 1})
    LIVE = Holder()
"""
OURS = "import lib\nclass Ours(lib.Thing):\n    def run(self): return 'ours'\n"
PATCHES: dict[str, Callable[[Overlay], Any]] = {
    "Thing": lambda overlay: overlay.subclass("lib:Thing", "ours:Ours"),
    "run": lambda overlay: overlay.replace("lib:run")(lambda: "ours"),
}


@pytest.fixture
def held(site: Any, engine: object) -> Any:
    site.write({"lib.py": LIB, "holding.py": HOLDING, "ours.py": OURS})
    return importlib.import_module("holding")


@pytest.mark.parametrize("name", PATCHES)
def test_weak_containers_follow_and_come_back(held: Any, name: str) -> None:
    lib = importlib.import_module("lib")
    stock = vars(lib)[name]
    overlay = Overlay("one", reason="a test")
    PATCHES[name](overlay)

    def holds(what: object) -> bool:
        return (
            held.KEYS.get(what) == name.lower()
            and held.VALUES[name] is what
            and what in held.SET
            and what in held.LIVE.table
            and (len(held.KEYS), len(held.VALUES), len(held.SET), len(held.LIVE.table)) == (3, 3, 3, 2)
        )

    assert holds(stock)
    for _ in range(2):
        ascend_overlay.enable(overlay, propagate=False)
        assert vars(lib)[name] is not stock and holds(vars(lib)[name])
        copies = ascend_overlay.ledger().of("one")[-1].copies
        told = {f"holding.VALUES['{name}']", "a key of holding.KEYS", "holding.SET{}", "a key of a WeakKeyDictionary"}
        assert told <= set(copies)
        ascend_overlay.disable()
        assert vars(lib)[name] is stock and holds(stock)


def test_only_weak_containers_are_found() -> None:
    class Thing: ...

    class Derived(Thing): ...

    own = [weakref.ref(Thing), weakref.ref(Thing, lambda reference: None), weakref.proxy(Thing, print)]
    assert list(weak.holders(Thing)) == [] and own
    assert list(weak.holders(5)) == []
    kept = weakref.WeakSet([Thing])
    assert [name for name, _ in weak.holders(Thing)] == ["a WeakSet{}"] and kept
    del kept
    assert list(weak.holders(Thing)) == [] and Derived
