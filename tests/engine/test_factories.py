"""The kind factory: a function answers the calls of a class, and everything else of the class stays."""

from __future__ import annotations

import copy
import gc
import importlib
import inspect
import pickle
import sys
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.engine.engine import Engine
from ascend_overlay.errors import ConflictError, OverlayError
from ascend_overlay.places import type_slots

LIB = """
    import abc, enum
    class Layer:
        kind = "stock"
        def __init__(self, size, *, bias=True): self.size, self.bias = size, bias
        def __eq__(self, other): return vars(self) == vars(other)
        @classmethod
        def make(cls): return cls(7)
    class Derived(Layer): pass
    class Plain: pass
    class New:
        def __new__(cls, size): self = super().__new__(cls); self.size = size; return self
    class Abstract(abc.ABC):
        def __init__(self, size): self.size = size
    class Broken(ValueError):
        def __init__(self, size): self.size = size
    class Color(enum.Enum): RED = 1
    def function(size): pass
    from collections import OrderedDict
"""
OURS = """
    import lib
    from lib import Layer
    class Runner:
        def __init__(self, size, bias): self.size, self.bias = size, bias
    class Other(Layer):
        built = 0
        def __init__(self, size): Other.built += 1; super().__init__(size)
    def runner(size, *, bias=True): return Runner(size, bias)
    def itself(size, *, bias=True): return Layer(size + 1, bias=bias)
    def other(size, *, bias=True): return Other(size)
    def plain(): return "plain"
    def sized(size): return ("sized", size)
    def broken(size): return lib.Broken(size * 2)
    def wrong(sizes, *, bias=True): pass
    def anything(*args, **kwargs): pass
    async def later(size, *, bias=True): pass
    VALUE = 1
"""


@pytest.fixture(autouse=True)
def _packages(site: Any) -> None:
    site.write({"lib.py": LIB, "ours.py": OURS, "copier.py": "from lib import Layer as Copy\nTABLE = {Copy: 1}\n"})


@pytest.fixture
def overlay(offer: Any) -> Overlay:
    overlay = Overlay("one", reason="a test")
    offer(overlay)
    return overlay


def load(*, early: bool = True) -> Any:
    if early:
        importlib.import_module("copier")
    ascend_overlay.enable()
    importlib.import_module("copier")
    return sys.modules["lib"]


@pytest.mark.parametrize("early", [True, False])
def test_calls_go_to_the_function(overlay: Overlay, engine: Engine, early: bool) -> None:
    overlay.factory("lib:Layer", "ours:runner")
    lib = load(early=early)
    assert type(lib.Layer(3, bias=False)).__name__ == "Runner" and lib.Layer(3, bias=False).bias is False
    assert type(sys.modules["copier"].Copy(3)).__name__ == "Runner"
    assert type(lib.Layer.make()).__name__ == "Runner"
    assert [item.patch.effect(item.applied) for item in engine._state.items()] == [None]  # type: ignore[attr-defined]
    assert ascend_overlay.ledger().entries[0].seam == "metaclass"
    ascend_overlay.disable()
    assert type(lib.Layer) is type and type(lib.Layer(3)) is lib.Layer


def test_the_class_stays_what_it_is(overlay: Overlay) -> None:
    overlay.factory("lib:Layer", "ours:runner")
    lib = importlib.import_module("lib")
    layer, signature = lib.Layer(3), inspect.signature(lib.Layer)
    before = lib.Layer
    load()
    assert lib.Layer is before and isinstance(layer, lib.Layer) and issubclass(lib.Derived, lib.Layer)
    assert lib.Layer.kind == "stock" and sys.modules["copier"].TABLE[lib.Layer] == 1
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(layer, protocol))
        assert type(again) is lib.Layer and again == layer
    assert pickle.loads(pickle.dumps(lib.Layer)) is lib.Layer
    assert type(copy.copy(layer)) is type(copy.deepcopy(layer)) is lib.Layer and copy.deepcopy(lib.Layer) is lib.Layer
    assert inspect.signature(lib.Layer) == signature
    assert repr(lib.Layer) == "<class 'lib.Layer'>" and inspect.isclass(lib.Layer)


def test_derived_classes_are_built_as_ever(overlay: Overlay) -> None:
    overlay.factory("lib:Layer", "ours:runner")
    lib = load()
    assert type(lib.Derived(2)) is lib.Derived

    class Later(lib.Layer):  # type: ignore[misc, name-defined]
        def __init__(self, size: int, depth: int) -> None:
            super().__init__(size)
            self.depth = depth

    assert vars(Later(2, 3)) == {"size": 2, "bias": True, "depth": 3}
    assert list(inspect.signature(Later).parameters) == ["size", "depth"]
    ascend_overlay.disable()
    assert type(Later) is type and Later(2, 3).depth == 3


def test_the_function_builds_the_class_itself(overlay: Overlay) -> None:
    overlay.factory("lib:Layer", "ours:itself")
    lib = load()
    assert vars(lib.Layer(3)) == {"size": 4, "bias": True} and vars(lib.Layer(5)) == {"size": 6, "bias": True}


def test_what_is_of_the_class_is_not_initialized_twice(overlay: Overlay) -> None:
    overlay.factory("lib:Layer", "ours:other")
    lib = load()
    layer = lib.Layer(3)
    assert isinstance(layer, lib.Layer) and importlib.import_module("ours").Other.built == 1


OTHERS = [
    ("Plain", "plain", (), "plain"),
    ("New", "sized", (1,), ("sized", 1)),
    ("Abstract", "sized", (1,), ("sized", 1)),
]


@pytest.mark.parametrize(("name", "function", "arguments", "expected"), OTHERS)
def test_kinds_of_class(overlay: Overlay, name: str, function: str, arguments: tuple[Any, ...], expected: Any) -> None:
    overlay.factory(f"lib:{name}", f"ours:{function}")
    cls = getattr(importlib.import_module("lib"), name)
    metaclass = type(cls)
    load()
    assert cls(*arguments) == expected and isinstance(cls, metaclass)
    ascend_overlay.disable()
    assert type(cls) is metaclass and type(cls(*arguments)) is cls


def test_exceptions_are_caught_by_the_name(overlay: Overlay) -> None:
    overlay.factory("lib:Broken", "ours:broken")
    lib = load()
    with pytest.raises(lib.Broken) as caught:
        raise lib.Broken(2)
    assert caught.value.size == 4


def test_as_a_decorator_and_in_a_loop_that_python_has_specialized(overlay: Overlay) -> None:
    @overlay.factory("lib:Layer")
    def build(size: int, *, bias: bool = True) -> str:
        return f"built {size}"

    lib = importlib.import_module("lib")

    def call() -> Any:
        return lib.Layer(1)

    for _ in range(200):
        call()
    load()
    assert call() == "built 1"
    for _ in range(200):
        call()
    ascend_overlay.disable()
    assert type(call()) is lib.Layer


def test_enabling_again_and_again_leaves_no_references(overlay: Overlay) -> None:
    overlay.factory("lib:Layer", "ours:runner")
    lib = importlib.import_module("lib")

    def once() -> int:
        load()
        lib.Layer(1)
        ascend_overlay.disable()
        gc.collect()
        return sys.getrefcount(lib.Layer)

    assert once() - once() == 0


def test_a_class_counts_as_a_reference_to_its_metaclass() -> None:
    class Meta(type):
        __slots__ = ()

    class Cls:
        pass

    before = sys.getrefcount(Meta)
    type_slots.set_metaclass(Cls, Meta)
    type_slots.set_metaclass(Cls, Meta)
    assert sys.getrefcount(Meta) == before + 1
    type_slots.set_metaclass(Cls, type)
    assert sys.getrefcount(Meta) == before and type(Cls) is type


REFUSED = [
    ("Layer", "ours:wrong", "'sizes' where the original has 'size'"),
    ("Layer", "ours:later", "its kind is async function"),
    ("Layer", "ours:VALUE", "not callable"),
    ("function", "ours:sized", "not a class; use overlay.replace"),
    ("Color", "ours:sized", "a metaclass that builds it"),
    ("OrderedDict", "ours:anything", "was not written in Python"),
    ("Layr", "ours:runner", "Did you mean 'Layer'"),
]


@pytest.mark.parametrize(("name", "function", "why"), REFUSED)
def test_refused(overlay: Overlay, name: str, function: str, why: str) -> None:
    overlay.factory(f"lib:{name}", function)
    with pytest.raises(OverlayError, match=why):
        load()
    assert type(sys.modules["lib"].Layer) is type


def test_one_class_by_two_names(overlay: Overlay, offer: Any, site: Any) -> None:
    other = Overlay("two", reason="a test")
    offer(other)
    overlay.factory("lib:Layer", "ours:runner")
    other.factory("copier:Copy", "ours:runner")
    with pytest.raises(ConflictError, match=r"answered by overlay '(one|two)'.* already"):
        load()


def test_a_class_that_somebody_put_in_its_place_is_told(overlay: Overlay, engine: Engine) -> None:
    overlay.factory("lib:Layer", "ours:runner")
    lib = load()
    stock, lib.Layer = lib.Layer, lib.Plain
    (item,) = engine._state.items()
    assert "lib:Layer is lib:Plain now" in str(item.patch.effect(item.applied))  # type: ignore[attr-defined]
    lib.Layer = stock


def told(cls: Any) -> str:
    """Return what inspect tells of the signature, or that it does not."""
    try:
        return str(inspect.signature(cls))
    except (TypeError, ValueError):
        return "nothing"


SIGNATURES = {
    "nothing": "class Built: pass",
    "init": "class Built:\n    def __init__(self, a): pass",
    "new": "class Built:\n    def __new__(cls, a, b): return object.__new__(cls)",
    "both": "class Built:\n    def __new__(cls, a, *b): ...\n    def __init__(self, c): pass",
    "init of a builtin": "class Built(dict):\n    def __init__(self, a): pass",
    "new of a builtin": "class Built(int):\n    def __new__(cls, a): return int.__new__(cls)",
    "init nearer than new": "class A:\n    def __new__(cls, *a): ...\nclass Built(A):\n    def __init__(self, c): pass",
    "new nearer than init": "class A:\n    def __init__(self, c): pass\nclass Built(A):\n    def __new__(cls, *a): ...",
}


@pytest.mark.parametrize("text", SIGNATURES.values(), ids=SIGNATURES)
def test_signatures_are_told_as_before(overlay: Overlay, site: Any, text: str) -> None:
    site.write({"building.py": f"{text}\nclass Derived(Built): pass\n"})
    building = importlib.import_module("building")
    overlay.factory("building:Built")(lambda *args, **kwargs: "built")
    stock = told(building.Built), told(building.Derived)
    assert "nothing" not in stock
    load()
    assert building.Built(1, 2) == "built" and (told(building.Built), told(building.Derived)) == stock


def test_what_tells_no_signature_has_none(overlay: Overlay, site: Any) -> None:
    site.write({"building.py": "class Built(dict): pass\n"})
    cls: Any = importlib.import_module("building").Built
    overlay.factory("building:Built")(lambda *args, **kwargs: "built")
    load()
    assert not hasattr(cls, "__signature__") and not hasattr(type(cls), "__signature__")


def test_the_metaclass_is_seen_by_nobody(overlay: Overlay) -> None:
    overlay.factory("lib:Layer", "ours:runner")
    overlay.factory("lib:New", "ours:sized")
    lib = importlib.import_module("lib")
    before = [(inspect.signature(cls), type(cls).__name__, type(cls).__module__) for cls in (lib.Layer, lib.New)]
    load()
    assert before == [
        (inspect.signature(cls), type(cls).__name__, type(cls).__module__) for cls in (lib.Layer, lib.New)
    ]
    assert type(lib.Layer).__doc__ == type.__doc__


def test_a_function_that_fails_is_asked_again(overlay: Overlay) -> None:
    asked = []

    @overlay.factory("lib:Layer")
    def build(size: int, *, bias: bool = True) -> object:
        asked.append(size)
        if size == 0:
            raise KeyError("no size")
        return sys.modules["lib"].Layer(size + 1)

    lib = load()
    with pytest.raises(KeyError):
        lib.Layer(0)
    assert lib.Layer(1).size == 2 and asked == [0, 1]
