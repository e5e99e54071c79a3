"""Who follows a patch without being its target, and who does not, is in the ledger by name."""

from __future__ import annotations

import importlib
import inspect
import sys
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay

LIB = """
    from dataclasses import dataclass
    from pydantic import BaseModel
    from pydantic.dataclasses import dataclass as compiled
    EMPTY, FROZEN = (), frozenset()
    class Thing:
        def run(self): return "stock"
        def __eq__(self, other): return True
        __hash__ = None
    class Derived(Thing):
        def run(self): return "derived"
    class Hashed:
        limit = 98765
        def run(self): return "stock"
    @dataclass
    class Row:
        size: int = 1
    @compiled
    class Compiled(Row):
        more: int = 1
    @dataclass
    class Written(Row):
        more: int = 1
    class Config(BaseModel):
        size: int = 1
    class Holding(BaseModel):
        config: Config = Config()
    class Plain: pass
    CONSTANT, SHARED = 12345, [1]
    def function(): return "stock"
"""
COPIES = "from lib import CONSTANT, EMPTY, FROZEN, SHARED, Plain, function\nOTHER, limit = EMPTY, 98765\n"
OURS = """
    import lib
    class OurConfig(lib.Config):
        size: int = 5
    class OurPlain(lib.Plain): pass
    class OurThing(lib.Thing):
        def run(self): return "ours"
"""


@pytest.fixture
def lib(site: Any, engine: object) -> Any:
    site.write({"lib.py": LIB, "copies.py": COPIES, "ours.py": OURS})
    importlib.import_module("copies")
    return sys.modules["lib"]


def entered(overlay: Overlay) -> Any:
    ascend_overlay.enable(overlay, propagate=False)
    return ascend_overlay.ledger().of(overlay.name)[-1]


@pytest.fixture
def overlay() -> Overlay:
    return Overlay("one", reason="a test")


@pytest.mark.parametrize(("name", "new"), [("EMPTY", ("x",)), ("FROZEN", frozenset("x"))])
def test_what_is_empty_may_be_a_copy_and_is_left_alone(lib: Any, overlay: Overlay, name: str, new: Any) -> None:
    overlay.entry(f"lib:{name}", "x")
    entry = entered(overlay)
    assert getattr(lib, name) == new and not getattr(sys.modules["copies"], name)
    assert entry.stale == [f"copies.{name} (as empty as what was copied, perhaps a copy)"] and entry.copies == []
    ascend_overlay.disable()
    assert not getattr(lib, name)


CONSTANTS = [
    ("CONSTANT", 54321, ["copies.CONSTANT"]),
    ("SHARED", [2], ["copies.SHARED"]),
    ("function", len, []),
    ("Hashed.limit", 56789, []),
]


@pytest.mark.parametrize(("path", "value", "told"), CONSTANTS)
def test_who_imported_a_constant_follows(lib: Any, overlay: Overlay, path: str, value: Any, told: list[str]) -> None:
    overlay.attribute(f"lib:{path}", value, as_is=callable(value))
    entry = entered(overlay)
    assert entry.stale == [] and [each for each in told if each not in entry.copies] == []


def test_a_constructor_that_pydantic_compiled_is_told(lib: Any, overlay: Overlay) -> None:
    met: list[str] = []

    @overlay.wrap("lib:Row.__init__")
    def note(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        met.append(type(instance).__name__)
        return wrapped(*args, **kwargs)

    entry = entered(overlay)
    assert entry.stale == ["lib.Compiled.__init__ (compiled by pydantic)"]
    assert entry.copies == ["lib.Written.__init__ (generated)"]
    assert (lib.Row(), lib.Written(), lib.Compiled()) and met == ["Row", "Written"]


def test_a_replaced_constructor_names_all_that_do_not_call_it(lib: Any, overlay: Overlay) -> None:
    overlay.replace("lib:Row.__init__")(lambda self, size=1: setattr(self, "size", size + 1))
    suffix = "(generated, does not call that of its base)"
    assert sorted(entered(overlay).stale) == [f"lib.{name}.__init__ {suffix}" for name in ("Compiled", "Written")]
    assert (lib.Row().size, lib.Written().size) == (2, 1)


@pytest.mark.parametrize(("name", "rebuilt"), [("Config", ["lib.Config, ours.OurConfig, lib.Holding"]), ("Plain", [])])
def test_validators_that_embed_a_class_are_rebuilt(lib: Any, overlay: Overlay, name: str, rebuilt: list[str]) -> None:
    overlay.subclass(f"lib:{name}", f"ours:Our{name}")
    notes = entered(overlay).notes
    assert [note for note in notes if "rebuilt" in note] == [f"pydantic validators rebuilt: {each}" for each in rebuilt]
    assert not rebuilt or lib.Holding(config={}).config.size == 5


@pytest.mark.parametrize(("name", "told"), [("Thing", False), ("Hashed", True)])
@pytest.mark.parametrize("kind", ["replace", "attribute"])
def test_a_class_keeps_its_hash(lib: Any, overlay: Overlay, kind: str, name: str, told: bool) -> None:
    as_it_is = {} if kind == "replace" else {"as_is": True}
    getattr(overlay, kind)(f"lib:{name}.__eq__", lambda self, other: False, **as_it_is)
    note = "__hash__ stays as it is: only a class body with __eq__ and without it sets it to None"
    assert (note in entered(overlay).notes) is told


def test_an_edit_of_a_method_that_a_stand_in_has_of_its_own(lib: Any, overlay: Overlay) -> None:
    overlay.subclass("lib:Thing", "ours:OurThing")
    overlay.edit("lib:Thing.run", find="return 'stock'", put="return 'edited'")
    entry = entered(overlay)
    note = (
        "ours:OurThing, which stands in for the class, has a run of its own; the edit is met where that calls super()"
    )
    assert note in entry.notes
    assert lib.Thing().run() == "ours" and super(lib.Thing, lib.Thing()).run() == "edited"


def test_an_edit_of_what_a_stand_in_inherits(lib: Any, overlay: Overlay) -> None:
    overlay.subclass("lib:Hashed", "more:More")
    overlay.edit("lib:Hashed.run", find="return 'stock'", put="return 'edited'")
    folder = inspect.getfile(lib).rpartition("/")[0]
    with open(f"{folder}/more.py", "w", encoding="utf-8") as file:
        file.write("import lib\nclass More(lib.Hashed): pass\n")
    importlib.invalidate_caches()
    entry = entered(overlay)
    assert "stands in for" not in " ".join(entry.notes) and lib.Hashed().run() == "edited"
