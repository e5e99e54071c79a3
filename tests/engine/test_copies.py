"""Who else holds a patched object: re-bound or reported by name, and all of it put back."""

from __future__ import annotations

import copy
import gc
import importlib
import pickle
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.places.holders import referrers

LIBRARY = """
    def run(x=0): return f"stock {x}"
    class Thing:
        kind = "stock"
"""
HOLDERS = """
    import collections, functools
    from lib import run, Thing
    from lib import run as renamed

    class Holder:
        attribute = staticmethod(run)
        thing = Thing
        table = {"run": run}
        names = [run]

    def default(function=run): return function()
    def keyword(*, function=run): return function()
    TABLE = {"run": run, "nested": {"deep": run}}
    LIST = [run, [run]]
    TUPLE = (run, "other", (1, run))
    FROZEN = frozenset({run})
    SET = {run}
    QUEUE = collections.deque([run])
    PARTIAL = functools.partial(run, 7)
    ARGUMENT = functools.partial(map, run)
    TUPLES = {"key": (1, run)}

    class Registry:
        def __init__(self): self.entries = {"run": run}
    REGISTRY = Registry()

    class ByAttribute:
        def __init__(self): self.function = run
    LIVE = ByAttribute()

    class Slotted:
        __slots__ = ("function",)
        def __init__(self): self.function = run
    SLOTTED = Slotted()

    def closure():
        function = run
        def inner(): return function()
        return inner
    CLOSURE = closure()
"""
MORE_HOLDERS = """
    import collections, contextvars, itertools, types, weakref

    KEYS = {run: "a dispatch table"}
    BOUND = types.MethodType(run, 0)
    Pair = collections.namedtuple("Pair", "first second")
    NAMED = Pair(run, 1)
    VARIABLE = contextvars.ContextVar("VARIABLE")
    VARIABLE.set(run)
    WEAK = weakref.ref(run)
    BY_NAME = weakref.WeakValueDictionary(run=run)
    REPEAT = itertools.repeat(run)
"""

# how the holder is called -> what it must give after the patch; None: it cannot be re-bound and must be reported
HOLDER_CALLS: dict[str, Callable[[Any], Any]] = {
    "a from-import": lambda m: m.run(),
    "a renamed from-import": lambda m: m.renamed(),
    "a class attribute": lambda m: m.Holder.attribute(),
    "a dict of a class": lambda m: m.Holder.table["run"](),
    "a list of a class": lambda m: m.Holder.names[0](),
    "a default argument": lambda m: m.default(),
    "a keyword default": lambda m: m.keyword(),
    "a dict": lambda m: m.TABLE["run"](),
    "a dict in a dict": lambda m: m.TABLE["nested"]["deep"](),
    "a list": lambda m: m.LIST[0](),
    "a list in a list": lambda m: m.LIST[1][0](),
    "a tuple": lambda m: m.TUPLE[0](),
    "a tuple in a tuple": lambda m: m.TUPLE[2][1](),
    "a tuple in a dict": lambda m: m.TUPLES["key"][1](),
    "a set": lambda m: next(iter(m.SET))(),
    "a frozenset": lambda m: next(iter(m.FROZEN))(),
    "a deque": lambda m: m.QUEUE[0](),
    "a partial": lambda m: m.PARTIAL()[:-1] + "0",
    "an argument of a partial": lambda m: next(iter(m.ARGUMENT([0]))),
    "a registry object": lambda m: m.REGISTRY.entries["run"](),
}
LEFT_BEHIND = {
    "a live instance": ("function of a live holders.ByAttribute", lambda h: h.LIVE.function()),
    "an instance with slots": ("function of a live holders.Slotted", lambda h: h.SLOTTED.function()),
    "a closure": ("holders.closure.<locals>.inner", lambda h: h.CLOSURE()),
}
LEFT_BEHIND_ELSEWHERE = {
    "a key": ("a key of more.KEYS", lambda m: next(iter(m.KEYS))()),
    "a bound method": ("a bound method", lambda m: m.BOUND()),
    "a named tuple": ("a live more.Pair", lambda m: m.NAMED.first()),
    "a context variable": ("the context variable VARIABLE", lambda m: m.VARIABLE.get()()),
    "a weak reference": ("weak reference", lambda m: m.WEAK()()),
    "a weak mapping": ("weak reference", lambda m: m.BY_NAME["run"]()),
    "a C iterator": ("a live itertools.repeat", lambda m: next(m.REPEAT)()),
}


@pytest.fixture(autouse=True)
def _packages(site: Any) -> None:
    site.write({"lib.py": LIBRARY, "holders.py": HOLDERS, "more.py": f"    from lib import run{MORE_HOLDERS}"})


def wrap_run() -> Overlay:
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lib:run")(lambda wrapped, instance, args, kwargs: f"<{wrapped(*args, **kwargs)}>")
    return overlay


def replace_run() -> Overlay:
    overlay = Overlay("one", reason="a test")
    overlay.replace("lib:run")(lambda x=0: f"<stock {x}>")
    return overlay


@pytest.mark.parametrize("make", [wrap_run, replace_run], ids=["wrap", "replace"])
@pytest.mark.parametrize("holder", list(HOLDER_CALLS))
def test_copy_made_before_is_re_bound_and_put_back(offer: Any, holder: str, make: Callable[[], Overlay]) -> None:
    holders = importlib.import_module("holders")
    stock = sys.modules["lib"].run
    call = HOLDER_CALLS[holder]
    assert call(holders) == "stock 0"
    offer(make())
    ascend_overlay.enable()
    assert call(holders) in ("<stock 0>", "<stock 70"), ascend_overlay.ledger().to_json()
    ascend_overlay.disable()
    assert call(holders) == "stock 0"
    assert holders.run is stock and holders.renamed is stock


def test_every_touched_object_is_put_back_by_identity(offer: Any, snapshot: Any) -> None:
    holders = importlib.import_module("holders")
    before = snapshot(holders, holders.Holder, sys.modules["lib"])
    inside = snapshot(
        SimpleNamespace(defaults=holders.default.__defaults__, key=holders.TUPLES["key"], args=holders.ARGUMENT.args)
    )
    offer(wrap_run())
    ascend_overlay.enable()
    assert holders.TUPLE[0] is sys.modules["lib"].run
    ascend_overlay.disable()
    before.assert_same(holders, holders.Holder, sys.modules["lib"])
    inside.assert_same(
        SimpleNamespace(defaults=holders.default.__defaults__, key=holders.TUPLES["key"], args=holders.ARGUMENT.args)
    )
    assert holders.LIST[0] is sys.modules["lib"].run and list(holders.SET) == [sys.modules["lib"].run]


def test_the_ledger_names_the_copies(offer: Any) -> None:
    importlib.import_module("holders")
    offer(wrap_run())
    ascend_overlay.enable()
    (entry,) = ascend_overlay.ledger()
    for name in (
        "holders.run",
        "holders.renamed",
        "holders.default(default 0)",
        "holders.keyword(default function)",
        "holders.TABLE['run']",
        "holders.LIST[0]",
        "holders.TUPLE[0]",
        "holders.Holder.table['run']",
        "holders.PARTIAL(function)",
    ):
        assert name in entry.copies, (name, entry.copies)
    assert len(entry.copies) == len(set(entry.copies))


@pytest.mark.parametrize("holder", [*LEFT_BEHIND, *LEFT_BEHIND_ELSEWHERE])
@pytest.mark.parametrize("make", [wrap_run, replace_run], ids=["wrap", "replace"])
def test_whoever_cannot_be_re_bound_meets_the_patch_in_the_function_itself(
    offer: Any, holder: str, make: Callable[[], Overlay]
) -> None:
    holders = importlib.import_module("holders" if holder in LEFT_BEHIND else "more")
    stock = sys.modules["lib"].run
    named, call = {**LEFT_BEHIND, **LEFT_BEHIND_ELSEWHERE}[holder]
    code = stock.__code__
    offer(make())
    ascend_overlay.enable()
    assert call(holders) == "<stock 0>"
    (entry,) = ascend_overlay.ledger()
    assert entry.seam == "in the function itself" and entry.stale == []
    assert any(named in text for text in entry.notes), entry.notes
    ascend_overlay.disable()
    assert call(holders) == "stock 0"
    assert stock.__code__ is code and vars(stock) == {} and stock.__kwdefaults__ is None


@pytest.mark.parametrize("holder", ["a live instance", "an instance with slots", "a closure"])
def test_a_class_that_cannot_be_re_bound_is_reported_with_its_holder(offer: Any, site: Any, holder: str) -> None:
    of_class = HOLDERS.replace("run", "Thing").replace("import Thing, Thing", "import Thing")
    site.write({"of_class.py": of_class, "ours.py": "from lib import Thing\nclass Ours(Thing): pass\n"})
    importlib.import_module("of_class")
    overlay = Overlay("one", reason="a test")
    overlay.subclass("lib:Thing", "ours:Ours")
    offer(overlay)
    ascend_overlay.enable()
    (entry,) = ascend_overlay.ledger()
    named = LEFT_BEHIND[holder][0].replace("holders.", "of_class.")
    assert any(named in text for text in entry.stale), entry.stale


def test_copy_made_while_patched_follows_the_undo(offer: Any, site: Any) -> None:
    site.write({"late.py": "from lib import run\nKEPT = [run]\n"})
    offer(wrap_run())
    ascend_overlay.enable()
    late = importlib.import_module("late")
    assert late.run() == "<stock 0>"
    ascend_overlay.disable()
    assert late.run is sys.modules["lib"].run and [sys.modules["lib"].run] == late.KEPT
    assert late.run() == "stock 0"


def test_importer_that_is_still_executing_gets_the_patch(offer: Any, site: Any) -> None:
    """pkg/__init__ copies from the defining module and then imports the module that is patched."""
    site.write(
        {
            "part/__init__.py": "from part.core import run\nfrom part import api\n",
            "part/core.py": "def run(): return 'stock'\n",
            "part/api.py": "from part.core import run\n",
        }
    )
    overlay = Overlay("one", reason="a test")
    overlay.wrap("part.api:run")(lambda wrapped, instance, args, kwargs: f"<{wrapped(*args, **kwargs)}>")
    offer(overlay)
    ascend_overlay.enable()
    part = importlib.import_module("part")
    assert (part.run(), part.api.run(), part.core.run()) == ("<stock>", "<stock>", "<stock>")


@pytest.mark.parametrize(
    "where", ["TABLE = {}", "class Registry:\n    def __init__(self): self.table = {}\nR = Registry()"]
)
def test_registry_of_an_earlier_module_filled_while_the_target_executes(offer: Any, site: Any, where: str) -> None:
    table = "TABLE" if where.startswith("TABLE") else "R.table"
    site.write(
        {
            "registry.py": f"{where}\ndef enter(f):\n    {table}[f.__name__] = f\n    return f\n",
            "target.py": """
                from registry import enter
                @enter
                def run(): return "stock"
                @enter
                class Thing:
                    kind = "stock"
            """,
            "ours.py": "from target import Thing\nclass Ours(Thing):\n    kind = 'ours'\n",
        }
    )
    registry = importlib.import_module("registry")
    overlay = Overlay("one", reason="a test")
    overlay.wrap("target:run")(lambda wrapped, instance, args, kwargs: f"<{wrapped(*args, **kwargs)}>")
    overlay.subclass("target:Thing", "ours:Ours")
    offer(overlay)
    ascend_overlay.enable()
    target = importlib.import_module("target")
    entries = registry.TABLE if table == "TABLE" else registry.R.table
    assert entries["run"] is target.run and entries["run"]() == "<stock>"
    assert entries["Thing"] is target.Thing and entries["Thing"].kind == "ours"
    ascend_overlay.disable()
    assert entries["run"] is target.run and entries["run"]() == "stock"
    assert entries["Thing"] is target.Thing and entries["Thing"].kind == "stock"


def test_method_copied_under_another_name_in_its_class_stays_apart(offer: Any, site: Any) -> None:
    site.write({"alias.py": "class Thing:\n    def first(self): return 'stock'\n    second = first\n"})
    alias = importlib.import_module("alias")
    overlay = Overlay("one", reason="a test")
    overlay.wrap("alias:Thing.first")(lambda wrapped, instance, args, kwargs: f"<{wrapped(*args, **kwargs)}>")
    offer(overlay)
    ascend_overlay.enable()
    assert (alias.Thing().first(), alias.Thing().second()) == ("<stock>", "stock")
    (entry,) = ascend_overlay.ledger()
    assert any("alias.Thing.second" in text for text in entry.stale)


def test_a_function_that_has_another_name_does_not_lead_elsewhere(offer: Any, site: Any) -> None:
    """Who holds it by a key keeps it, and is named: the other name is another member."""
    text = "class Thing:\n    def first(self): return 'stock'\n    second = first\nKEYS = {Thing.first: 1}\n"
    site.write({"alias.py": text})
    alias = importlib.import_module("alias")
    overlay = Overlay("one", reason="a test")
    overlay.wrap("alias:Thing.first")(lambda wrapped, instance, args, kwargs: f"<{wrapped(*args, **kwargs)}>")
    offer(overlay)
    ascend_overlay.enable()
    assert (alias.Thing().first(), alias.Thing().second(), next(iter(alias.KEYS))(None)) == (
        "<stock>",
        "stock",
        "stock",
    )
    (entry,) = ascend_overlay.ledger()
    assert any("alias.Thing.second" in text for text in entry.stale)
    assert any("a key of alias.KEYS" in text for text in entry.stale)


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize(
    "held", ["copied = K.run", "TABLE = [K.run]", "def f(g=K.run): return g()", "x = y = K.run", ""]
)
def test_one_holder_is_enough(offer: Any, site: Any, held: str, early: bool) -> None:
    """Of what a module that has just executed holds by itself, nobody else is looked for."""
    site.write({"inside.py": f"class K:\n    @staticmethod\n    def run(): return 'stock'\n{held}\n"})
    if not early:
        importlib.import_module("inside")
    overlay = Overlay("one", reason="a test")
    overlay.wrap("inside:K.run")(lambda wrapped, instance, args, kwargs: f"<{wrapped()}>")
    offer(overlay)
    ascend_overlay.enable()
    inside: Any = importlib.import_module("inside")
    holders = {"copied": lambda: inside.copied(), "TABLE": lambda: inside.TABLE[0](), "f": lambda: inside.f()}
    holders |= {"x": lambda: inside.x(), "y": lambda: inside.y()}
    there = [name for name in holders if hasattr(inside, name)]
    assert {inside.K.run(), *(holders[name]() for name in there)} == {"<stock>"}
    ascend_overlay.disable()
    assert {inside.K.run(), *(holders[name]() for name in there)} == {"stock"}


@pytest.mark.parametrize("count", [2, 3])
def test_several_functions_that_lead_elsewhere_by_themselves(offer: Any, site: Any, count: int) -> None:
    source = "".join(f"def run{n}(): return 'stock{n}'\n" for n in range(count))
    keys = ", ".join(f"run{n}: {n}" for n in range(count))
    site.write({"inside.py": source, "keys.py": f"from inside import *\nKEYS = {{{keys}}}\n"})
    keys_module = importlib.import_module("keys")
    overlay = Overlay("one", reason="a test")
    for number in range(count):
        overlay.wrap(f"inside:run{number}")(lambda wrapped, instance, args, kwargs: f"<{wrapped()}>")
    offer(overlay)
    ascend_overlay.enable()
    inside: Any = importlib.import_module("inside")

    def said() -> list[set[str]]:
        return [
            {key() for key, at in keys_module.KEYS.items() if at == number} | {getattr(inside, f"run{number}")()}
            for number in range(count)
        ]

    assert said() == [{f"<stock{number}>"} for number in range(count)]
    assert all("a key of keys.KEYS" in " ".join(entry.notes) for entry in ascend_overlay.ledger())
    # The place itself is no copy.
    assert [entry.copies for entry in ascend_overlay.ledger()] == [[f"keys.run{number}"] for number in range(count)]
    ascend_overlay.disable()
    assert said() == [{f"stock{number}"} for number in range(count)]


@pytest.mark.parametrize("kind", ["wrap", "replace"])
def test_what_is_inside_a_static_method_is_a_copy(offer: Any, site: Any, kind: str) -> None:
    site.write({"inside.py": "class K:\n    @staticmethod\n    def run(x=0): return 'stock'\ncopied = K.run\n"})
    inside = importlib.import_module("inside")
    stock = inside.copied
    overlay = Overlay("one", reason="a test")
    if kind == "wrap":
        overlay.wrap("inside:K.run")(lambda wrapped, instance, args, kwargs: f"<{wrapped()}>")
    else:
        overlay.replace("inside:K.run")(lambda x=0: "<stock>")
    offer(overlay)
    ascend_overlay.enable()
    assert (inside.copied(), inside.K.run()) == ("<stock>", "<stock>") and inside.copied is not stock
    assert list(ascend_overlay.ledger().entries[0].copies) == ["inside.copied"]
    ascend_overlay.disable()
    assert inside.copied is inside.K.run is stock


def test_two_names_of_one_method_are_patched_apart(offer: Any, site: Any) -> None:
    site.write(
        {
            "alias.py": "class Thing:\n    def first(self): return 'stock'\n    second = first\n",
            "user.py": "from alias import Thing\nfirst = Thing.first\n",
        }
    )
    user = importlib.import_module("user")
    alias = sys.modules["alias"]
    stock = alias.Thing.first
    overlay = Overlay("one", reason="a test")
    overlay.replace("alias:Thing.first")(lambda self: "one")
    overlay.replace("alias:Thing.second")(lambda self: "two")
    offer(overlay)
    ascend_overlay.enable()
    assert (alias.Thing().first(), alias.Thing().second(), user.first(None)) == ("one", "two", "one")
    ascend_overlay.disable()
    assert alias.Thing.first is stock and alias.Thing.second is stock and user.first is stock


def test_implementation_keeps_the_original_that_it_calls(offer: Any, site: Any) -> None:
    """The usual way to write a replacement imports the original; re-binding that copy would make it call itself."""
    site.write(
        {
            "ours.py": """
                from lib import run as original, Thing
                def run(x=0): return f"<{original(x)}>"
                class Ours(Thing):
                    def describe(self): return Thing.kind
                also = original
            """
        }
    )
    ours = importlib.import_module("ours")
    overlay = Overlay("one", reason="a test")
    overlay.replace("lib:run", "ours:run")
    overlay.subclass("lib:Thing", "ours:Ours")
    offer(overlay)
    ascend_overlay.enable()
    lib = sys.modules["lib"]
    assert lib.run() == "<stock 0>"
    assert lib.Thing().describe() == "stock"
    assert ours.also() == "stock 0"
    notes = [note for entry in ascend_overlay.ledger() for note in entry.notes]
    assert any("ours.original" in note for note in notes), notes


def test_attribute_does_not_touch_who_holds_the_value_under_another_name(offer: Any, site: Any) -> None:
    """Setting an attribute to a function changes that attribute, not the function's own home or other uses of it."""
    site.write(
        {
            "conf.py": "from lib import run\nHOOK = run\nLIMIT = 4096\nKIND = int\n",
            "user.py": "from conf import HOOK, LIMIT, KIND\nFIELD = int\n",
            "ours.py": "def mine(x=0): return 'mine'\n",
        }
    )
    user = importlib.import_module("user")
    ours = importlib.import_module("ours")
    mine = ours.mine
    overlay = Overlay("one", reason="a test")
    overlay.attribute("conf:HOOK", mine)
    overlay.attribute("conf:KIND", float)
    offer(overlay)
    ascend_overlay.enable()
    assert sys.modules["conf"].HOOK is mine and user.HOOK is mine
    assert user.KIND is float and user.FIELD is int
    assert sys.modules["lib"].run() == "stock 0"
    ascend_overlay.disable()
    assert user.HOOK is sys.modules["lib"].run and sys.modules["conf"].HOOK is sys.modules["lib"].run
    assert user.KIND is int and ours.mine is mine


def test_what_may_be_copies_of_a_constant_is_reported(offer: Any, site: Any) -> None:
    site.write({"conf.py": "LIMIT = 4096\n", "user.py": "import conf\nLIMIT = conf.LIMIT\n"})
    importlib.import_module("user")
    overlay = Overlay("one", reason="a test")
    overlay.attribute("conf:LIMIT", 8192)
    offer(overlay)
    ascend_overlay.enable()
    (entry,) = ascend_overlay.ledger()
    assert any("user.LIMIT" in text for text in entry.stale), entry


def test_heap_that_was_frozen_is_searched_all_the_same(offer: Any) -> None:
    """vLLM calls gc.freeze() when an engine is up; frozen objects are hidden from gc.get_referrers."""
    holders = importlib.import_module("holders")
    offer(wrap_run())
    gc.freeze()
    try:
        ascend_overlay.enable()
        assert holders.run() == "<stock 0>"
        assert gc.get_freeze_count() > 0
        ascend_overlay.disable()
        assert holders.run() == "stock 0" and holders.TABLE["run"]() == "stock 0"
    finally:
        gc.unfreeze()


def test_the_search_does_not_find_itself() -> None:
    def wanted() -> None: ...

    listed, tupled = [wanted], (wanted,)
    found = referrers([wanted])
    assert any(item is listed for item in found)
    # From Python 3.13 on, gc.get_referrers() returns the tuple of its arguments, too.
    assert [item for item in found if type(item) is tuple] == [tupled]


def test_callable_object_is_followed(offer: Any, site: Any) -> None:
    site.write(
        {
            "lib2.py": """
                import functools
                class Kernel:
                    def __call__(self): return "stock"
                kernel = Kernel()
                @functools.lru_cache
                def cached(): return "stock"
                half = functools.partial(int, "3")
            """,
            "user2.py": "from lib2 import kernel, cached, half\n",
        }
    )
    user = importlib.import_module("user2")
    before = dict(vars(user))
    overlay = Overlay("one", reason="a test")
    for name in ("kernel", "cached", "half"):
        overlay.wrap(f"lib2:{name}")(lambda wrapped, instance, args, kwargs: f"<{wrapped(*args, **kwargs)}>")
    offer(overlay)
    ascend_overlay.enable()
    assert (user.kernel(), user.cached(), user.half()) == ("<stock>", "<stock>", "<3>")
    ascend_overlay.disable()
    assert all(vars(user)[name] is before[name] for name in ("kernel", "cached", "half"))


def test_what_was_built_anew_and_replaced_again_is_forgotten(offer: Any, site: Any) -> None:
    # The outer tuple is built anew for what is in it, and again for the inner one.
    site.write({"nested.py": 'from lib import run\nTUPLE = (run, "in a tuple of this test", (1, run))\n'})
    nested = importlib.import_module("nested")
    offer(wrap_run())
    for _ in range(8):
        ascend_overlay.enable()
        assert nested.TUPLE[2][1]() == "<stock 0>"
        ascend_overlay.disable()
    gc.collect()
    tuples = [found for found in gc.get_objects() if type(found) is tuple and len(found) == 3]
    # Beside the one that is there, garbage of the last time may be.
    assert len([found for found in tuples if found[1] == "in a tuple of this test"]) <= 3


@pytest.mark.parametrize("make", [wrap_run, replace_run], ids=["wrap", "replace"])
def test_patched_function_can_be_pickled_and_copied(offer: Any, make: Callable[[], Overlay]) -> None:
    lib = importlib.import_module("lib")
    offer(make())
    ascend_overlay.enable()
    assert pickle.loads(pickle.dumps(lib.run)) is lib.run
    assert copy.deepcopy(lib.run) is lib.run


def test_enable_and_disable_in_any_order_of_several_overlays(offer: Any) -> None:
    holders = importlib.import_module("holders")
    stock = holders.run
    overlays = []
    for name in ("a", "b", "c"):
        overlay = Overlay(name, reason="a test")
        overlay.wrap("lib:run")(lambda wrapped, i, args, kwargs, name=name: f"{name}({wrapped(*args, **kwargs)})")
        overlays.append(overlay)
    offer(*overlays)
    ascend_overlay.enable(only=["b"])
    assert holders.run() == "b(stock 0)"
    ascend_overlay.enable(only=["a", "c"])
    assert holders.run() == "c(b(a(stock 0)))"
    ascend_overlay.disable(only=["b"])
    assert holders.run() == "c(a(stock 0))"
    ascend_overlay.disable(only=["a"])
    assert holders.run() == "c(stock 0)" == holders.default()
    ascend_overlay.disable(only=["c"])
    assert holders.run is stock and holders.default.__defaults__ == (stock,)


MEMBERS = {
    "method": "def run(self): return 'stock'",
    "static method": "@staticmethod\n    def run(): return 'stock'",
    "class method": "@classmethod\n    def run(cls): return 'stock'",
    "property": "@property\n    def run(self): return 'stock'",
}


@pytest.mark.parametrize("held", [False, True], ids=["held by nobody", "held by a key"])
@pytest.mark.parametrize("kind", MEMBERS)
def test_nobody_is_named_who_is_not_there(site: Any, offer: Any, kind: str, held: bool) -> None:
    key = "vars(K)['run'].fget" if kind == "property" else "getattr(K.run, '__func__', K.run)"
    text = f"class K:\n    {MEMBERS[kind]}\n" + (f"KEYS = {{{key}: 1}}\n" if held else "")
    site.write({"members.py": text})
    importlib.import_module("members")
    one, two = (Overlay(name, reason="a test") for name in ("one", "two"))
    for overlay in (one, two):
        overlay.wrap("members:K.run")(lambda wrapped, instance, args, kwargs: f"<{wrapped(*args, **kwargs)}>")
    offer(one, two)
    ascend_overlay.enable()
    thing = sys.modules["members"].K()
    assert (thing.run if kind == "property" else thing.run()) == "<<stock>>"
    said = [text for entry in ascend_overlay.ledger() for text in (*entry.stale, *entry.notes)]
    assert [text for text in said if not text.startswith(("around ", "inside ")) and "a key of" not in text] == []
