"""A container that outlives the module it is reached by: one that takes it over, or imports it from elsewhere."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay

MAPPING, LIST, SET = "{'key': 'stock', 'other': 'stock'}", "['key', 'other']", "{'key', 'other'}"
CALLED = "lambda: 'stock'"
CLASS = "type('Thing', (), {'__module__': __name__, 'method': lambda self: 'stock'})"


def around(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return ("around", wrapped(*args, **kwargs))


LITERALS = {
    "wrapped function": (CALLED, lambda o: o.wrap("front:TABLE")(around), lambda f: f() == ("around", "stock")),
    "replaced function": (CALLED, lambda o: o.replace("front:TABLE")(lambda: "ours"), lambda f: f() == "ours"),
    "wrapped method": (
        CLASS,
        lambda o: o.wrap("front:TABLE.method")(around),
        lambda thing: thing().method() == ("around", "stock"),
    ),
    "attribute of a class": (CLASS, lambda o: o.add("front:TABLE.size", 5), lambda thing: thing.size == 5),
    "constant": ("1", lambda o: o.attribute("front:TABLE", 500), lambda number: number == 500),
    "item": (MAPPING, lambda o: o.item("front:TABLE", "new", 1), lambda table: table["new"] == 1),
    "item that is there": (MAPPING, lambda o: o.item("front:TABLE", "key", 1), lambda table: table["key"] == 1),
    "entry of a list": (LIST, lambda o: o.entry("front:TABLE", "new"), lambda table: table.count("new") == 1),
    "entry of a set": (SET, lambda o: o.entry("front:TABLE", "new"), lambda table: "new" in table),
    "entry of a deque": (
        f"__import__('collections').deque({LIST})",
        lambda o: o.entry("front:TABLE", "new"),
        lambda table: table.count("new") == 1,
    ),
    "entry of a tuple": ("('key', 'other')", lambda o: o.entry("front:TABLE", "new"), lambda t: t.count("new") == 1),
    "entry of a frozenset": (
        f"frozenset({LIST})",
        lambda o: o.entry("front:TABLE", "new"),
        lambda table: "new" in table,
    ),
    "removal from a mapping": (
        MAPPING,
        lambda o: o.remove("front:TABLE", key="key"),
        lambda table: "key" not in table,
    ),
    "removal from a list": (LIST, lambda o: o.remove("front:TABLE", key="key"), lambda table: "key" not in table),
    "removal from a set": (SET, lambda o: o.remove("front:TABLE", key="key"), lambda table: "key" not in table),
    "removal from a tuple": (
        "('key', 'other')",
        lambda o: o.remove("front:TABLE", key="key"),
        lambda t: "key" not in t,
    ),
}
FRONTS = {
    "taken over": "vars().setdefault('TABLE', {literal})",
    "from elsewhere": "from back import TABLE",
}


def again(way: str) -> Any:
    """Have the module executed once more, and return what it has then."""
    if way == "reload":
        importlib.reload(sys.modules["front"])
    else:
        del sys.modules["front"]
        importlib.import_module("front")
    return sys.modules["front"].TABLE  # type: ignore[attr-defined]


def seen(table: Any) -> Any:
    """Return what a table has, or what a function or class does."""
    if callable(table):
        return table().method() if isinstance(table, type) else table()
    return list(table.items()) if isinstance(table, dict) else table if isinstance(table, int) else list(table)


@pytest.mark.parametrize("way", ["reload", "import anew"])
@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("kind", LITERALS)
def test_what_is_in_a_container_stays_in_it_once(offer: Any, site: Any, kind: str, front: str, way: str) -> None:
    literal, declare, is_so = LITERALS[kind]
    site.write({"front.py": FRONTS[front].format(literal=literal) + "\n", "back.py": f"TABLE = {literal}\n"})
    overlay = Overlay("one", reason="a test")
    declare(overlay)
    offer(overlay)
    first = importlib.import_module("front").TABLE
    stock = seen(first)
    ascend_overlay.enable()
    for _ in range(2):
        assert is_so(again(way))
        (entry,) = ascend_overlay.ledger()
        assert entry.state == "applied", entry
    ascend_overlay.disable()
    assert seen(sys.modules["front"].TABLE) == stock  # type: ignore[attr-defined]
    assert seen(again(way)) == stock
    ascend_overlay.enable()
    assert is_so(sys.modules["front"].TABLE)  # type: ignore[attr-defined]


BACK = """
    import pydantic
    def run():
        word = "stock"
        return word
    class Thing:
        def method(self): return "stock"
    class Model(pydantic.BaseModel):
        size: int = 1
    spare = "stock"
"""
EXCHANGED = "import back as _back\nvars().update({k: v for k, v in vars(_back).items() if not k.startswith('_')})\n"
MADE: dict[str, tuple[Callable[[Overlay], object], Callable[[Any], object], object, object]] = {
    "edit": (
        lambda o: o.edit("front:run", find='word = "stock"', put='word = "edited"'),
        lambda front: front.run(),
        "edited",
        "stock",
    ),
    "edit of a method": (
        lambda o: o.edit("front:Thing.method", find='return "stock"', put='return "edited"'),
        lambda front: front.Thing().method(),
        "edited",
        "stock",
    ),
    "factory": (
        lambda o: o.factory("front:Thing")(lambda: "made"),
        lambda front: front.Thing() if isinstance(front.Thing(), str) else "stock",
        "made",
        "stock",
    ),
    "field of a model": (lambda o: o.field("front:Model.size", default=5), lambda front: front.Model().size, 5, 1),
    "removal of a name": (
        lambda o: o.remove("front:spare"),
        lambda front: vars(front).get("spare", "removed"),
        "removed",
        "stock",
    ),
}
ORDERS = {
    "reload of the front": ["reload front"],
    "import of the front": ["import front"],
    "reload of both": ["reload back", "reload front"],
    "import of both": ["import back", "import front"],
    "one after the other": ["import front", "reload back", "import front", "reload front"],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("front", ["from back import *", "vars().update"])
@pytest.mark.parametrize("kind", MADE)
def test_what_is_imported_from_elsewhere_is_patched_once(
    offer: Any, site: Any, kind: str, front: str, order: str
) -> None:
    declare, use, patched, stock = MADE[kind]
    site.write({"front.py": f"{front}\n" if front.startswith("from") else EXCHANGED, "back.py": BACK})
    overlay = Overlay("one", reason="a test")
    declare(overlay)
    offer(overlay)
    importlib.import_module("front")
    ascend_overlay.enable()
    assert use(sys.modules["front"]) == patched
    for step in ORDERS[order]:
        way, _, name = step.partition(" ")
        if way == "reload":
            importlib.reload(sys.modules[name])
        else:
            del sys.modules[name]
            importlib.import_module(name)
        (entry,) = ascend_overlay.ledger()
        assert (entry.state == "applied") == (use(sys.modules["front"]) == patched), (step, entry)
    assert use(sys.modules["front"]) == patched
    ascend_overlay.disable()
    assert use(sys.modules["front"]) == stock


def test_two_names_of_one_object_are_removed_and_come_back(offer: Any, site: Any) -> None:
    site.write({"front.py": "from back import spare\n", "back.py": "def spare(): return 'stock'\n"})
    names = {"one": "front", "two": "back"}
    for name, module in names.items():
        overlay = Overlay(name, reason="a test")
        overlay.remove(f"{module}:spare")
        offer(overlay)
    front, back = importlib.import_module("front"), importlib.import_module("back")
    stock = back.spare
    ascend_overlay.enable()
    assert not hasattr(front, "spare") and not hasattr(back, "spare")
    assert [entry.state for entry in ascend_overlay.ledger()] == ["applied", "applied"]
    ascend_overlay.disable(only=["one"])
    assert front.spare is stock and not hasattr(back, "spare")
    ascend_overlay.disable()
    assert front.spare is back.spare is stock
