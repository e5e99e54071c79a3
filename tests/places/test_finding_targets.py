"""Targets: read, found without running anything, and named where they are written another way."""

from __future__ import annotations

import functools
import importlib
import sys
import types
from typing import Any

import pytest

from ascend_overlay.errors import TargetError
from ascend_overlay.places import target as target_module
from ascend_overlay.places.target import MISSING, Target, find, lookup, require, spoken, written

TEXT = """
class Meta(type):
    def of_meta(cls): return 1
class Base:
    def inherited(self): return 1
class Thing(Base, metaclass=Meta):
    def method(self): return 1
    class Inner:
        size = 1
    @staticmethod
    def made(): return 1
    static = staticmethod(Inner)
    @property
    def never(self): 1 / 0
class Other(Thing):
    def method(self): return 2
class Slotted:
    __slots__ = ("value",)
    def __init__(self): self.value = 1
thing = Thing()
thing.own = 1
slotted = Slotted()
TABLE = {"zoom": 1}
nothing = None
"""


@pytest.fixture
def lib() -> Any:
    module = types.ModuleType("pkg.lib")
    exec(TEXT, vars(module))
    return module


PARSED = [
    ("a:b", ("a", ("b",))),
    ("a.b:c", ("a.b", ("c",))),
    ("a.b:C.d.e", ("a.b", ("C", "d", "e"))),
]


@pytest.mark.parametrize(("text", "parts"), PARSED)
def test_read(text: str, parts: Any) -> None:
    parsed = Target.parse(text)
    assert (parsed.module, parsed.path) == parts and str(parsed) == text


WRONG = [
    ("a.b.c", "Did you mean 'a.b:c'? The colon stands behind the module."),
    ("a.b:c:d", "Did you mean 'a.b:c.d'? There is one colon, behind the module."),
    ("a b:c", "There is a blank in it."),
    ("a:b ", "There is a blank in it."),
    ("a", "write it as 'package.module:Qualified.name'."),
    ("", "write it as 'package.module:Qualified.name'."),
    ("a:", "write it as 'package.module:Qualified.name'."),
    (":a", "write it as 'package.module:Qualified.name'."),
    ("a..b", "write it as 'package.module:Qualified.name'."),
    ("a-b:c", "write it as 'package.module:Qualified.name'."),
    ("a:1", "write it as 'package.module:Qualified.name'."),
    ("a.1", "write it as 'package.module:Qualified.name'."),
]


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_what_is_no_target(text: str, words: str) -> None:
    with pytest.raises(TargetError) as raised:
        Target.parse(text)
    assert str(raised.value).startswith(f"{text!r} is not a target;") and str(raised.value).endswith(words)


class Thing:
    def method(self) -> None: ...


def local() -> Any:
    def inner() -> None: ...

    return inner


nameless = types.SimpleNamespace(__module__=1, __qualname__="x")
of_main = types.SimpleNamespace(__module__="__main__", __qualname__="x")
SPOKEN: list[tuple[Any, str, str]] = [
    (sys, "the module sys", ", here 'sys:' and a name in it"),
    (Thing, "the class Thing", f", here '{__name__}:Thing'"),
    (Thing.method, "the function Thing.method", f", here '{__name__}:Thing.method'"),
    (local(), "the function local.<locals>.inner", ""),
    (1, "1 (int)", ""),
    (None, "None (NoneType)", ""),
    (functools.partial, "the class partial", ", here 'functools:partial'"),
    (nameless, "the function x", ""),
    (of_main, "the function x", ""),
]


@pytest.mark.parametrize(("thing", "words", "instead"), SPOKEN, ids=lambda value: str(value)[:20])
def test_what_stands_where_a_string_is_due(thing: Any, words: str, instead: str) -> None:
    assert (spoken(thing), written(thing)) == (words, instead)
    with pytest.raises(TargetError) as raised:
        Target.parse(thing)
    assert str(raised.value) == (
        f"{words} is not a target; write it as a string, 'package.module:Qualified.name'{instead}."
    )


# the path of a target -> what its owner holds, and whether the owner does so itself
FOUND: dict[str, tuple[Any, bool]] = {
    "Thing": (lambda m: m.Thing, True),
    "Thing.method": (lambda m: vars(m.Thing)["method"], True),
    "Thing.never": (lambda m: vars(m.Thing)["never"], True),
    "Thing.inherited": (lambda m: vars(m.Base)["inherited"], False),
    "Thing.of_meta": (lambda m: vars(m.Meta)["of_meta"], False),
    "Thing.missing": (lambda m: MISSING, False),
    "Thing.__call__": (lambda m: MISSING, False),
    "Thing.mro": (lambda m: MISSING, False),
    "Thing.Inner.size": (lambda m: 1, True),
    "Thing.static.size": (lambda m: 1, True),
    "thing.own": (lambda m: 1, True),
    "thing.method": (lambda m: vars(m.Thing)["method"], False),
    "slotted.value": (lambda m: vars(m.Slotted)["value"], False),
    "missing": (lambda m: MISSING, False),
    "__call__": (lambda m: MISSING, False),
}


@pytest.mark.parametrize("path", FOUND)
def test_found(lib: Any, path: str) -> None:
    raw, own = FOUND[path]
    place = find(lib, Target.parse(f"pkg.lib:{path}"))
    expected = raw(lib)
    assert place.raw is expected
    assert place.own is own and place.name == path.rpartition(".")[2]
    if expected is MISSING:
        with pytest.raises(TargetError, match="does not exist"):
            require(place, Target.parse(f"pkg.lib:{path}"))
    else:
        assert require(place, Target.parse(f"pkg.lib:{path}")) is place


def test_a_class_on_the_way_may_have_a_stand_in(lib: Any) -> None:
    alias = {id(lib.Thing): lib.Other}
    assert find(lib, Target.parse("pkg.lib:Thing.method"), alias=alias).owner is lib.Other
    assert find(lib, Target.parse("pkg.lib:Base.inherited"), alias=alias).owner is lib.Base
    assert find(lib, Target.parse("pkg.lib:Thing"), alias=alias).raw is lib.Thing
    assert find(lib, Target.parse("pkg.lib:thing.own"), alias={id(lib.thing): lib.Other}).owner is lib.thing


def test_who_else_holds_it(lib: Any) -> None:
    parsed = Target.parse("pkg.lib:Thing.method")
    assert not find(lib, parsed).shared
    kept = lib.Thing.method
    assert find(lib, parsed).shared and kept is not None


def test_looked_up_in_anything() -> None:
    assert lookup(1, "real") == (vars(int)["real"], False)
    assert lookup(None, "x") == (MISSING, False)
    assert lookup(types.SimpleNamespace(x=1), "x") == (1, True)
    assert repr(target_module.MISSING) == "<missing>"


MAPPING = "It is a mapping with the key 'zoom': name the mapping, and give the key as an argument."
# the path -> the sentence, from where it says what there is not
NOT_FOUND = [
    ("Thign", "module 'pkg.lib' has no 'Thign'. Did you mean 'Thing' or 'thing'?"),
    ("Thing.methd", "pkg.lib:Thing has no 'methd'. Did you mean 'method'?"),
    ("Thing.Inner.zzz", "pkg.lib:Thing.Inner has no 'zzz'."),
    ("Thing.__zzz__", "pkg.lib:Thing has no '__zzz__'."),
    ("Thing.__inti__", "pkg.lib:Thing has no '__inti__'."),
    ("Thing.zzz.method", "pkg.lib:Thing has no 'zzz'."),
    ("zzz.method", "module 'pkg.lib' has no 'zzz'."),
    (
        "TABLE.zoom",
        f"pkg.lib:TABLE has no 'zoom'. {MAPPING}",
    ),
    ("TABLE.zzz", "pkg.lib:TABLE has no 'zzz'."),
]


@pytest.mark.parametrize(("path", "words"), NOT_FOUND)
def test_what_is_not_there(lib: Any, path: str, words: str) -> None:
    parsed = Target.parse(f"pkg.lib:{path}")
    with pytest.raises(TargetError) as raised:
        require(find(lib, parsed), parsed)
    assert str(raised.value) == f"the target pkg.lib:{path} does not exist: {words}"


def test_a_module_that_makes_names_on_demand(lib: Any) -> None:
    lib.__getattr__ = lambda name: 1
    for path, words in (
        ("zzz", " The module makes some names on demand; name the module that defines 'zzz'."),
        ("Thing.zzz", ""),
    ):
        parsed = Target.parse(f"pkg.lib:{path}")
        with pytest.raises(TargetError) as raised:
            require(find(lib, parsed), parsed)
        assert str(raised.value).endswith(f"has no 'zzz'.{words}")


def test_what_a_module_makes_on_demand_of_a_mapping_is_an_item_of_that(site: Any) -> None:
    site.write({"made.py": "NAME: int\nTABLE = {'NAME': 1}\ndef __getattr__(name): return TABLE[name]\n"})
    module, target = importlib.import_module("made"), Target.parse("made:NAME")
    with pytest.raises(
        TargetError, match=r"no 'NAME'\. made:TABLE has the key 'NAME': that is overlay\.item\('made:TABLE'"
    ):
        require(find(module, target), target)
