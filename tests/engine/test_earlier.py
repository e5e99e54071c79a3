"""Who was in a place before the first patch: named where that is certain, and nobody where it is not."""

from __future__ import annotations

import functools
import importlib
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import wrapt

from ascend_overlay.engine.earlier import put_there_before, sentence
from ascend_overlay.places.slots import Slot
from ascend_overlay.places.storages import Attribute, Item

THEIRS = """
    import functools
    def run(*args): return "theirs"
    def wrapper(wrapped, instance, args, kwargs): return wrapped(*args, **kwargs)
    class Thing:
        def method(self): return "theirs"
        def __call__(self): return "theirs"
    class Silent: ...
    def around(function):
        @functools.wraps(function)
        def outer(*args): return function(*args)
        return outer
    def decorate(function): return function
    class Base: ...
    class Meta(type): ...
"""
THIRD = """
    import wrapt
    def run(*args): return "third"
    @wrapt.decorator
    def wrapping(wrapped, instance, args, kwargs): return wrapped(*args, **kwargs)
"""
STOCK = "def run(): return 'stock'\nclass Thing:\n    def run(self): return 'stock'\n"


@pytest.fixture
def world(site: Any) -> Iterator[Callable[[str], Any]]:
    """Import the module `own.lib`, given its source."""
    site.write({"theirs/lib.py": THEIRS, "third.py": THIRD, "own/helpers.py": THEIRS})
    importlib.import_module("theirs.lib")

    def make(source: str) -> Any:
        site.write({"own/lib.py": source})
        return importlib.import_module("own.lib")

    yield make
    for name in [name for name in sys.modules if name.partition(".")[0] in ("theirs", "own", "third")]:
        del sys.modules[name]


def before(owner: Any, value: Any) -> str | None:
    """Put something in the place `run` of an owner; return who is named."""
    if isinstance(owner, type):
        type.__setattr__(owner, "run", value)
    else:
        owner.run = value
    return put_there_before(Slot(Attribute(owner, "run")))


# what is put there -> whether somebody is named
VALUES: dict[str, tuple[Callable[[Any, Any], Any], bool]] = {
    "a function": (lambda theirs, own: theirs.run, True),
    "a class": (lambda theirs, own: theirs.Thing, True),
    "a static method": (lambda theirs, own: staticmethod(theirs.run), True),
    "a property": (lambda theirs, own: property(theirs.run), True),
    "a partial": (lambda theirs, own: functools.partial(theirs.run), True),
    "a partial of a partial": (lambda theirs, own: functools.partial(functools.partial(theirs.run)), True),
    "a bound method": (lambda theirs, own: theirs.Thing().method, True),
    "a cache": (lambda theirs, own: functools.lru_cache(theirs.run), True),
    "what can be called": (lambda theirs, own: theirs.Thing(), True),
    "what cannot be called": (lambda theirs, own: theirs.Silent(), False),
    "a wrapper": (lambda theirs, own: theirs.around(own.run), True),
    "one of wrapt": (lambda theirs, own: wrapt.FunctionWrapper(own.run, theirs.wrapper), True),
    "one of wrapt, of its own": (lambda theirs, own: wrapt.FunctionWrapper(theirs.run, own.run), False),
    "a proxy": (lambda theirs, own: wrapt.ObjectProxy(theirs.run), False),
    "one of Python's": (lambda theirs, own: len, False),
    "a number": (lambda theirs, own: 1, False),
    "its own": (lambda theirs, own: own.run, False),
    "a partial of its own": (lambda theirs, own: functools.partial(own.run), False),
    "what has no module": (lambda theirs, own: types.FunctionType(theirs.run.__code__, {}), False),
}


@pytest.mark.parametrize("of_class", [False, True], ids=["in a module", "in a class"])
@pytest.mark.parametrize("case", VALUES)
def test_what_is_there(world: Any, case: str, of_class: bool) -> None:
    own = world(STOCK)
    make, named = VALUES[case]
    said = before(own.Thing if of_class else own, make(sys.modules["theirs.lib"], own))
    assert (said is not None) == named
    if case in ("a function", "a static method", "a property"):
        assert said is not None and said.startswith("theirs.lib.run (") and said.endswith("lib.py, line 3)")


# the source of the module -> whether it is certain that what is there is somebody else's
SOURCES: dict[str, tuple[str, bool]] = {
    "a statement": ("def run(): ...\n", True),
    "a class": ("class run: ...\n", True),
    "a value": ("run = 1\n", False),
    "nothing": ("other = 1\n", False),
    "two statements": ("def run(): ...\ndef run(): ...\n", False),
    "a condition": ("if True:\n    def run(): ...\n", False),
    "other names by a star": ("from third import *\ndef other(): ...\n", False),
    "one of Python's decorators": ("import functools\n@functools.lru_cache\ndef run(): ...\n", True),
    "the same with arguments": ("import functools\n@functools.lru_cache(maxsize=1)\ndef run(): ...\n", True),
    "a decorator of theirs": ("from theirs.lib import decorate\n@decorate\ndef run(): ...\n", False),
    "a decorator of a module of theirs": ("import theirs.lib\n@theirs.lib.decorate\ndef run(): ...\n", False),
    "a decorator of a third": ("import third\n@third.run\ndef run(*a): ...\n", True),
    "a decorator of its own": ("from own.helpers import decorate\n@decorate\ndef run(): ...\n", False),
    "one that is made here": ("def make(f): return f\n@make\ndef run(): ...\n", False),
    "one of many parts": ("makes = [lambda f: f]\n@makes[0]\ndef run(): ...\n", False),
    "an import of theirs": ("from theirs.lib import run\n", False),
    "an import of a part of theirs": ("from theirs.lib import around as run\n", False),
    "an import of a third": ("from third import run\n", True),
    "an import of what is named so elsewhere": ("from own.helpers import run\n", True),
    "names by the way": ("def run(): ...\nglobals()['x'] = 1\nfor n in 'ab': globals()[n] = 1\n", False),
    "written in a function": ("def run(): ...\ndef f():\n    global run\n    run = 1\n", False),
}


def test_what_a_decorator_of_a_third_made_with_wrapt(world: Any) -> None:
    own = world("from third import wrapping\n@wrapping\ndef run(): ...\n")
    assert put_there_before(Slot(Attribute(own, "run"))) is None


@pytest.mark.parametrize("case", SOURCES)
def test_what_the_source_says(world: Any, case: str) -> None:
    source, certain = SOURCES[case]
    own = world(source)
    assert (before(own, sys.modules["theirs.lib"].run) is not None) == certain


def test_what_the_module_has_imported_is_its_own(world: Any) -> None:
    own = world("from third import run\n")
    sys.modules["third"].run = sys.modules["theirs.lib"].run  # type: ignore[attr-defined]
    assert before(own, sys.modules["theirs.lib"].run) is None
    del sys.modules["third"]
    assert before(own, sys.modules["theirs.lib"].around) is None


METHOD = "    def run(self): ...\n"
CLASSES: dict[str, tuple[str, bool]] = {
    "a class": (f"class Thing:\n{METHOD}", True),
    "a derived class": (f"class Base: ...\nclass Thing(Base):\n{METHOD}", True),
    "a class beside a star": (f"from third import *\nclass Thing:\n{METHOD}", True),
    "a class derived from theirs": (f"from theirs.lib import Base\nclass Thing(Base):\n{METHOD}", False),
    "one with a metaclass": (f"class Meta(type): ...\nclass Thing(metaclass=Meta):\n{METHOD}", False),
    "a dataclass": (f"import dataclasses\n@dataclasses.dataclass\nclass Thing:\n{METHOD}", True),
    "one with another decorator": (f"import third\ndef d(c): return c\n@d\nclass Thing:\n{METHOD}", False),
    "one with a decorator of a third": (f"from third import run as d\nimport third\nclass Thing:\n{METHOD}", True),
    "a class by condition": (f"if True:\n    class Thing:\n    {METHOD}", False),
    "no class": ("from theirs.lib import Thing\n", False),
    "a method that is set": (f"class Thing:\n{METHOD}Thing.run = lambda self: 1\n", False),
    "another that is set": (f"class Thing:\n{METHOD}Thing.other = lambda self: 1\n", True),
    "a method by condition": ("class Thing:\n    if True:\n        def run(self): ...\n", False),
    "a static method": ("class Thing:\n    @staticmethod\n    def run(): ...\n", True),
    "a property": ("class Thing:\n    @property\n    def run(self): ...\n", True),
    "a class method": ("class Thing:\n    @classmethod\n    def run(cls): ...\n", True),
    "a method with a decorator of its own": (f"def d(f): return f\nclass Thing:\n    @d\n{METHOD}", False),
    "one with a decorator by a star": (f"from third import *\nclass Thing:\n    @wrapping\n{METHOD}", False),
    "a property that is not Python's": (f"def property(f): return f\nclass Thing:\n    @property\n{METHOD}", False),
    "a value": ("class Thing:\n    run = 1\n", False),
}


@pytest.mark.parametrize("case", CLASSES)
def test_what_the_source_says_of_a_class(world: Any, case: str) -> None:
    source, certain = CLASSES[case]
    own = world(source)
    assert (before(own.Thing, sys.modules["theirs.lib"].run) is not None) == certain


def test_a_class_in_a_class(world: Any) -> None:
    own = world(f"class Thing:\n    class Inner:\n    {METHOD}")
    assert before(own.Thing.Inner, sys.modules["theirs.lib"].run) is not None
    own.Thing.Inner.__qualname__ = "Thing.Elsewhere"
    assert before(own.Thing.Inner, sys.modules["theirs.lib"].run) is None


def test_places_that_no_source_tells_of(world: Any) -> None:
    own, theirs = world(STOCK), sys.modules["theirs.lib"].run
    assert put_there_before(Slot(Item({"run": theirs}, "run"))) is None
    thing = own.Thing()
    assert before(thing, theirs) is None
    own.__name__ = "no_such_module_anywhere"
    assert before(own, theirs) is None


def test_what_the_user_is_told() -> None:
    assert sentence("own.lib:run", "in place of theirs.lib.run") == (
        "the patch of own.lib:run is in place of theirs.lib.run. Leave one of the two out, or accept it with "
        "ASCEND_OVERLAY_FOREIGN=accept."
    )
