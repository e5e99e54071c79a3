"""What a holder is called: by the name under which it is found, or by what it is."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from ascend_overlay.places import holders
from ascend_overlay.places.bindings import Swap, rebind_everywhere

ROWS = "    def __init__(self): self.rows = "
PARTS = "class K:\n    __slots__ = ('empty', 'rows')\n"
CLOSURE = "def make(a, b):\n    def inner(): return a, b\n    return inner\n"
UNUSED = "def make(a, b):\n    def inner(): return later\n    return inner\n    later = 1\n"
# what holds `run` in a module -> what it is called
FUNCTION: dict[str, tuple[str, set[str]]] = {
    "a list": ("X = [1, run]\n", {"held.X[1]"}),
    "a list in a tuple": ("X = [[], ([], [run])]\n", {"held.X[1][1][0]"}),
    "a set in a list": ("X = [{run}]\n", {"held.X[0]{}"}),
    "a frozenset in a list": ("X = [1, frozenset({run})]\n", {"held.X[1][0]"}),
    "a list by two names": ("A = B = [run]\n", {"held.A[0]"}),
    "a deep mapping": ("X = {'a': {'b': [run]}}\n", {"held.X['a']['b'][0]"}),
    "one that is too deep": ("X = {1: {2: {3: {'c': {'d': [run]}}}}}\n", {"a dict[3]['c']['d'][0]"}),
    "a list that contains itself": ("X = [run]\nX.append(X)\n", {"held.X[0]"}),
    "a key": ("X = {1: 1, run: 2}\n", {"a key of held.X"}),
    "a tuple that is a key": ("X = {(1, run): 2}\n", {"a key of held.X"}),
    "a list of a class": ("class K:\n    class L:\n        rows = [run]\n", {"held.K.L.rows[0]"}),
    "descriptors": (
        "class K:\n    s = staticmethod(run)\n    c = classmethod(run)\n    p = property(None, run)\n",
        {"held.K.s", "held.K.c", "held.K.p"},
    ),
    "a list of an object": (f"class K:\n{ROWS}[1, run]\nX = K()\n", {"a live held.K.rows[1]"}),
    "a mapping of an object": (f"class K:\n{ROWS}{{'a': run}}\nX = K()\n", {"a live held.K.rows['a']"}),
    "a tuple of an object": (f"class K:\n{ROWS}(1, run)\nX = K()\n", {"attribute rows of a live held.K"}),
    "a deque of an object": (
        f"import collections\nclass K:\n{ROWS}collections.deque([1, run])\nX = K()\n",
        {"a live held.K.rows[1]"},
    ),
    "a list in a slot": (f"{PARTS}X = K()\nX.rows = [1, run]\n", {"a live held.K.rows[1]"}),
    "a slot": (f"{PARTS}X = K()\nX.rows = run\n", {"attribute rows of a live held.K"}),
    "a slot of a base": (
        f"{PARTS}class D(K):\n    __slots__ = ()\nX = D()\nX.rows = run\n",
        {"attribute rows of a live held.D"},
    ),
    "an attribute of a function": ("def f(): ...\nf.other = run\n", set()),
    "a list of a function": ("def f(): ...\nf.other = [run]\n", {"held.f.other[0]"}),
    "annotations of a function": ("def f(x: run) -> run: ...\n", set()),
    "annotations": (
        "x: run = 1\nclass K:\n    x: run\n",
        {"held.__annotations__['x']", "held.K.__annotations__['x']"},
    ),
    "a default": ("class K:\n    def f(self, a, x=1, y=run): ...\n", {"held.K.f(default 1)"}),
    "a tuple in a default": ("def f(x=(1, run)): ...\n", {"held.f(default 0)[1]"}),
    "a list in a default": ("def f(x=[run]): ...\n", {"a tuple of held.f[0][0]"}),
    "a keyword": ("def f(*, x=run): ...\n", {"held.f(default x)"}),
    "a list in a keyword": ("def f(*, x=[run]): ...\n", {"held.f.x[0]"}),
    "a partial of a class": (
        "import functools\nclass K:\n    p = functools.partial(print, run)\n",
        {"held.K.p(arguments)[0]"},
    ),
    "a keyword of a partial": ("import functools\nX = functools.partial(print, end=run)\n", {"a dict['end']"}),
    "a closure": (f"{CLOSURE}X = make(1, run)\n", {"b in the closure held.make.<locals>.inner"}),
    "a list in a closure": (f"{CLOSURE}X = make(1, [run])\n", {"a list[0]"}),
    "a closure that is empty": (f"{UNUSED}X = make(1, run), [run]\n", {"held.X[1][0]"}),
    "a cell alone": ("import types\nX = types.CellType(run)\n", {"a closure"}),
    "a bound method": (
        "import types\nclass K: ...\nX = types.MethodType(run, K())\n",
        {"a bound method of a live held.K"},
    ),
    "a cache": (
        "import functools\nX = functools.lru_cache(run)\n",
        {"a functools.lru_cache, lib.run", "attribute __wrapped__ of lib.run"},
    ),
    "a cached property": (
        "import functools\nclass K:\n    p = functools.cached_property(run)\n",
        {"attribute func of a live functools.cached_property"},
    ),
    "a named tuple": ("import collections\nX = collections.namedtuple('P', 'a b')(1, run)\n", {"a live held.P"}),
    "an object of a module that is passed over": (
        "import types\nX = types.SimpleNamespace(a=[run], b=run)\n",
        {"a live types.SimpleNamespace.a[0]", "attribute b of a live types.SimpleNamespace"},
    ),
    "an exception": ("X = ValueError(run)\n", set()),
    "an iterator": ("X = iter([run])\n", {"a list of a live builtins.list_iterator[0]"}),
    "a generator that waits": (
        "def f(x): yield x\nX = f(run)\nnext(X)\n",
        {"variable x of the suspended generator held.f"},
    ),
    "a weak reference": ("import weakref\nX = weakref.ref(run)\n", {"1 weak reference"}),
    "two weak references": (
        "import weakref\nX = weakref.ref(run), weakref.ref(run, print)\n",
        {"2 weak references"},
    ),
    "a proxy": (
        "class P:\n    def __init__(self): self.of = run\n    __class__ = property(lambda self: dict)\nX = P()\n",
        {"a live held.P"},
    ),
    "a description by pydantic": ("X = {'type': 'function', 'schema': {}, 'function': run}\n", set()),
    "one of a class by pydantic": ("X = {'type': 'model', 'cls': int, 'function': run}\n", set()),
    "no description, for want of a schema": ("X = {'type': 'function', 'f': run}\n", {"held.X['f']"}),
    "no description, for want of a type": ("X = {'type': 1, 'schema': {}, 'f': run}\n", {"held.X['f']"}),
    "no description, of another class": (
        "class D(dict): ...\nX = D(type='function', schema={}, f=run)\n",
        {"held.X['f']"},
    ),
}
# what holds the class `Thing` -> what it is called
CLASS: dict[str, tuple[str, set[str]]] = {
    "an instance": ("X = [Thing(), Thing()]\n", {"a live instance of lib.Thing"}),
    "a tuple": ("X = Thing, int\n", {"held.X[0]"}),
    "a set": ("X = {Thing}\n", {"held.X{}"}),
    "a key": ("X = {Thing: 1}\n", {"a key of held.X"}),
    "a partial": ("import functools\nX = functools.partial(Thing)\n", {"held.X(function)"}),
    "a member of another": ("class K:\n    kind = Thing\n", {"held.K.kind"}),
    "an attribute": (f"class K:\n{ROWS}Thing\nX = K()\n", {"attribute rows of a live held.K"}),
    "a slot": (f"{PARTS}X = K()\nX.rows = Thing\n", {"attribute rows of a live held.K"}),
    "a named tuple": ("import collections\nX = collections.namedtuple('P', 'a b')(1, Thing)\n", {"a live held.P"}),
    "a closure": (f"{CLOSURE}X = make(1, Thing)\n", {"b in the closure held.make.<locals>.inner"}),
    "a cell alone": ("import types\nX = types.CellType(Thing)\n", set()),
    "a derived class": ("class D(Thing):\n    def m(self): return super().__init__()\nclass E(D): ...\n", set()),
    "type hints": ("import typing\nX = list[Thing], Thing | None, typing.TypeVar('T', bound=Thing)\n", set()),
    "a generator that waits": (
        "def f(x): yield x\nX = f(Thing)\nnext(X)\n",
        {"variable x of the suspended generator held.f"},
    ),
    "a bound method": ("X = Thing.__init_subclass__\n", set()),
}
TABLES = {"run": FUNCTION, "Thing": CLASS}


@pytest.fixture
def modules(site: Any) -> Iterator[Any]:
    site.write({"lib.py": "def run(x=0): return 'stock'\nclass Thing: ...\n"})
    yield site
    for name in ("lib", "held"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, table in TABLES.items() for case in table])
def test_what_a_holder_is_called(modules: Any, name: str, case: str) -> None:
    text, called = TABLES[name][case]
    modules.write({"held.py": f"from lib import run, Thing\n{text}"})
    importlib.import_module("held")
    lib: Any = sys.modules["lib"]
    new: Any = type("Ours", (lib.Thing,), {}) if name == "Thing" else (lambda x=0: "ours")
    swap = Swap(getattr(lib, name), new, name, lib)
    rebind_everywhere([swap])
    assert {*swap.copies, *swap.left} == {f"held.{name}"} | called
    assert len(swap.copies) == len(set(swap.copies)) and len(swap.left) == len(set(swap.left))
    assert swap.notes == [] == swap.apart


class Slotted:
    __slots__ = ("empty", "value")


@pytest.mark.parametrize("stranger", [None, 5, Slotted()], ids=["None", "a number", "an object"])
def test_what_is_no_module_among_the_modules(modules: Any, monkeypatch: pytest.MonkeyPatch, stranger: Any) -> None:
    modules.write({"held.py": "from lib import run\n"})
    held: Any = importlib.import_module("held")
    lib: Any = sys.modules["lib"]
    monkeypatch.setitem(sys.modules, "no_module_at_all", stranger)
    swap = Swap(lib.run, lambda x=0: "ours", "run", lib)
    rebind_everywhere([swap])
    assert swap.copies == ["held.run"] and held.run() == "ours"


def test_what_many_objects_are_held_by() -> None:
    """Up to a hundred, Python's own search is the faster one; beyond, both find the same."""

    def wanted() -> None: ...

    listed = [wanted]
    for many in (1, 100, 101, 150):
        objects: list[Any] = [wanted, *(object() for _ in range(many - 1))]
        found = holders.referrers(objects)
        assert any(item is listed for item in found), many
        assert not any(item is objects for item in found) or many <= 100


class Both(Slotted):
    __slots__ = ("__dict__", "other")


class Liar:
    def __init__(self) -> None:
        self.value = 1

    @property
    def __class__(self) -> Any:
        return dict


def test_attributes_are_set_where_they_are() -> None:
    value, other = object(), object()
    slotted, both, plain = Slotted(), Both(), type("Plain", (), {})()
    for owner, name in ((slotted, "value"), (both, "value"), (both, "other"), (both, "free"), (plain, "free")):
        setattr(owner, name, value)
        put: Any = holders.attribute_setter(owner, value)
        put(other)
        assert getattr(owner, name) is other and holders.attribute_setter(owner, value) is None


def test_namespaces() -> None:
    plain = type("Plain", (), {})()
    assert holders.attributes_of(plain) is vars(plain)
    assert holders.attributes_of(Slotted()) is None is holders.attributes_of(Liar()) is holders.attributes_of(1)
