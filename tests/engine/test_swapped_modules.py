"""Somebody puts another module in the place of a patched one, mostly for a while, or something else at a copy."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import ForeignError

LIBRARY = """
    import dataclasses, enum
    from typing import Literal
    def greet(): return "stock"
    LIMIT = 5
    TABLE = {"key": 1}
    NAMES = ["one"]
    Letters = Literal["a"]
    class Base:
        def run(self): return "stock"
    class Color(enum.Enum):
        RED = 1
    @dataclasses.dataclass
    class Row:
        size: int = 1
"""
OURS = """
    from lib import Base
    class Ours(Base):
        def run(self): return "ours " + super().run()
"""


def around(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return f"<{wrapped(*args, **kwargs)}>"


CALLED: list[int] = []
KINDS: dict[str, tuple[Any, Any]] = {
    "wrap": (lambda o: o.wrap("lib:greet")(around), lambda lib: lib.greet()),
    "wrap of a method": (lambda o: o.wrap("lib:Base.run")(around), lambda lib: lib.Base().run()),
    "replace": (lambda o: o.replace("lib:greet")(lambda: "ours"), lambda lib: lib.greet()),
    "edit": (lambda o: o.edit("lib:greet", find="return 'stock'", put="return 'edited'"), lambda lib: lib.greet()),
    "subclass": (lambda o: o.subclass("lib:Base", "ours:Ours"), lambda lib: lib.Base().run()),
    "attribute": (lambda o: o.attribute("lib:LIMIT", 6), lambda lib: lib.LIMIT),
    "add": (lambda o: o.add("lib:MORE", 6), lambda lib: getattr(lib, "MORE", None)),
    "remove": (lambda o: o.remove("lib:LIMIT"), lambda lib: getattr(lib, "LIMIT", None)),
    "item": (lambda o: o.item("lib:TABLE", "key", 2), lambda lib: dict(lib.TABLE)),
    "entry": (lambda o: o.entry("lib:NAMES", "two"), lambda lib: list(lib.NAMES)),
    "entry of a Literal": (lambda o: o.entry("lib:Letters", "b"), lambda lib: lib.Letters.__args__),
    "member": (lambda o: o.member("lib:Color.BLUE", 2), lambda lib: [member.name for member in lib.Color]),
    "field": (lambda o: o.field("lib:Row.size", default=2), lambda lib: lib.Row().size),
    "call": (lambda o: o.call("lib", do=lambda: CALLED.append(1), undo=lambda: CALLED.pop()), lambda lib: len(CALLED)),
}


@pytest.fixture
def lib(site: Any) -> ModuleType:
    site.write({"lib.py": LIBRARY, "ours.py": OURS})
    return importlib.import_module("lib")


@pytest.mark.parametrize("kind", KINDS)
def test_a_module_that_comes_back_is_patched_once(lib: ModuleType, offer: Any, kind: str) -> None:
    declare, use = KINDS[kind]
    stock = use(lib)
    overlay = Overlay("one", reason="a test")
    declare(overlay)
    offer(overlay)
    ascend_overlay.enable()
    ours = use(lib)
    assert ours != stock
    for _ in range(2):
        with mock.patch.dict(sys.modules):
            del sys.modules["lib"]
            fresh = importlib.import_module("lib")
            if kind != "subclass":  # of a class that is there no more
                assert use(fresh) == ours
        for _ in range(2):
            (entry,) = ascend_overlay.ledger()
            assert (entry.state, use(lib)) == ("applied", ours), entry
    ascend_overlay.disable()
    assert use(lib) == use(fresh) == stock
    ascend_overlay.enable()
    assert use(lib) == ours
    ascend_overlay.disable()
    assert use(lib) == stock


@pytest.mark.parametrize("stub", [ModuleType("lib"), SimpleNamespace()], ids=["a module", "no module"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stub_in_its_place_is_named_while_it_is_there(lib: ModuleType, offer: Any, kind: str, stub: Any) -> None:
    declare, use = KINDS[kind]
    overlay = Overlay("one", reason="a test")
    declare(overlay)
    offer(overlay)
    ascend_overlay.enable(foreign="accept")
    ours = use(lib)
    with mock.patch.dict(sys.modules, {"lib": stub}):
        (entry,) = ascend_overlay.ledger()
        assert entry.state == "displaced" and "made by hand stands in place of lib in sys.modules" in entry.notes[-1]
        assert use(lib) == ours
    (entry,) = ascend_overlay.ledger()
    assert (entry.state, use(lib)) == ("applied", ours), entry


USER = """
    from lib import greet, Base
    import lib
    def call(): return greet()
"""


@pytest.mark.parametrize(("name", "kind"), [("greet", "wrap"), ("greet", "replace"), ("Base", "subclass")])
def test_what_somebody_puts_in_place_of_a_copy_is_named(
    lib: ModuleType, site: Any, offer: Any, name: str, kind: str
) -> None:
    site.write({"user.py": USER})
    user = importlib.import_module("user")
    overlay = Overlay("one", reason="a test")
    KINDS[kind][0](overlay)
    offer(overlay)
    ascend_overlay.enable()
    copy, stock = vars(user)[name], KINDS[kind][1](lib)
    (entry,) = ascend_overlay.ledger()
    assert f"user.{name}" in entry.copies and entry.notes == []
    theirs = type("Base", (), {}) if name == "Base" else lambda: "theirs"
    with mock.patch.object(user, name, theirs):
        (entry,) = ascend_overlay.ledger()
        assert entry.state == "applied" and f"stands in place of this patch at the copy user.{name}" in entry.notes[0]
        assert __name__ in entry.notes[0] or "Base" in entry.notes[0]
        with pytest.raises(ForeignError, match=f"the copy user.{name}"):
            ascend_overlay.enable(foreign="error")
    (entry,) = ascend_overlay.ledger()
    assert entry.notes == [] and vars(user)[name] is copy
    setattr(user, name, type("Base", (copy,), {}) if name == "Base" else lambda: copy())
    (entry,) = ascend_overlay.ledger()
    assert entry.notes == [], "it leads to the patch"
    del user.__dict__[name]
    assert ascend_overlay.ledger().of("one")[0].notes == [] and KINDS[kind][1](lib) == stock


def test_another_enumeration_in_place_of_the_patched_one_is_said(lib: ModuleType, offer: Any) -> None:
    overlay = Overlay("one", reason="a test")
    overlay.member("lib:Color.BLUE", 2)
    offer(overlay)
    ascend_overlay.enable(foreign="accept")
    lib.Color = importlib.import_module("enum").Enum("Color", ["RED"])
    (entry,) = ascend_overlay.ledger()
    assert entry.state == "without effect" and "leads to another" in entry.notes[0], entry


def test_another_module_under_an_alias_is_said(lib: ModuleType, offer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    overlay = Overlay("one", reason="a test")
    overlay.module_alias("old_lib", "lib")
    offer(overlay)
    ascend_overlay.enable(foreign="accept")
    assert importlib.import_module("old_lib") is lib
    assert ascend_overlay.ledger().of("one")[0].state == "applied"
    monkeypatch.setitem(sys.modules, "old_lib", ModuleType("old_lib"))
    (entry,) = ascend_overlay.ledger()
    assert entry.state == "without effect" and "another module under old_lib" in entry.notes[-1], entry


def test_a_literal_that_others_import_is_no_change_of_theirs(site: Any, offer: Any) -> None:
    site.write(
        {
            "words/__init__.py": "from words.all import Some\n",
            "words/all.py": "from typing import Literal\nSome = Literal['a']\n",
            "words/user.py": "def use():\n    global Late\n    from words import Some as Late\n",
            "words/tried.py": "try: from words.no import Some\nexcept ImportError: from words import Some\n",
        }
    )
    importlib.import_module("words.tried"), importlib.import_module("words.user").use()
    overlay = Overlay("one", reason="a test")
    overlay.entry("words.all:Some", "b")
    offer(overlay)
    ascend_overlay.enable(foreign="error")
    (entry,) = ascend_overlay.ledger()
    assert entry.state == "applied" and entry.notes == [], entry
