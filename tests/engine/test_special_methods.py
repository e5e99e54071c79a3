"""Special methods: they act through slots of the class, which must be as before once a patch is taken back."""

from __future__ import annotations

import copy
import importlib
import pickle
import sys
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import SignatureError, TargetError
from ascend_overlay.places import type_slots

LIB = """
    import dataclasses, enum, typing
    class Init:
        def __init__(self, x): self.x = x
    class Bare: pass
    class Child(Init): pass
    class GrandChild(Child):
        def __init__(self, x, y): super().__init__(x); self.y = y
    @dataclasses.dataclass
    class Data:
        x: int
    class Own:
        def __new__(cls, x): self = super().__new__(cls); self.x = x; return self
    class OwnChild(Own): pass
    class Text(str): pass
    class Pair(tuple):
        def __new__(cls, *parts): return super().__new__(cls, parts)
    class Broken(Exception): pass
    class Slotted:
        __slots__ = ("x",)
        def __init__(self, x): self.x = x
    class Generic(typing.Generic[typing.TypeVar("T")]):
        def __init__(self, x): self.x = x
    class Both(Child, Generic): pass
"""
OURS = """
    def new(wrapped, instance, args, kwargs):
        made = wrapped(*args, **kwargs)
        try: made.seen = True
        except AttributeError: pass
        seen.append(args[0].__name__)
        return made
    def plain_new(cls, x=None): seen.append(cls.__name__); return object.__new__(cls)
    def no_x(cls): pass
    seen = []
"""


@pytest.fixture(autouse=True)
def _packages(site: Any) -> None:
    site.write({"lib.py": LIB, "ours.py": OURS})


@pytest.fixture
def overlay(offer: Any) -> Overlay:
    overlay = Overlay("one", reason="a test")
    offer(overlay)
    return overlay


def load() -> Any:
    importlib.import_module("lib")
    ascend_overlay.enable()
    return sys.modules["lib"]


def built(cls: Any, *arguments: Any) -> Any:
    """Return what building the class gives: its state, or the error."""
    try:
        made = cls(*arguments)
    except TypeError as error:
        return str(error)
    state = dict(getattr(made, "__dict__", {}))
    state.pop("seen", None)
    return type(made).__name__, state, str(made) if isinstance(made, (str, tuple, Exception)) else None


CLASSES = [
    "Init",
    "Bare",
    "Child",
    "GrandChild",
    "Data",
    "Own",
    "OwnChild",
    "Text",
    "Pair",
    "Broken",
    "Slotted",
    "Generic",
    "Both",
]
ARGUMENTS: list[tuple[Any, ...]] = [(), (1,), (1, 2), (1, 2, 3)]


@pytest.mark.parametrize("name", CLASSES)
def test_new_wrapped_and_taken_back(overlay: Overlay, name: str) -> None:
    lib = importlib.import_module("lib")
    everyone = [cls for cls in vars(lib).values() if isinstance(cls, type) and cls.__module__ == "lib"]
    stock = {cls: [built(cls, *given) for given in ARGUMENTS] for cls in everyone}
    words = {cls: type_slots._words(cls)[type_slots._constructor_index() or 0] for cls in everyone}
    namespaces = {cls: list(vars(cls)) for cls in everyone}
    overlay.wrap(f"lib:{name}.__new__", "ours:new")
    load()
    cls = getattr(lib, name)
    during = [built(cls, *given) for given in ARGUMENTS]
    assert [kind for kind in during if isinstance(kind, tuple)] == [
        kind for kind in stock[cls] if isinstance(kind, tuple)
    ]
    assert [isinstance(kind, str) for kind in during] == [isinstance(kind, str) for kind in stock[cls]]
    assert set(sys.modules["ours"].seen) >= {name}

    class Later(cls):  # type: ignore[misc]
        pass

    Later.__name__ = name
    for _ in range(2):
        ascend_overlay.disable()
        assert {other: [built(other, *given) for given in ARGUMENTS] for other in everyone} == stock
        assert {other: type_slots._words(other)[type_slots._constructor_index() or 0] for other in everyone} == words
        assert {other: [key for key in vars(other) if key != "__doc__"] for other in everyone} == {
            other: [key for key in keys if key != "__doc__"] for other, keys in namespaces.items()
        }
        assert [built(Later, *given) for given in ARGUMENTS] == stock[cls]
        load()


def test_new_of_a_base_and_of_a_derived_class(overlay: Overlay, offer: Any) -> None:
    other = Overlay("two", reason="a test")
    offer(other)
    overlay.wrap("lib:Init.__new__", "ours:new")
    other.wrap("lib:Child.__new__", "ours:new")
    lib = load()
    assert lib.Child(1).x == 1 and sys.modules["ours"].seen == ["Child", "Child"]
    ascend_overlay.disable(only=["one"])
    assert lib.Init(1).x == 1 and lib.Child(2).x == 2 and lib.GrandChild(3, 4).y == 4
    assert sys.modules["ours"].seen == ["Child", "Child", "Child", "GrandChild"]
    ascend_overlay.disable()
    assert lib.Child(2).x == 2 and lib.GrandChild(3, 4).y == 4 and len(sys.modules["ours"].seen) == 4


@pytest.mark.parametrize("name", ["Init", "Own", "Data"])
def test_new_replaced(overlay: Overlay, name: str) -> None:
    overlay.replace(f"lib:{name}.__new__", "ours:plain_new")
    lib = load()
    cls = getattr(lib, name)
    made = cls(1)
    assert type(made) is cls and sys.modules["ours"].seen == [name]
    assert type(copy.copy(made)) is cls
    ascend_overlay.disable()
    assert cls(1).x == 1 and sys.modules["ours"].seen[0] == name
    assert pickle.loads(pickle.dumps(lib.Init(3))).x == 3


def test_new_takes_what_init_takes(overlay: Overlay) -> None:
    overlay.replace("lib:Init.__new__", "ours:no_x")
    with pytest.raises(SignatureError, match="takes no positional argument 'x'"):
        load()


def test_where_python_offers_no_way_back_it_is_refused(overlay: Overlay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type_slots, "_constructor_index", lambda: None)
    overlay.wrap("lib:Init.__new__", "ours:new")
    with pytest.raises(TargetError, match=r"no way to take a patch of it back; wrap Init.__init__"):
        load()
    assert importlib.import_module("lib").Init(1).x == 1


def test_own_new_needs_no_way_back(overlay: Overlay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type_slots, "_constructor_index", lambda: None)
    overlay.wrap("lib:Own.__new__", "ours:new")
    assert load().Own(1).x == 1


SPECIAL = """
    class Base:
        registered = []
        def __init_subclass__(cls, tag=None, **kwargs):
            super().__init_subclass__(**kwargs)
            Base.registered.append((cls.__name__, tag))
    class Thing(Base):
        def __init__(self): self.x = 1
    class Full(Base):
        def __init__(self): self.x = 1
        def __call__(self, y=0): return ("stock", y)
        def __getattr__(self, name):
            if name.startswith("_"): raise AttributeError(name)
            return ("stock", name)
        def __len__(self): return 3
        def __eq__(self, other): return self.x == getattr(other, "x", None)
        def __hash__(self): return 7
        def __bool__(self): return False
        def __iter__(self): return iter("ab")
        def __contains__(self, item): return item == "a"
        def __getitem__(self, key): return ("stock", key)
        def __enter__(self): return "stock"
        def __exit__(self, *error): return None
        def __repr__(self): return "stock"
        def __class_getitem__(cls, item): return (cls.__name__, item)
    class Below(Full): pass
"""
PATCHES = """
    def call(self, y=0): return ("ours", y)
    def attribute(self, name):
        if name.startswith("_"): raise AttributeError(name)
        return ("ours", name)
    def length(self): return 5
    def equal(self, other): return True
    def hashed(self): return 9
    def true(self): return True
    def iterate(self): return iter("xyz")
    def contains(self, item): return True
    def item(self, key): return ("ours", key)
    def enter(self): return "ours"
    def leave(self, *error): return True
    def text(self): return "ours"
    def class_item(cls, item): return ("ours", cls.__name__, item)
"""


def entered(made: Any) -> Any:
    with made as found:
        return found


def left(made: Any) -> Any:
    with made:
        raise ValueError("inside")
    return "swallowed"


USES: dict[str, tuple[str, Any]] = {
    "__call__": ("call", lambda made: made(4)),
    "__getattr__": ("attribute", lambda made: made.missing),
    "__len__": ("length", len),
    "__eq__": ("equal", lambda made: (made == 5, made != 5)),
    "__hash__": ("hashed", lambda made: hash(made) if isinstance(hash(made), int) and hash(made) < 10 else "by id"),
    "__bool__": ("true", bool),
    "__iter__": ("iterate", lambda made: list(made)),
    "__contains__": ("contains", lambda made: "b" in made),
    "__getitem__": ("item", lambda made: made[0]),
    "__enter__": ("enter", entered),
    "__exit__": ("leave", left),
    "__repr__": ("text", lambda made: repr(made).partition(" at 0x")[0]),
    "__class_getitem__": ("class_item", lambda made: type(made)[int]),
}
DEFAULTS = ("__bool__", "__enter__", "__exit__")
OF_OBJECT = ("__eq__", "__hash__", "__repr__")


CLASSES_USED = ["Thing", "Full", "Below"]


def seen(cls: str, name: str) -> bool:
    """Tell whether the method, patched by itself, changes anything that is seen."""
    return cls != "Thing" or name not in DEFAULTS


def used(use: Any, made: Any) -> Any:
    try:
        return use(made)
    except (TypeError, AttributeError, ValueError) as error:
        return type(error).__name__


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize(("cls", "name"), [(cls, name) for cls in CLASSES_USED for name in USES if seen(cls, name)])
def test_special_methods(overlay: Overlay, site: Any, name: str, cls: str, early: bool) -> None:
    site.write({"special.py": SPECIAL, "patches.py": PATCHES})
    function, use = USES[name]
    lib = importlib.import_module("special")
    stock = {other: {key: used(how, getattr(lib, other)()) for key, (_, how) in USES.items()} for other in CLASSES_USED}
    if not early:
        del sys.modules["special"]
    if cls == "Thing" and name not in OF_OBJECT:
        overlay.add(f"special:{cls}.{name}", ascend_overlay.ref(f"patches:{function}"))
    else:
        overlay.replace(f"special:{cls}.{name}", f"patches:{function}")
    ascend_overlay.enable()
    lib = importlib.import_module("special")
    patched = used(use, getattr(lib, cls)())
    assert patched != stock[cls][name]
    if cls == "Full":
        assert used(use, lib.Below()) == patched or name == "__class_getitem__"
    ascend_overlay.disable()
    for other in CLASSES_USED:
        assert {key: used(how, getattr(lib, other)()) for key, (_, how) in USES.items()} == stock[other]
    assert ("__hash__" in vars(lib.Thing)) is False


@pytest.mark.parametrize("cls", ["Base", "Thing"])
@pytest.mark.parametrize("kind", ["wrap", "replace"])
def test_init_subclass(overlay: Overlay, site: Any, kind: str, cls: str) -> None:
    site.write(
        {
            "special.py": SPECIAL,
            "patches.py": """
            seen = []
            def wrapper(wrapped, instance, args, kwargs): seen.append(kwargs); return wrapped(*args, **kwargs)
            def replacement(cls, tag=None, **kwargs): seen.append({"tag": tag})
            """,
        }
    )
    getattr(overlay, kind)(
        f"special:{cls}.__init_subclass__", "patches:wrapper" if kind == "wrap" else "patches:replacement"
    )
    lib = importlib.import_module("special")
    ascend_overlay.enable()
    type("Later", (lib.Thing,), {}, tag="t")
    assert importlib.import_module("patches").seen == [{"tag": "t"}]
    assert (("Later", "t") in lib.Base.registered) is (kind == "wrap")
    ascend_overlay.disable()
    type("Last", (lib.Thing,), {}, tag="l")
    assert lib.Base.registered[-1] == ("Last", "l") and len(importlib.import_module("patches").seen) == 1


def test_equality_alone_leaves_the_hash(overlay: Overlay, site: Any) -> None:
    site.write({"special.py": SPECIAL, "patches.py": PATCHES})
    overlay.replace("special:Thing.__eq__", "patches:equal")
    importlib.import_module("special")
    ascend_overlay.enable()
    assert any("__hash__ stays" in note for note in ascend_overlay.ledger().entries[0].notes)
