"""What is taken without being said in so many words: a table of two states of vllm and of a module between them."""

from __future__ import annotations

import textwrap

import pytest
from two_states import World

_C = """\
class C:
    def __init__(self, n):
        self.n = n
    def __call__(self, x):
        return x
"""
_NO_N = _C.replace("self.n = n", "self.q = n")
_MORE = _C.replace("__init__(self, n)", "__init__(self, n, more)")
_F = "def f(a, b=1):\n    return a\n"
_D = "from dataclasses import dataclass\n@dataclass\nclass D:\n    x: int\n    y: int = 1\n"
_FROZEN = _D.replace("@dataclass\n", "@dataclass(frozen=True)\n")
_ENUM = "from enum import Enum\nclass E(Enum):\n    A = 1\n    B = 2\n"
_ENUM_CALL = "import enum\nE = enum.Enum('E', 'A B')\n"
_TUPLE = "from collections import namedtuple\nP = namedtuple('P', 'x y')\n"
_TYPED_TUPLE = "from typing import NamedTuple\nP = NamedTuple('P', [('x', int), ('y', int)])\n"
_TUPLE_CLASS = "from typing import NamedTuple\nclass P(NamedTuple):\n    x: int\n    y: int\n"
_KEYS = "from typing import TypedDict\nclass T(TypedDict):\n    x: int\n    y: int\n"
_MODEL = "from pydantic import BaseModel, Field\nclass D(BaseModel):\n    x: int = Field(0, alias='y')\n"
_READS_P = "from vllm.a import P\ndef g(p: P):\n    return p.y"
_GONE = "breaking attribute vllm.a:C.n: gone"

_WITH = "def g():\n    with C(1) as c:\n        c.n"
_ASYNC_WITH = "async def g():\n    async with C(1) as c:\n        c.n"
_OPENS = """
from collections.abc import Iterator
from contextlib import contextmanager
@contextmanager
def opened() -> Iterator[C]: ...
"""
_BOUND = {
    "a method": "class C:\n    def m(self, x): ...\n",
    "a static method": "class C:\n    @staticmethod\n    def m(x): ...\n",
    "a class method": "class C:\n    @classmethod\n    def m(cls, x): ...\n",
    "a property": "class C:\n    @property\n    def m(self): ...\n",
}

CASES: dict[str, tuple[str, str, str, str]] = {
    # name: (old, new, the module that takes, the beginning of what is said; "" where nothing is)
    "a member by its key": (
        _ENUM,
        _ENUM.replace("    B = 2\n", ""),
        "from vllm.a import E\nE['B']",
        "breaking attribute vllm.a:E.B: gone",
    ),
    "a member of an enumeration that a call makes": (
        _ENUM_CALL,
        _ENUM_CALL.replace("A B", "A"),
        "from vllm.a import E\nE.B",
        "breaking attribute vllm.a:E.B: gone",
    ),
    "a key of a typed dict": (
        _KEYS,
        _KEYS.replace("    y: int\n", ""),
        "from vllm.a import T\ndef g(t: T):\n    return t['y']",
        "breaking attribute vllm.a:T.y: gone",
    ),
    "a field of a namedtuple": (_TUPLE, _TUPLE.replace("x y", "x z"), _READS_P, "breaking attribute vllm.a:P.y: gone"),
    "a field of a NamedTuple that a call makes": (
        _TYPED_TUPLE,
        _TYPED_TUPLE.replace("'y'", "'z'"),
        _READS_P,
        "breaking attribute vllm.a:P.y: gone",
    ),
    "a namedtuple that is made": (
        _TUPLE,
        _TUPLE.replace("x y", "x y z"),
        "from vllm.a import P\nP(1, 2)",
        "breaking construct vllm.a:P: the call P(..., ...) does not fit (x, y, z): missing",
    ),
    "a namedtuple with a default more": (
        _TUPLE,
        _TUPLE.replace("'x y'", "'x y z', defaults=[1]"),
        "from vllm.a import P\nP(1, 2)",
        "",
    ),
    "a namedtuple becomes a class": (_TUPLE, _TUPLE_CLASS, f"{_READS_P}\nP(1, 2)", ""),
    "a namedtuple whose fields nobody can tell": (
        "def names(): pass\n" + _TUPLE.replace("'x y'", "names()"),
        "def names(): pass\nk = 1\n" + _TUPLE.replace("'x y'", "names()"),
        _READS_P,
        "",
    ),
    "_replace": (
        _TUPLE,
        _TUPLE.replace("x y", "x z"),
        "from vllm.a import P\ndef g(p: P):\n    return p._replace(y=1)",
        "breaking attribute vllm.a:P.y: gone",
    ),
    "a name of a star import": (
        _F,
        "x = 1\n",
        "from vllm.a import *\nf(1)",
        "breaking import vllm.a:f: gone",
    ),
    "a star import that is not used": (_F, "x = 1\n", "from vllm.a import *\n", ""),
    "a star import beside a function of that name": (
        _F,
        "x = 1\n",
        "from vllm.a import *\ndef f(): pass\nf()\n",
        "",
    ),
    "an error that is caught": (
        "class E(Exception):\n    pass\n",
        "x = 1\n",
        "import vllm.a\ntry:\n    pass\nexcept vllm.a.E:\n    pass",
        "breaking attribute vllm.a:E: gone",
    ),
    "isinstance": (_C, _NO_N, "from vllm.a import C\ndef g(c):\n    if isinstance(c, C):\n        return c.n", _GONE),
    "isinstance, and more": (
        _C,
        _NO_N,
        "from vllm.a import C\ndef g(c, d):\n    if d and isinstance(c, C):\n        return c.n",
        _GONE,
    ),
    "isinstance in an expression": (
        _C,
        _NO_N,
        "from vllm.a import C\ndef g(c):\n    return isinstance(c, C) and c.n",
        _GONE,
    ),
    "isinstance that is asserted": (
        _C,
        _NO_N,
        "from vllm.a import C\ndef g(c):\n    assert isinstance(c, C)\n    return c.n",
        _GONE,
    ),
    "what is left after a refusal": (
        _C,
        _NO_N,
        "from vllm.a import C\ndef g(c):\n    if not isinstance(c, C):\n        return 1\n    return c.n",
        _GONE,
    ),
    "after the branch it may be anything": (
        _C,
        _NO_N,
        "from vllm.a import C\ndef g(c):\n    if isinstance(c, C):\n        pass\n    return c.n",
        "",
    ),
    "one of two": (
        _C,
        _NO_N,
        "from vllm.a import C\ndef g(c):\n    if isinstance(c, C) or c:\n        return c.n",
        "",
    ),
    "a pattern": (
        _D,
        _D.replace("    y: int = 1\n", ""),
        "from vllm.a import D\ndef g(d):\n    match d:\n        case D(y=1):\n            return 1",
        "breaking attribute vllm.a:D.y: gone",
    ),
    "an object that is called": (
        _C,
        _C.replace("__call__(self, x)", "__call__(self, x, y)"),
        "from vllm.a import C\ndef g(c: C):\n    return c(1)",
        "breaking call vllm.a:C.__call__: the call C.__call__(...) does not fit (self, x, y): missing",
    ),
    "a class of ours with their constructor": (
        _C,
        _MORE,
        "from vllm.a import C\nclass M(C):\n    pass\nM(1)",
        "breaking construct vllm.a:C: the call C(...) does not fit (n, more): missing",
    ),
    "a class of ours with its own constructor": (
        _C,
        _MORE,
        "from vllm.a import C\nclass M(C):\n    def __init__(self):\n        pass\nM()",
        "",
    ),
    "cls": (
        _C,
        _MORE,
        "from vllm.a import C\nclass M(C):\n    @classmethod\n    def make(cls):\n        return cls(1)",
        "breaking construct vllm.a:C: the call C(...) does not fit (n, more): missing",
    ),
    "a field of theirs for a dataclass of ours": (
        _D,
        _D.replace("    y: int = 1\n", ""),
        "from dataclasses import dataclass\nfrom vllm.a import D\n@dataclass\nclass M(D):\n    z: int = 1\nM(x=1, y=2)",
        "breaking attribute vllm.a:D.y: gone",
    ),
    "a field that is frozen now": (
        _D,
        _FROZEN,
        "from vllm.a import D\ndef g(d: D):\n    d.x = 1",
        "breaking attribute vllm.a:D.x: is a field of a frozen class that cannot be set any more",
    ),
    "a field that is frozen, and read": (_D, _FROZEN, "from vllm.a import D\ndef g(d: D):\n    return d.x", ""),
    "a dataclass of ours below one that is frozen now": (
        _D,
        _FROZEN,
        "from dataclasses import dataclass\nfrom vllm.a import D\n@dataclass\nclass M(D):\n    z: int = 1",
        "breaking base vllm.a:D: is a frozen dataclass now, and ours that derives from it is otherwise",
    ),
    "a plain class of ours below one that is frozen now": (
        _D,
        _FROZEN,
        "from vllm.a import D\nclass M(D):\n    pass",
        "",
    ),
    "arguments that changed places": (
        _F,
        "def f(b=1, a=2):\n    return a\n",
        "from vllm.a import f\nf(1, 2)",
        "breaking call vllm.a:f: argument 1 of the call f(..., ...) is 'b' now, and was 'a'",
    ),
    "an argument in between": (
        _F,
        "def f(a, new=0, b=1):\n    return a\n",
        "from vllm.a import f\nf(1, 2)",
        "breaking call vllm.a:f: argument 2 of the call f(..., ...) is 'new' now, and was 'b'",
    ),
    "a field in between": (
        _D,
        _D.replace("    x: int\n", "    x: int\n    new: int = 0\n"),
        "from vllm.a import D\nD(1, 2)",
        "breaking construct vllm.a:D: argument 2 of the call D(..., ...) is 'new' now, and was 'y'",
    ),
    "arguments that changed places, by name": (
        _F,
        "def f(b=1, a=2):\n    return a\n",
        "from vllm.a import f\nf(a=1, b=2)",
        "",
    ),
    "an argument with another name": (_F, "def f(q, b=1):\n    return a\n", "from vllm.a import f\nf(1, 2)", ""),
    "a signature that fits, and another body": (
        _F,
        "def f(a, b=1, c=2):\n    return a * c\n",
        "from vllm.a import f\nf(1)",
        "behavioural call vllm.a:f: signature changed: (a, b=1) -> (a, b=1, c=2); this use fits, and the body changed",
    ),
    "a signature that fits, and the same body": (
        _F,
        "def f(a, b=1, c=2):\n    '''More.'''\n    return a\n",
        "from vllm.a import f\nf(1)",
        "",
    ),
    "another default": (
        _F,
        "def f(a, b=2):\n    return a\n",
        "from vllm.a import f\nf(1)",
        "behavioural call vllm.a:f: signature changed: (a, b=1) -> (a, b=2); this use fits, and leaves b to another",
    ),
    "another default, and the argument is given": (
        _F,
        "def f(a, b=2):\n    return a\n",
        "from vllm.a import f\nf(1, 3)\nf(1, b=3)",
        "",
    ),
    "gone, and still a word": (
        _F,
        "class C:\n    def f(self):\n        '''f.'''\n        return self.f\n",
        "from vllm.a import f",
        "breaking import vllm.a:f: gone",
    ),
    "for type checkers alone": (
        _F,
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from vllm.b import f\n",
        "from vllm.a import f",
        "breaking import vllm.a:f: gone",
    ),
    "a word of what is made on demand": (
        _F,
        "def __getattr__(name):\n    if name == 'f':\n        return 1\n",
        "from vllm.a import f",
        "unknown import vllm.a:f: cannot be told from source",
    ),
    "a word of what is set by globals()": (
        _F,
        "for name in ('f',):\n    globals()[name] = 1\n",
        "from vllm.a import f",
        "unknown import vllm.a:f: cannot be told from source",
    ),
    "a word that a function makes global": (
        _F,
        "def start():\n    global f\n    f = 1\n",
        "from vllm.a import f",
        "unknown import vllm.a:f: cannot be told from source",
    ),
    "a field that pydantic takes by another name": (
        _MODEL,
        _MODEL.replace("'y'", "'z'"),
        "from vllm.a import D\nD(y=1)",
        "breaking construct vllm.a:D: the call D(y=...) does not fit (*, z=Field(0, alias='z')): got an unexpected",
    ),
    "a field that pydantic takes by both names": (
        _MODEL,
        _MODEL.replace("'y'", "'z'") + "    model_config = {'populate_by_name': True}\n",
        "from vllm.a import D\nD(z=1)\nD(x=1)",
        "",
    ),
    "a file of a newer Python": (
        _F,
        "def f(a) -> :\n",
        "from vllm.a import f",
        "unknown import vllm.a:f: cannot be told from source: ",
    ),
    **{
        f"what has objects: {name}": (_C, _NO_N, f"from vllm.a import C\n{text}", _GONE)
        for name, text in {
            "a list": "def g(cs: list[C]):\n    for c in cs:\n        c.n",
            "a list, quoted": "def g(cs: 'list[C] | None'):\n    for c in cs:\n        c.n",
            "an index": "def g(cs: list[C]):\n    return cs[0].n",
            "a slice": "def g(cs: list[C]):\n    for c in cs[1:]:\n        c.n",
            "a tuple": "def g(cs: tuple[C, ...]):\n    return [c.n for c in cs]",
            "a dictionary": "def g(cs: dict[str, C]):\n    return cs['a'].n",
            "values": "def g(cs: dict[str, C]):\n    return {c.n for c in cs.values()}",
            "items": "def g(cs: dict[str, C]):\n    for k, c in cs.items():\n        c.n",
            "enumerate": "def g(cs: list[C]):\n    for i, c in enumerate(cs):\n        c.n",
            "sorted": "def g(cs: set[C]):\n    for c in sorted(cs, key=id):\n        c.n",
            "a variable": "def g(x):\n    cs: list[C] = x\n    for c in cs:\n        c.n",
            "an attribute": "class B:\n    cs: list[C]\n    def g(self):\n        for c in self.cs:\n            c.n",
            "what a function returns": "def f() -> list[C]: ...\ndef g():\n    for c in f():\n        c.n",
        }.items()
    },
    **{
        f"with: {name}": (old, old.replace("self.n = n", "self.q = n"), f"from vllm.a import *\n{text}", said)
        for name, old, text, said in (
            ("the object itself", f"{_C}    def __enter__(self):\n        return self\n", _WITH, _GONE),
            ("of its own type", f"{_C}    def __enter__(self) -> 'Self':\n        return self\n", _WITH, _GONE),
            (
                "another object",
                f"{_C}class W:\n    def __enter__(self) -> C: ...\n",
                _WITH.replace("C(1)", "W()"),
                _GONE,
            ),
            ("a number", f"{_C}    def __enter__(self) -> int: ...\n", _WITH, ""),
            ("what is yielded", f"{_C}{_OPENS}", _WITH.replace("C(1)", "opened()"), _GONE),
            ("asynchronous", f"{_C}    async def __aenter__(self):\n        return self\n", _ASYNC_WITH, _GONE),
        )
    },
    "a loop over something else": (
        _C,
        _NO_N,
        "from vllm.a import C\ndef g(cs: list[int]):\n    for c in cs:\n        c.n",
        "",
    ),
    "a member by its value": (
        _ENUM,
        _ENUM.replace("    B = 2\n", ""),
        "from vllm.a import E\nE(2)",
        "breaking attribute vllm.a:E.B: gone",
    ),
    "what a member by its value has": (
        f"{_ENUM}    def name_of(self): ...\n",
        _ENUM,
        "from vllm.a import E\nE(2).name_of()",
        "breaking call vllm.a:E.name_of: gone",
    ),
    **{
        f"{was} becomes {is_}, {how}": (_BOUND[was], _BOUND[is_], f"from vllm.a import C\n{text}", said)
        for was, is_, how, text, said in (
            (
                "a method",
                "a static method",
                "on an object",
                "def g(c: C):\n    c.m(1)",
                "behavioural call vllm.a:C.m: was a",
            ),
            (
                "a method",
                "a class method",
                "on an object",
                "def g(c: C):\n    c.m(1)",
                "behavioural call vllm.a:C.m: was a",
            ),
            (
                "a static method",
                "a method",
                "on an object",
                "def g(c: C):\n    c.m(1)",
                "behavioural call vllm.a:C.m: was a",
            ),
            (
                "a static method",
                "a method",
                "on the class",
                "C.m(1)",
                "breaking call vllm.a:C.m: the call C.m(...) does",
            ),
            ("a static method", "a class method", "on the class", "C.m(1)", "behavioural call vllm.a:C.m: was a"),
            ("a method", "a static method", "on the class", "C.m(None, 1)", "breaking call vllm.a:C.m: the call C.m("),
            (
                "a method",
                "a property",
                "on an object",
                "def g(c: C):\n    c.m(1)",
                "breaking call vllm.a:C.m: was a method",
            ),
        )
    },
    **{
        f"a constant {was} becomes {is_}": (f"LIM = {was}\n", f"LIM = {is_}\n", "from vllm.a import LIM", said)
        for was, is_, said in (
            ("5", "'5'", "behavioural import vllm.a:LIM: was an int, is a str"),
            ("5", "6", ""),
            ("5", "5.5", ""),
            ("5", "None", ""),
            ("[1]", "(1,)", "behavioural import vllm.a:LIM: was a list, is a tuple"),
            ("5", "make()", ""),
        )
    },
}


@pytest.mark.parametrize("name", list(CASES))
def test_ways_of_using(world: World, name: str) -> None:
    old, new, mine, said = CASES[name]
    found = world.findings({"a.py": old}, {"a.py": new}, textwrap.dedent(mine))
    told = [
        f"{each.weight} {each.use.kind if each.use else ''} {each.target}: {each.why}"
        for each in found
        if each.weight in ("breaking", "behavioural", "unknown")
    ]
    assert any(line.startswith(said) for line in told) if said else not told, told
    assert {line.partition(" ")[0] for line in told} <= {said.partition(" ")[0]}, told


def test_the_order_of_fields_is_more_than_layout(world: World) -> None:
    swapped = _TUPLE.replace("x y", "y x")
    (found,) = world.findings({"a.py": _TUPLE}, {"a.py": swapped}, "from vllm.a import P\n")
    assert (found.weight, found.why) == ("additive", "members changed: bases, decorators or the order of fields")


def test_a_file_that_is_not_read_is_named(world: World) -> None:
    (found,) = world.findings({"a.py": _F}, {"a.py": "x = 1\ny = (\n"}, "from vllm.a import f\n")
    assert "a.py is not read: this Python, 3." in found.why and "on line 2" in found.why
