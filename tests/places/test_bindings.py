"""Every kind of holder: re-bound or left behind, under its name, and back again."""

from __future__ import annotations

import ctypes
import importlib
import sys
from typing import Any

import pytest

from ascend_overlay.places.bindings import Swap, rebind_everywhere, rebindable, within

HOLDERS = """
    import collections, contextvars, functools, itertools, types, weakref
    from lib import run
    from lib import run as renamed

    class Holder:
        attribute = staticmethod(run)
        table = {"run": run}
        names = [run]
        def method(self, function=run): return function
    def default(first=1, function=run): return function
    def keyword(*, function=run): return function
    @functools.wraps(run)
    def follower(): return 1
    TABLE = {"run": run, "nested": {"deep": run}}
    LIST = [1, [run]]
    TUPLE = (run, (1, run))
    FROZEN = frozenset({run})
    SET = {run, 1}
    QUEUE = collections.deque([1, run])
    PARTIAL = functools.partial(run)
    ARGUMENT = functools.partial(map, run)
    PROPERTY = property(run)
    KEYS = {"before": 0, run: 1, "after": 2}
    class Registry:
        def __init__(self): self.entries = {"run": run}
    REGISTRY = Registry()
    class ByAttribute:
        def __init__(self): self.function = run
    LIVE = ByAttribute()
    class Slotted:
        __slots__ = ("empty", "function")
        def __init__(self): self.function = run
    SLOTTED = Slotted()
    def closure():
        function = run
        def inner(): return function
        return inner
    CLOSURE = closure()
    BOUND = types.MethodType(run, 0)
    Pair = collections.namedtuple("Pair", "first second")
    NAMED = Pair(run, 1)
    VARIABLE = contextvars.ContextVar("VARIABLE")
    VARIABLE.set(run)
    REPEAT = itertools.repeat(run)
    class Stubborn(list):
        def __setitem__(self, index, value): raise ValueError("no")
    STUBBORN = Stubborn([run])
"""
REBOUND = {
    "holders.run",
    "holders.renamed",
    "holders.Holder.attribute",
    "holders.Holder.table['run']",
    "holders.Holder.names[0]",
    "holders.Holder.method(default 0)",
    "holders.default(default 1)",
    "holders.keyword(default function)",
    "holders.TABLE['run']",
    "holders.TABLE['nested']['deep']",
    "holders.LIST[1][0]",
    "holders.TUPLE[0]",
    "holders.TUPLE[1][1]",
    "holders.FROZEN[0]",
    "holders.SET{}",
    "holders.QUEUE[1]",
    "holders.PARTIAL(function)",
    "holders.ARGUMENT(arguments)[0]",
    "holders.PROPERTY",
    "a live holders.Registry.entries['run']",
}
LEFT = {
    "a key of holders.KEYS",
    "attribute function of a live holders.ByAttribute",
    "attribute function of a live holders.Slotted",
    "function in the closure holders.closure.<locals>.inner",
    "a bound method of a live builtins.int",
    "a live holders.Pair",
    "the context variable VARIABLE",
    "a live itertools.repeat",
    "holders.STUBBORN[0] (ValueError: no)",
}


@pytest.fixture
def world(site: Any) -> Any:
    site.write({"lib.py": "def run(): return 'stock'\n", "holders.py": HOLDERS})
    importlib.import_module("holders")
    yield sys.modules["lib"], sys.modules["holders"]
    for name in ("lib", "holders"):
        del sys.modules[name]


def made() -> Any:
    return lambda: "ours"


def test_all_kinds_of_holders(world: Any) -> None:
    (lib, _), ours = world, made()
    swap = Swap(lib.run, ours, "run", lib)
    rebind_everywhere([swap])
    assert set(swap.copies) == REBOUND and len(swap.copies) == len(REBOUND)
    assert set(swap.left) == LEFT and len(swap.left) == len(LEFT)
    assert swap.apart == [] and swap.notes == [] and lib.run is not ours
    back = Swap(ours, lib.run, "run", lib, restoring=True)
    rebind_everywhere([back])
    assert set(back.copies) == REBOUND and [text for text in back.left if "holders" in text] == []


def test_what_a_patch_put_there_goes_wherever_it_got_to(world: Any) -> None:
    (lib, holders), ours = world, made()
    stock = lib.run
    swap = Swap(stock, ours, "run", lib, restoring=True)
    rebind_everywhere([swap])
    reached = {
        "a key of holders.KEYS",
        "attribute function of a live holders.ByAttribute",
        "attribute function of a live holders.Slotted",
        "function in the closure holders.closure.<locals>.inner",
        "lib.run.__wrapped__",
    }
    assert set(swap.copies) == REBOUND | reached and set(swap.left) == {
        *(LEFT - reached - {"a bound method of a live builtins.int"}),
        "a bound method of a live builtins.int (AttributeError: readonly attribute)",
    }
    assert list(holders.KEYS.items()) == [("before", 0), (ours, 1), ("after", 2)]
    assert [holders.LIVE.function, holders.SLOTTED.function, holders.CLOSURE()] == [ours] * 3
    assert holders.BOUND.__func__ is stock and list(holders.STUBBORN) == [stock]


SOME: dict[str, tuple[dict[str, Any], set[str]]] = {
    "by its name alone": ({"by_name": True}, {"holders.run"}),
    "kept": ({"kept": frozenset({"holders"})}, set()),
    "some kept": ({"kept": frozenset({"holders.TABLE", "holders.Holder"})}, set()),
    "some only": ({"only": frozenset({"holders.TABLE"})}, {"holders.TABLE['run']", "holders.TABLE['nested']['deep']"}),
    "one only": ({"only": frozenset({"holders.KEYS"})}, set()),
    "lent": ({"restoring": True, "borrowed": True}, REBOUND),
}


@pytest.mark.parametrize("case", SOME)
def test_some_holders(world: Any, case: str) -> None:
    (lib, _), ours = world, made()
    options, expected = SOME[case]
    swap = Swap(lib.run, ours, "run", lib, **options)
    rebind_everywhere([swap])
    if case == "some kept":
        expected = {name for name in REBOUND if not name.startswith(("holders.TABLE[", "holders.Holder."))}
        assert "holders.TABLE['run'] keeps the original, which the implementation uses" in swap.notes
    assert set(swap.copies) == expected
    assert (swap.left == []) == (case in ("by its name alone", "some only", "one only"))


def test_what_was_lent_stays_where_it_has_its_own_name(site: Any) -> None:
    names = {"lending.py": "def mine(): return 1\n", "third.py": "from lending import mine\nHOOK = also = mine\n"}
    site.write(names)
    lending, third = importlib.import_module("lending"), importlib.import_module("third")
    instead = made()
    swap = Swap(lending.mine, instead, "HOOK", None, restoring=True, borrowed=True)
    rebind_everywhere([swap])
    assert lending.mine is third.mine is not instead
    assert third.HOOK is third.also is instead
    for name in ("lending", "third"):
        del sys.modules[name]


def test_each_name_has_the_object_that_is_meant_for_it(site: Any) -> None:
    site.write({"lib.py": "def run(): ...\nagain = run\n", "third.py": "from lib import run, again\nother = run\n"})
    lib, third = importlib.import_module("lib"), importlib.import_module("third")
    first, second = made(), made()
    swaps = [Swap(lib.run, second, "again", lib, by_name=True), Swap(lib.run, first, "run", lib)]
    rebind_everywhere(swaps)
    assert (third.run, third.again, third.other) == (first, second, first)
    assert [set(swap.copies) for swap in swaps] == [{"third.again"}, {"third.run", "third.other"}]
    assert lib.run is lib.again is swaps[0].old
    for name in ("lib", "third"):
        del sys.modules[name]


def test_an_implementation_may_be_meant_to_have_another(world: Any) -> None:
    (lib, holders), ours, theirs = world, made(), made()
    only = frozenset({"holders.TABLE", "holders.closure"})
    stock = lib.run
    swaps = [Swap(stock, theirs, "run", lib), Swap(stock, ours, "run", lib, only=only)]
    rebind_everywhere(swaps)
    assert holders.TABLE["run"] is holders.TABLE["nested"]["deep"] is ours
    assert holders.LIST[1][0] is holders.run is holders.TUPLE[0] is theirs
    assert holders.CLOSURE() is ours and holders.LIVE.function is stock
    reached = {"holders.TABLE['run']", "holders.TABLE['nested']['deep']"}
    assert set(swaps[1].copies) == reached | {"function in the closure holders.closure.<locals>.inner"}
    assert set(swaps[0].copies) == REBOUND - reached and swaps[1].left == []


def running(lib: Any, **options: Any) -> Swap:
    """Re-bind while a function that runs has the object in a variable."""
    kept = lib.run
    swap = Swap(kept, made(), "run", lib, **options)
    rebind_everywhere([swap])
    return swap


RUNNING: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a copy": ({}, [f"{__name__}.running, which runs right now, keeps the original in a variable"]),
    "by name": ({"by_name": True}, []),
    "only": ({"only": frozenset({"elsewhere"})}, []),
    "going back": ({"restoring": True}, []),
}


@pytest.mark.parametrize("case", RUNNING)
def test_what_a_running_function_keeps_is_told(world: Any, case: str) -> None:
    options, notes = RUNNING[case]
    assert running(world[0], **options).notes == notes


HIDDEN = "somebody outside of Python's reach, such as PyTorch's dispatcher of operators"
UNSEEN: dict[str, tuple[str, dict[str, Any], bool]] = {
    "a function": ("run", {}, True),
    "a class": ("Thing", {}, False),
    "a descriptor": ("static", {}, False),
    "by name": ("run", {"by_name": True}, False),
    "only": ("run", {"only": frozenset({"elsewhere"})}, False),
    "going back": ("run", {"restoring": True}, True),
}


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("case", UNSEEN)
def test_who_holds_it_out_of_reach_is_told(site: Any, case: str, held: bool) -> None:
    site.write({"lib.py": "def run(): ...\nclass Thing: ...\nstatic = staticmethod(lambda: 1)\n"})
    (name, options, told), lib = UNSEEN[case], importlib.import_module("lib")
    stock = vars(lib)[name]
    if held:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(stock))
    new: Any = type("Ours", (), {}) if name == "Thing" else made()
    swap = Swap(stock, new, name, lib, **options)
    del stock
    rebind_everywhere([swap])
    assert swap.left == ([HIDDEN] if held and told else [])
    if held:
        ctypes.pythonapi.Py_DecRef(ctypes.py_object(swap.old))
    del sys.modules["lib"]


def test_rebindable() -> None:
    assert all(map(rebindable, [lambda: 1, Swap, property(), staticmethod(print), len]))
    assert not any(map(rebindable, [None, True, 1, 1.0, 1j, "a", b"a", (), frozenset(), [], {}, object()]))


WITHIN = [
    ("lib", {"lib"}, True),
    ("lib.name", {"lib"}, True),
    ("lib.name", {"lib.name"}, True),
    ("lib.names", {"lib.name"}, False),
    ("library.name", {"lib"}, False),
    ("lib.TABLE['a']", {"lib.TABLE"}, True),
    ("lib.f(default 0)", {"lib.f"}, True),
    ("a closure in lib.f", {"lib"}, True),
    ("a closure in other.lib.f", {"lib"}, False),
    ("other.name", {"lib", "other"}, True),
    ("lib.name", set(), False),
    ("json.decoder.JSON", {"json"}, False),
    ("json.loads", {"json"}, True),
]


@pytest.mark.parametrize(("where", "homes", "expected"), WITHIN)
def test_within(where: str, homes: set[str], expected: bool) -> None:
    importlib.import_module("json.decoder")
    assert within(where, frozenset(homes)) is expected
