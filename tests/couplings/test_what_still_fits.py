"""Whether what is taken still fits: a table of two states of vllm and of a module between them."""

from __future__ import annotations

import textwrap

import pytest
from two_states import World

from ascend_overlay.couplings.comparison import Comparison
from ascend_overlay.couplings.judging import judge


def _case(name: str, old: str, new: str, mine: str, *said: str) -> object:
    return pytest.param(*({"a.py": textwrap.dedent(text)} for text in (old, new)), textwrap.dedent(mine), said, id=name)


_F = "def f(a, b=1):\n    return a\n"
_BASE = "class Base:\n    def run(self, x):\n        return x\n    def call(self, impl):\n        impl.run_it(1)\n"
_MINE = "from vllm.a import Base\nclass Mine(Base):\n    def run(self, x):\n        return 1\n"
_DATA = "from dataclasses import dataclass\n@dataclass\nclass D:\n    x: int\n    y: int = 1\n"

CASES = [
    _case("nothing changed", _F, _F, "from vllm.a import f\nf(1)"),
    _case("gone", _F, "x = 1", "from vllm.a import f", "breaking import vllm.a:f: gone"),
    _case(
        "gone, and guarded",
        _F,
        "x = 1",
        "try:\n    from vllm.a import f\nexcept ImportError:\n    f = None",
        "behavioural import vllm.a:f: gone; the source goes on without it",
    ),
    _case(
        "renamed",
        _F,
        _F.replace("def f", "def g"),
        "from vllm.a import f",
        "breaking import vllm.a:f: gone; perhaps vllm.a:g",
    ),
    _case(
        "call that does not fit",
        _F,
        "def f(a):\n    return a\n",
        "from vllm.a import f\nf(1, b=2)",
        "breaking call vllm.a:f: the call f(..., b=...) does not fit (a)",
    ),
    _case(
        "call that lacks an argument",
        _F,
        "def f(a, b=1, *, c):\n    return a\n",
        "from vllm.a import f\nf(1)",
        "breaking call vllm.a:f: the call f(...) does not fit (a, b=1, *, c): missing a required",
    ),
    _case("call that fits more", _F, "def f(a, b=1, c=2):\n    return a\n", "from vllm.a import f\nf(1)"),
    _case(
        "a call of a method on its class",
        "class C:\n    def m(self, x):\n        pass\n",
        "class C:\n    def m(self, x, y):\n        pass\n",
        "from vllm.a import C\nC.m(1, 2)",
        "breaking call vllm.a:C.m: the call C.m(..., ...) does not fit (self, x, y)",
    ),
    _case(
        "a call that was not understood before",
        "def f(a):\n    return a\n",
        "def f(a, b=1):\n    return a\n",
        "from vllm.a import f\nf(1, 2, 3)",
    ),
    _case(
        "a function becomes a class",
        _F,
        "class f:\n    pass\n",
        "from vllm.a import f",
        "breaking import vllm.a:f: was a function, is a class",
    ),
    _case(
        "body",
        _F,
        _F.replace("return a", "return b"),
        "from vllm.a import f\nf(1)",
        "behavioural call vllm.a:f: body changed",
    ),
    _case(
        "override: one argument more",
        _BASE,
        _BASE.replace("run(self, x)", "run(self, x, more=False)"),
        _MINE,
        "breaking override vllm.a:Base.run: ours does not take every call any more: it takes no positional argument",
    ),
    _case(
        "override: base method gone",
        _BASE,
        _BASE.replace("run(self", "go(self"),
        _MINE,
        "breaking override vllm.a:Base.run: is not there to be overridden any more",
    ),
    _case(
        "override: becomes a property",
        _BASE,
        _BASE.replace("    def run(self, x)", "    @property\n    def run(self)"),
        _MINE,
        "breaking override vllm.a:Base.run: was a method, is a property",
    ),
    _case(
        "override: base signature wider before",
        _BASE.replace("self, x)", "self, x, old=1)"),
        _BASE,
        _MINE.replace("self, x)", "self, x, old=1)"),
    ),
    _case(
        "override: called with something new",
        f"{_BASE}\nclass I:\n    def run_it(self, x, **more):\n        pass\n",
        f"{_BASE.replace('run_it(1)', 'run_it(1, scale=2)')}\nclass I:\n    def run_it(self, x, **more):\n"
        "        pass\n",
        "from vllm.a import I\nclass Mine(I):\n    def run_it(self, x):\n        pass\n",
        "breaking override vllm.a:I.run_it: is called as run_it(..., scale=...) now, and ours refuses that",
    ),
    _case(
        "super call",
        _BASE,
        _BASE.replace("run(self, x)", "run(self, x, y)"),
        "from vllm.a import Base\nclass Mine(Base):\n    def go(self):\n        return super().run(1)\n",
        "breaking super call vllm.a:Base.run: the call Base.run(...) does not fit (self, x, y)",
    ),
    _case(
        "attribute of self",
        "class B:\n    def __init__(self):\n        self.n = 1\n",
        "class B:\n    def __init__(self):\n        self.m = 1\n",
        "from vllm.a import B\nclass M(B):\n    def f(self):\n        return self.n\n",
        "breaking attribute vllm.a:B.n: gone",
    ),
    _case(
        "dataclass: a new field that is required",
        _DATA,
        _DATA.replace("    x: int\n", "    x: int\n    z: int\n"),
        "from vllm.a import D\nD(x=1)",
        "breaking construct vllm.a:D: the call D(x=...) does not fit",
    ),
    _case(
        "dataclass: a field that is gone",
        _DATA,
        _DATA.replace("    y: int = 1\n", ""),
        "from vllm.a import D\nD(1, y=2)",
        "breaking construct vllm.a:D: the call D(..., y=...) does not fit (x): got an unexpected keyword argument 'y'",
    ),
    _case(
        "dataclass: a new field with a default", _DATA, f"{_DATA}    z: int = 2\n", "from vllm.a import D\nD(1, y=2)"
    ),
    _case(
        "class with a constructor",
        "class D:\n    def __init__(self, x):\n        pass\n",
        "class D:\n    def __init__(self, x, y):\n        pass\n",
        "from vllm.a import D\nD(1)",
        "breaking construct vllm.a:D: the call D(...) does not fit (x, y)",
    ),
    _case(
        "enumeration member",
        "from enum import Enum\nclass E(Enum):\n    A = 1\n    B = 2\n",
        "from enum import Enum\nclass E(Enum):\n    A = 1\n",
        "from vllm.a import E\nE.B",
        "breaking attribute vllm.a:E.B: gone",
    ),
    _case("string", _F, "x = 1\n", "NAME = 'vllm.a:f'", "breaking string vllm.a:f: gone"),
    _case(
        "decorated in an unknown way",
        "from q import deco\n@deco\ndef f(a):\n    pass\n",
        "from q import deco\n@deco\ndef f(a, b):\n    pass\n",
        "from vllm.a import f\nf(1)",
    ),
    _case(
        "imported from a package that is not here",
        "from nowhere_at_all import tl\n",
        "from nowhere_at_all import tl\n",
        "from vllm.a import tl",
    ),
    _case(
        "what Python gives to classes",
        "class C:\n    x: int\n",
        "class C:\n    x: int\n",
        "from vllm.a import C\nC.__annotations__",
    ),
    _case("in neither", "x = 1\n", "x = 1\n", "from vllm.a import f", "breaking import vllm.a:f: gone"),
    _case("in neither, and set here", "x = 1\n", "x = 1\n", "from vllm import a\na.f = 1"),
    _case(
        "set here, and there now",
        "x = 1\n",
        "f = 1\n",
        "from vllm import a\na.f = 1",
        "behavioural patch vllm.a:f: there now, and was not before: the assignment puts ours in its place",
    ),
    _case(
        "a call of another method of that name",
        "class C:\n    def add_it(self, x):\n        pass\n",
        "class C:\n    def add_it(self, x):\n        pass\n"
        "class D:\n    def go(self, other):\n        other.add_it(1, more=2)\n",
        "from vllm.a import C\nclass Mine(C):\n    def add_it(self, x):\n        pass",
    ),
    _case(
        "a static method that is assigned",
        "class C:\n    @staticmethod\n    def m(x):\n        pass\n",
        "class C:\n    @staticmethod\n    def m(x, y=1):\n        pass\n",
        "from vllm.a import C\ndef mine(x):\n    pass\nC.m = staticmethod(mine)",
        "breaking patch vllm.a:C.m: ours does not take every call any more: it takes no positional argument 'y'",
    ),
    _case(
        "a static method that a method overrides",
        "class C:\n    @staticmethod\n    def m(x):\n        pass\n",
        "class C:\n    # The same.\n    @staticmethod\n    def m(x):\n        pass\n",
        "from vllm.a import C\nclass Mine(C):\n    def m(self, x):\n        pass",
    ),
    _case(
        "a static method that a method overrides, with one argument more",
        "class C:\n    @staticmethod\n    def m(x):\n        pass\n",
        "class C:\n    @staticmethod\n    def m(x, y=1):\n        pass\n",
        "from vllm.a import C\nclass Mine(C):\n    def m(self, x):\n        pass",
        "breaking override vllm.a:C.m: ours does not take every call any more: it takes no positional argument 'y'",
    ),
    _case(
        "a method that a static method overrides",
        "class C:\n    def m(self, x):\n        pass\n",
        "class C:\n    # The same.\n    def m(self, x):\n        pass\n",
        "from vllm.a import C\nclass Mine(C):\n    @staticmethod\n    def m(x):\n        pass",
    ),
    _case(
        "nested deeper than Python calls",
        f"def f(a):\n    return {'a + ' * 700}1\n",
        f"def f(a):\n    return {'a + ' * 700}2\n",
        "from vllm.a import f\nf(1)",
        "behavioural call vllm.a:f: body changed",
    ),
    _case("there now", "x = 1\n", _F, "from vllm.a import f"),
    _case(
        "a patch that does not take every call",
        _F,
        "def f(a, b=1, c=2):\n    return a\n",
        "from vllm import a\ndef mine(a, b=1):\n    pass\na.f = mine",
        "breaking patch vllm.a:f: ours does not take every call any more: it takes no positional argument 'c'",
    ),
    _case(
        "an override that did not take every call before, and lacks another argument",
        "class C:\n    def m(self, x, y=1):\n        pass\n",
        "class C:\n    def m(self, x, new=2, y=1):\n        pass\n",
        "from vllm.a import C\nclass Mine(C):\n    def m(self, x):\n        pass",
        "breaking override vllm.a:C.m: ours does not take the new argument 'new'",
    ),
    _case(
        "an override that did not take every call before",
        "class C:\n    def m(self, x, y=1):\n        pass\n",
        "class C:\n    def m(self, x, y=2):\n        pass\n",
        "from vllm.a import C\nclass Mine(C):\n    def m(self, x):\n        pass",
        "behavioural override vllm.a:C.m: the signature changed, and ours did not take every call of it before",
    ),
    _case(
        "there now, and asked for",
        "x = 1\n",
        _F,
        "try:\n    from vllm.a import f\nexcept ImportError:\n    f = None",
        "behavioural import vllm.a:f: there now, and was not before: the source finds it",
    ),
    _case(
        "asked for by hasattr, and called",
        _F,
        "x = 1\n",
        "from vllm import a\nif hasattr(a, 'f'):\n    a.f(1)",
        "behavioural call vllm.a:f: gone; the source goes on without it",
    ),
    _case(
        "by getattr",
        _F,
        "x = 1\n",
        "from vllm import a\ngetattr(a, 'f')",
        "breaking attribute vllm.a:f: gone",
    ),
    _case("by setattr", _F, "x = 1\n", "from vllm import a\nsetattr(a, 'f', 1)", "breaking patch vllm.a:f: gone"),
    _case(
        "by import_module",
        _F,
        "x = 1\n",
        "import importlib\na = importlib.import_module('vllm.a')\ndef go():\n"
        "    a = importlib.import_module('vllm.a')\n    a.f(1)",
        "breaking call vllm.a:f: gone",
    ),
    _case(
        "a field that is replaced",
        _DATA,
        _DATA.replace("    y: int = 1\n", ""),
        "from dataclasses import replace\nfrom vllm.a import D\ndef go(d: D):\n    return replace(d, y=2)",
        "breaking attribute vllm.a:D.y: gone",
    ),
    _case(
        "a field that is set",
        _DATA,
        _DATA.replace("    y: int = 1\n", ""),
        "from vllm.a import D\ndef go(d: D):\n    d.y = 2",
        "breaking attribute vllm.a:D.y: gone",
    ),
    _case(
        "a property without its setter",
        "class C:\n    @property\n    def p(self):\n        return 1\n"
        "    @p.setter\n    def p(self, value):\n        pass\n",
        "class C:\n    @property\n    def p(self):\n        return 1\n",
        "from vllm.a import C\ndef go(c: C):\n    c.p = 2",
        "breaking attribute vllm.a:C.p: is a property that cannot be set any more",
    ),
    _case(
        "a new abstract method",
        "class C:\n    def f(self):\n        pass\n",
        "from abc import abstractmethod\nclass C:\n    def f(self):\n        pass\n"
        "    @abstractmethod\n    def g(self):\n        pass\n",
        "from vllm.a import C\nclass Mine(C):\n    pass",
        "breaking base vllm.a:C: has abstract methods that ours lacks: g",
    ),
    _case(
        "a new abstract method that is there",
        "class C:\n    def f(self):\n        pass\n",
        "from abc import abstractmethod\nclass C:\n    def f(self):\n        pass\n"
        "    @abstractmethod\n    def g(self):\n        pass\n",
        "from vllm.a import C\nclass Mine(C):\n    def g(self):\n        pass",
    ),
    _case(
        "a context manager",
        "from contextlib import contextmanager\n@contextmanager\ndef f(a):\n    yield\n",
        "from contextlib import contextmanager\n@contextmanager\ndef f(a, b):\n    yield\n",
        "from vllm.a import f\nwith f(1):\n    pass",
        "breaking call vllm.a:f: the call f(...) does not fit (a, b)",
    ),
    _case(
        "a dataclass with an end of positions",
        _DATA,
        _DATA.replace("    y:", "    _: KW_ONLY\n    y:"),
        "from vllm.a import D\nD(1, 2)",
        "breaking construct vllm.a:D: the call D(..., ...) does not fit (x, *, y=1)",
    ),
    _case(
        "a field by name only",
        _DATA,
        _DATA.replace("= 1", "= field(kw_only=True, default=1)"),
        "from vllm.a import D\nD(1, 2)",
        "breaking construct vllm.a:D: the call D(..., ...) does not fit",
    ),
    _case(
        "a variable of the constructor",
        _DATA.replace("y: int", "y: InitVar[int]"),
        _DATA.replace("    y: int = 1\n", ""),
        "from vllm.a import D\nD(1, y=2)",
        "breaking construct vllm.a:D: the call D(..., y=...) does not fit (x)",
    ),
    _case(
        "a named tuple",
        "from typing import NamedTuple\nclass N(NamedTuple):\n    a: int\n",
        "from typing import NamedTuple\nclass N(NamedTuple):\n    a: int\n    b: int\n",
        "from vllm.a import N\nN(1)",
        "breaking construct vllm.a:N: the call N(...) does not fit (a, b)",
    ),
    _case(
        "a pydantic field without default",
        "from pydantic import BaseModel, Field\nclass M(BaseModel):\n    x: int = Field(1)\n",
        "from pydantic import BaseModel, Field\nclass M(BaseModel):\n    x: int = Field(...)\n",
        "from vllm.a import M\nM()",
        "breaking construct vllm.a:M: the call M() does not fit (*, x)",
    ),
    _case(
        "a msgspec class by name only",
        "import msgspec\nclass M(msgspec.Struct):\n    x: int = 1\n",
        "import msgspec\nclass M(msgspec.Struct, kw_only=True):\n    x: int = 1\n",
        "from vllm.a import M\nM(1)",
        "breaking construct vllm.a:M: the call M(...) does not fit (*, x=1)",
    ),
]


@pytest.mark.parametrize(("old", "new", "mine", "said"), CASES)
def test_what_still_fits(
    world: World, old: dict[str, str], new: dict[str, str], mine: str, said: tuple[str, ...]
) -> None:
    found = world.findings(old, new, mine)
    told = [
        f"{each.weight} {each.use.kind if each.use else ''} {each.target}: {each.why}"
        for each in found
        if each.weight in ("breaking", "behavioural", "unknown")
    ]
    missing = [each for each in said if not any(line.startswith(each) for line in told)]
    assert not missing, told
    # A class or function that changed is met under more than one use; none of them says anything worse.
    assert {line.partition(" ")[0] for line in told} == {each.partition(" ")[0] for each in said}


def test_what_was_concluded_is_likely_and_what_is_said_is_certain(world: World) -> None:
    old = {"a.py": "class C:\n    def __init__(self):\n        self.n = 1\n"}
    mine = "from vllm.a import C\ndef f(c: C):\n    return c.n\nC()\n"
    found = world.findings(old, {"a.py": "class C:\n    pass\n"}, mine)
    assert {(each.weight, each.sure) for each in found if each.use and each.use.kind == "attribute"} == {
        ("breaking", "likely")
    }


@pytest.mark.parametrize(
    ("old", "new", "mine", "said"),
    [
        ("", "", "import vllm.nowhere", "unknown vllm.nowhere: is in neither: something else brings it"),
        ("", "", "from vllm.nowhere import f", "unknown vllm.nowhere:f: is in neither"),
        ("", "", "try:\n    import vllm.nowhere\nexcept ImportError:\n    pass", "none vllm.nowhere: is in neither"),
        ("x = 1\n", "", "from vllm.a import f", "unknown vllm.a:f: is in neither"),
        ("x = 1\n", "", "from vllm.a import x", "breaking vllm.a:x: gone"),
    ],
)
def test_what_neither_release_has_no_release_took_away(world: World, old: str, new: str, mine: str, said: str) -> None:
    states = [world.atlas(name, {"a.py": text}, {"patches.py": mine}) for name, text in (("old", old), ("new", new))]
    compared = Comparison(*states, brought=frozenset())
    found = [judge(use, compared) for use in world.uses({"a.py": old}, mine)]
    assert [f"{each.weight} {each.target}: {each.why}".startswith(said) for each in found] == [True], found
