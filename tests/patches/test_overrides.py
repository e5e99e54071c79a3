"""What a subclass overrides is of the kind of what it overrides, and takes its calls."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import SignatureError
from ascend_overlay.patches import overrides

LIB = """
    import abc, functools

    class Root:
        def inherited(self, size): return size

    class Thing(Root):
        flag = True
        unset = None
        table = {}
        def __init__(self, size=1): self.size = size
        def run(self, text, count=1): return text
        def anything(self, *args, **kwargs): raise NotImplementedError
        def named(self, *, loud): return loud
        async def later(self): return 1
        def each(self): yield 1
        async def stream(self): yield 1
        @property
        def name(self): return "stock"
        @property
        def level(self): return 1
        @level.setter
        def level(self, value): pass
        @functools.cached_property
        def cached(self): return 1
        @staticmethod
        def parse(text): return text
        @classmethod
        def make(cls, size=1): return cls(size)
        @functools.lru_cache
        def remembered(self, text): return text
        class Config: pass

    class Bare: pass

    class Made:
        def __new__(cls, size): return object.__new__(cls)
"""

UNFIT = {
    "async over sync": ("async def run(self, text, count=1): pass", "plain function.* and it is an async function"),
    "sync over async": ("def later(self): pass", "async function, whose callers await it, and it is a plain function"),
    "generator over plain": ("def run(self, text, count=1): yield 1", "and it is a generator"),
    "plain over generator": ("def each(self): return 1", "the original is a generator"),
    "async over async generator": ("async def stream(self): return 1", "the original is an async generator"),
    "property over method": ("@property\ndef run(self): pass", "the original is a method, and it is a property"),
    "cached_property over method": (
        "@functools.cached_property\ndef run(self): pass",
        "a method, and it is a functools.cached_property",
    ),
    "method over property": ("def name(self): pass", "the original is a property, and it is a method"),
    "method over cached_property": ("def cached(self): pass", "a functools.cached_property, and it is a method"),
    "staticmethod over method": ("@staticmethod\ndef run(text): pass", "a method, and it is a staticmethod"),
    "classmethod over method": ("@classmethod\ndef run(cls, text): pass", "a method, and it is a classmethod"),
    "method over staticmethod": ("def parse(self, text): pass", "a staticmethod, and it is a method"),
    "method over classmethod": ("def make(self, size=1): pass", "a classmethod, and it is a method"),
    "classmethod over staticmethod": (
        "@classmethod\ndef parse(cls, text): pass",
        "static.*, and it is a classm",
    ),
    "value over method": ("run = 5", "a method, and it is the value 5"),
    "no hash": ("def __eq__(self, other): return True", "its __hash__ .* a method, and it is the value None"),
    "method over value": ("def flag(self): return True", "the value True, and it is a method"),
    "no setter": ("@property\ndef level(self): return 1", "the original has a setter, and it has none"),
    "more that is needed": ("def run(self, text, count=1, *, loud): pass", "it needs an argument 'loud'"),
    "less": ("def run(self, text): pass", "it takes no positional argument 'count'"),
    "no default": ("def run(self, text, count): pass", "'count' has no default"),
    "another name": ("def run(self, line, count=1): pass", "its argument 1 is 'line' where the original has 'text'"),
    "no such keyword": ("def named(self): pass", "it takes no keyword argument 'loud'"),
    "inherited by the class": ("def inherited(self): pass", "it takes no positional argument 'size'"),
    "of a classmethod": ("@classmethod\ndef make(cls, size): pass", "'size' has no default"),
    "of a staticmethod": ("@staticmethod\ndef parse(): pass", "it takes no positional argument 'text'"),
    "behind a cache": ("def remembered(self): pass", "it takes no positional argument 'text'"),
    "constructor": ("def __init__(self, size): pass", "its __init__ .*'size' has no default"),
}
FIT = {
    "wider": "def run(self, text, count=1, *more, loud=False): pass",
    "anything": "def run(self, *args, **kwargs): pass",
    "narrows what takes anything": "def anything(self, x, *, y): pass",
    "the same kinds": "async def later(self, more=1): pass\ndef each(self): yield 2\nasync def stream(self): yield 2",
    "annotated": "def each(self) -> 'Iterator[int]': return iter([1])",
    "cached_property over property": "@functools.cached_property\ndef name(self): return 1",
    "property over cached_property": "@property\ndef cached(self): return 1",
    "value over property": "name = 'ours'",
    "property over value": "@property\ndef flag(self): return True",
    "anything over None": "def unset(self): pass",
    "another value": "flag = 1\ntable = []",
    "setter": "@property\ndef level(self): return 1\n@level.setter\ndef level(self, value): pass",
    "a cache": "@functools.lru_cache\ndef run(self, text, count=1): pass",
    "a class": "class Config: pass",
    "an object": "run = functools.partial(print)",
    "what object has": "def __eq__(self, other): return True\n__hash__ = Thing.__hash__\ndef __repr__(self): return ''",
    "more of it": "def __init_subclass__(cls, **kwargs): pass\ndef __class_getitem__(cls, item): return cls",
    "more than there is": "def helper(self, needed): pass",
}
OTHERS = {
    "a constructor where there is none": ("Bare", "def __init__(self, size): pass", "its __init__ .*argument 'size'"),
    "a constructor without needs": ("Bare", "def __init__(self, size=1): pass", None),
    "beside __new__": ("Made", "def __init__(self, size): pass", None),
    "beside another __new__": ("Made", "def __init__(self): pass", "no positional argument 'size'"),
}


def _derived(site: Any, base: str, body: str) -> None:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    site.write({"lib.py": LIB})
    (site.folder / "ours.py").write_text(f"import functools\nfrom lib import {base}\nclass Ours({base}):\n{lines}\n")


@pytest.fixture
def overlay(offer: Any) -> Overlay:
    overlay = Overlay("one", reason="a test")
    offer(overlay)
    return overlay


def _refused(overlay: Overlay, target: str, why: str) -> None:
    overlay.subclass(target, "ours:Ours")
    lib = importlib.import_module("lib")
    before = dict(vars(lib))
    with pytest.raises(SignatureError, match=rf"ours:Ours cannot stand in for {target}: .*{why}.*say as_is=True"):
        ascend_overlay.enable()
    assert dict(vars(lib)) == before


@pytest.mark.parametrize(("body", "why"), UNFIT.values(), ids=UNFIT)
def test_what_callers_cannot_use_is_refused(overlay: Overlay, site: Any, body: str, why: str) -> None:
    _derived(site, "Thing", body)
    _refused(overlay, "lib:Thing", why)


@pytest.mark.parametrize("body", FIT.values(), ids=FIT)
def test_what_they_can_use_is_taken(overlay: Overlay, site: Any, body: str) -> None:
    _derived(site, "Thing", body)
    overlay.subclass("lib:Thing", "ours:Ours")
    ascend_overlay.enable()
    assert importlib.import_module("lib").Thing.__name__ == "Ours"


@pytest.mark.parametrize(("base", "body", "why"), OTHERS.values(), ids=OTHERS)
def test_constructors(overlay: Overlay, site: Any, base: str, body: str, why: str | None) -> None:
    _derived(site, base, body)
    if why is not None:
        _refused(overlay, f"lib:{base}", why)
        return
    overlay.subclass(f"lib:{base}", "ours:Ours")
    ascend_overlay.enable()
    assert getattr(importlib.import_module("lib"), base).__name__ == "Ours"


def test_a_base_beside_the_class_overrides_as_well(overlay: Overlay, site: Any) -> None:
    mixin = "class Mixin:\n    def run(self): pass\nclass Ours(Mixin, Thing): pass\n"
    site.write({"lib.py": LIB, "ours.py": "from lib import Thing\n" + mixin})
    _refused(overlay, "lib:Thing", "it takes no positional argument 'text'")


@pytest.mark.parametrize("name", ["property over method", "async over sync", "constructor"])
def test_who_says_so_has_it_as_it_is(overlay: Overlay, site: Any, name: str) -> None:
    _derived(site, "Thing", UNFIT[name][0])
    overlay.subclass("lib:Thing", "ours:Ours", as_is=True)
    ascend_overlay.enable()
    assert importlib.import_module("lib").Thing.__name__ == "Ours"


def test_without_strictness_it_is_a_warning_and_an_entry(overlay: Overlay, site: Any) -> None:
    _derived(site, "Thing", UNFIT["async over sync"][0])
    overlay.subclass("lib:Thing", "ours:Ours")
    ascend_overlay.enable(strict=False)
    assert importlib.import_module("lib").Thing.__name__ == "Thing"
    (entry,) = ascend_overlay.ledger().of("one")
    assert entry.state == "failed" and "async function" in entry.reason


OF_OBJECTS = [
    ("parse", lambda self, text: text, None),
    ("parse", lambda self: 1, "it takes no positional argument 'text'"),
    ("parse", classmethod(lambda cls, text: text), "a staticmethod, and it is a classmethod"),
    ("run", staticmethod(lambda text, count=1: text), "a method, and it is a staticmethod"),
]


@pytest.mark.parametrize(("name", "member", "why"), OF_OBJECTS)
def test_a_layer_is_asked_through_its_objects(
    site: Any, engine: object, name: str, member: Any, why: str | None
) -> None:
    site.write({"lib.py": LIB})
    thing = importlib.import_module("lib").Thing
    ours = type("Ours", (thing,), {name: member})
    if why is None:
        overrides.refuse("lib:Thing", thing, ours, of_objects=True)
        with pytest.raises(SignatureError, match="a staticmethod, and it is a method"):
            overrides.refuse("lib:Thing", thing, ours)
        return
    with pytest.raises(SignatureError, match=why):
        overrides.refuse("lib:Thing", thing, ours, of_objects=True)
