"""What somebody else does to a patched place that has no slot of its own is said in a sentence, by each kind."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay, ref

LIB = """
    import collections, dataclasses, enum
    from typing import Literal, NamedTuple, TypedDict
    SIZES = Literal["small"]
    NAMES, SET, TUPLE, TABLE = ["a"], {"a"}, ("a", "b"), {"a": 1, "b": 2}
    NUMBER = 1
    class Thing:
        def run(self): return "stock"
        def other(self): return "other"
    class Layer:
        def __init__(self, size): self.size = size
    def run(): return "stock"
    def other(): return "other"
    @dataclasses.dataclass
    class Row:
        size: int = 1
        more: int = 1
    class Keys(TypedDict):
        size: int
    class Pair(NamedTuple):
        first: int
        size: int = 1
"""
OURS = "TEXT, VALUE = 'large', object()\nclass Holder:\n    VALUE = object()\ndef build(size): return 'built'\n"


def replaces(name: str, value: Any) -> Callable[[Any], None]:
    """Return what puts `value` under a name of the module."""

    def step(lib: Any) -> None:
        *owners, last = name.split(".")
        for owner in owners:
            lib = getattr(lib, owner)
        setattr(lib, last, value)

    return step


EDIT = {"find": "return 'stock'", "put": "return 'ours'"}
CASES: dict[str, tuple[Callable[[Overlay], Any], Callable[[Any], Any], str | None]] = {
    "an entry": (
        lambda o: o.entry("lib:NAMES", "x"),
        lambda lib: lib.NAMES.remove("x"),
        "lib:NAMES does not have the entry 'x' any more",
    ),
    "an entry that is an object": (
        lambda o: o.entry("lib:NAMES", ref("ours:Holder.VALUE")),
        lambda lib: lib.NAMES.pop(),
        "lib:NAMES does not have the entry ours:Holder.VALUE any more",
    ),
    "an entry whose name leads nowhere": (
        lambda o: o.entry("lib:NAMES", ref("ours:Holder.VALUE")),
        lambda lib: delattr(sys.modules["ours"].Holder, "VALUE"),
        None,
    ),
    "an entry of what holds nothing": (
        lambda o: o.entry("lib:NAMES", "x"),
        replaces("NAMES", 5),
        "lib:NAMES holds 5 now, which has no entries",
    ),
    "an entry of another list that has it": (lambda o: o.entry("lib:NAMES", "x"), replaces("NAMES", ["x"]), None),
    "a removed entry": (
        lambda o: o.remove("lib:NAMES", key="a"),
        lambda lib: lib.NAMES.append("a"),
        "lib:NAMES has the entry 'a' again",
    ),
    "a removed object": (
        lambda o: o.remove("lib:LIST", key=ref("ours:VALUE")),
        lambda lib: lib.LIST.append(sys.modules["ours"].VALUE),
        "lib:LIST has the entry ours:VALUE again",
    ),
    "an edited function": (
        lambda o: o.edit("lib:run", **EDIT),
        replaces("run", 5),
        "lib:run leads to another function now: 5",
    ),
    "an edited function by another one": (
        lambda o: o.edit("lib:run", **EDIT),
        lambda lib: setattr(lib, "run", lib.other),
        r"lib:run leads to another function now: lib:other from .*lib\.py:\d+",
    ),
    "an edited method": (
        lambda o: o.edit("lib:Thing.run", **EDIT),
        lambda lib: setattr(lib.Thing, "run", lib.Thing.other),
        r"lib:Thing.run leads to another function now: lib:Thing.other from .*lib\.py:\d+",
    ),
    "an edited method of what is derived": (
        lambda o: o.edit("lib:Thing.run", **EDIT),
        lambda lib: setattr(lib, "Thing", type("Thing", (lib.Thing,), {})),
        None,
    ),
    "other code": (
        lambda o: o.edit("lib:run", **EDIT),
        lambda lib: setattr(lib.run, "__code__", lib.other.__code__),
        r"somebody else has given lib:run other code since, from .*lib\.py:\d+",
    ),
    "a factory": (
        lambda o: o.factory("lib:Layer", "ours:build"),
        replaces("Layer", len),
        "lib:Layer is builtins:len now, which is called without the function being asked",
    ),
    "a field": (
        lambda o: o.field("lib:Row.size", default=5),
        lambda lib: lib.Row.__dataclass_fields__.pop("size"),
        "lib:Row.size is no longer the field that the overlay made",
    ),
    "a key": (
        lambda o: o.field("lib:Keys.size", annotation=str),
        lambda lib: lib.Keys.__annotations__.update(size=int),
        "lib:Keys.size is no longer the field that the overlay made",
    ),
    "what leads to an entry": (
        lambda o: o.entry("lib:NAMES", "x"),
        lambda lib: delattr(lib, "NAMES"),
        "lib:NAMES leads nowhere any more: .*NAMES",
    ),
    "what leads to a removed entry": (
        lambda o: o.remove("lib:NAMES", key="a"),
        lambda lib: delattr(lib, "NAMES"),
        "lib:NAMES leads nowhere any more: .*NAMES",
    ),
    "a removed entry of what holds nothing": (
        lambda o: o.remove("lib:NAMES", key="a"),
        replaces("NAMES", 5),
        "lib:NAMES holds 5 now, which has no entries",
    ),
    "what leads to an edited method": (
        lambda o: o.edit("lib:Thing.run", **EDIT),
        lambda lib: delattr(lib, "Thing"),
        "lib:Thing.run leads nowhere any more: .*Thing",
    ),
    "what leads to a factory": (
        lambda o: o.factory("lib:Layer", "ours:build"),
        lambda lib: delattr(lib, "Layer"),
        "lib:Layer leads nowhere any more: .*Layer",
    ),
    "a value of a Literal": (
        lambda o: o.entry("lib:SIZES", ref("ours:TEXT")),
        lambda lib: lib.SIZES,
        None,
    ),
    "another field": (
        lambda o: o.field("lib:Row.size", default=5),
        lambda lib: lib.Row.__dataclass_fields__["more"],
        None,
    ),
}


@pytest.fixture
def lib(site: Any, engine: object) -> Any:
    site.write({"lib.py": LIB + "    from ours import VALUE\n    LIST = [VALUE]\n", "ours.py": OURS})
    return importlib.import_module("lib")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("declare", "somebody", "sentence"), CASES.values(), ids=CASES)
def test_what_somebody_did_is_said(lib: Any, offer: Any, declare: Any, somebody: Any, sentence: str | None) -> None:
    overlay = Overlay("one", reason="a test")
    declare(overlay)
    offer(overlay)
    ascend_overlay.enable(foreign="accept", propagate=False)
    assert [entry.state for entry in ascend_overlay.ledger()] == ["applied"]
    somebody(lib)
    (entry,) = ascend_overlay.ledger()
    if sentence is None:
        assert (entry.state, entry.notes) == ("applied", [note for note in entry.notes if "effect" not in note])
        return
    assert entry.state in ("without effect", "displaced"), entry
    assert any(__import__("re").search(sentence, note) for note in entry.notes), entry.notes


@pytest.mark.parametrize("kind", [name for name, case in CASES.items() if case[2] is not None])
def test_nobody_misses_a_patch_of_a_module_that_is_gone(lib: Any, offer: Any, kind: str) -> None:
    overlay = Overlay("one", reason="a test")
    CASES[kind][0](overlay)
    offer(overlay)
    ascend_overlay.enable(propagate=False)
    del sys.modules["lib"]
    (entry,) = ascend_overlay.ledger()
    assert entry.state == "applied", entry
    sys.modules["lib"] = lib
