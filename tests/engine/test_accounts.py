"""The heap is searched only where somebody holds a patched object whom nobody knows of."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay, ref
from ascend_overlay.places import holders

LIB = """
    import enum, functools
    class Base:
        def inherited(self): return "stock"
    class Thing(Base):
        def method(self): return "stock"
        @staticmethod
        def static(): return "stock"
        @classmethod
        def of_class(cls): return "stock"
        @property
        def value(self): return "stock"
        def other(self): return "stock"
    class Derived(Thing): pass
    class Further(Derived): pass
    def run(x=1): return "stock"
    def default(function, x=(1, 2), *, y={"a": 1}):
        return function
    def circular(): return "stock"
    circular.step = functools.partial(print)
    circular.step.__setstate__((functools.partial(circular.step), (), {}, {}))
    class Number(enum.Enum):
        ONE = 1
    def hook(x=1): return "stock"
    HOOK = hook
"""
OURS = """
    from lib import Thing
    class Ours(Thing): pass
    def make(*args): return Thing
"""


def around(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return wrapped(*args, **kwargs)


PATCHES: dict[str, Callable[[Overlay], Any]] = {
    "a function": lambda o: o.wrap("lib:run")(around),
    "one with defaults": lambda o: o.wrap("lib:default")(around),
    "a replaced function": lambda o: o.replace("lib:run")(lambda x=1: "ours"),
    "a method": lambda o: o.wrap("lib:Thing.method")(around),
    "a replaced method": lambda o: o.replace("lib:Thing.method")(lambda self: "ours"),
    "a static method": lambda o: o.wrap("lib:Thing.static")(around),
    "a class method": lambda o: o.wrap("lib:Thing.of_class")(around),
    "a property": lambda o: o.wrap("lib:Thing.value")(around),
    "an inherited method": lambda o: o.wrap("lib:Thing.inherited")(around),
    "two members": lambda o: [o.wrap(f"lib:Thing.{name}")(around) for name in ("method", "other")],
    "a class": lambda o: o.subclass("lib:Thing", "ours:Ours"),
    "an edited function": lambda o: o.edit("lib:default", find="return function", put="return (function, x)"),
    "a function with a circle": lambda o: o.wrap("lib:circular")(around),
    "an enumeration": lambda o: o.member("lib:Number.TWO", 2),
    "a factory": lambda o: o.factory("lib:Thing", "ours:make"),
    "an attribute": lambda o: o.attribute("lib:HOOK", ref("ours:make"), as_is=True),
    "a new member": lambda o: o.add("lib:Thing.new", lambda self: 1),
}
KNOWN = {
    "nobody": "",
    "a module": "from lib import run, default, Thing\n",
    "another name": "import lib\nfirst, second, third = lib.run, lib.default, lib.Thing\n",
}


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    referrers = holders.referrers

    def counted(objects: list[Any]) -> list[Any]:
        found.append(1)
        return referrers(objects)

    monkeypatch.setattr(holders, "referrers", counted)
    return found


@pytest.mark.parametrize("held", KNOWN)
@pytest.mark.parametrize("case", PATCHES)
def test_nothing_is_searched_where_all_holders_are_known(
    site: Any, offer: Any, searches: list[Any], case: str, held: str
) -> None:
    site.write({"lib.py": LIB, "user.py": KNOWN[held], "ours.py": OURS})
    for name in ("lib", "user"):
        importlib.import_module(name)
    one, two = Overlay("one", reason="a test"), Overlay("two", reason="a test")
    PATCHES[case](one)
    two.wrap("lib:Thing.other" if case == "a class" else "lib:run")(around)
    offer(one, two)
    counts = []
    for step in (
        lambda: ascend_overlay.enable(only=["one"]),
        lambda: ascend_overlay.enable(only=["one", "two"]),
        lambda: ascend_overlay.disable(only=["one"]),
        lambda: ascend_overlay.disable(),
    ):
        searches.clear()
        step()
        counts.append(len(searches))
    if case == "a class":
        # The patch of a member moves from one class to another.
        del counts[2]
    assert set(counts) == {0}


HIDDEN = {
    "a key": "X = {run: 1}\n",
    "a closure": "def make(f): return lambda: f()\nX = make(run)\n",
    "an object": "class K:\n    def __init__(self): self.f = run\nX = K()\n",
    "a partial": "import functools\nX = functools.partial(run)\n",
    "a list": "X = [run]\n",
    "a default": "def f(f=run): ...\n",
    "a class": "class K:\n    f = staticmethod(run)\n",
}


@pytest.mark.parametrize("case", HIDDEN)
def test_who_is_not_known_is_found_however_it_holds_it(site: Any, offer: Any, case: str, searches: list[Any]) -> None:
    site.write({"lib.py": LIB, "user.py": f"from lib import run\n{HIDDEN[case]}"})
    user = importlib.import_module("user")
    one = Overlay("one", reason="a test")
    PATCHES["a function"](one)
    offer(one)
    ascend_overlay.enable()
    (entry,) = ascend_overlay.ledger()
    # Beside the module, one more.
    assert searches and user.run is sys.modules["lib"].run and len({*entry.copies, *entry.notes}) == 2
    ascend_overlay.disable()
    assert user.run is sys.modules["lib"].run and user.run() == "stock"


def test_it_is_searched_where_somebody_is_not_known(site: Any, offer: Any, searches: list[Any]) -> None:
    site.write({"lib.py": LIB, "user.py": "from lib import run\nTABLE = {run: 1}\n"})
    importlib.import_module("user")
    one = Overlay("one", reason="a test")
    PATCHES["a function"](one)
    offer(one)
    ascend_overlay.enable()
    assert searches and next(iter(sys.modules["user"].TABLE))() == "stock"
    assert ascend_overlay.ledger().entries[0].notes == ["met in the function itself: a key of user.TABLE"]
