"""The kinds entry and remove: lists, sets, tuples, frozensets, deques, mappings, attributes."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay, ref
from ascend_overlay.engine.engine import Engine
from ascend_overlay.errors import ConfigError, ConflictError, OverlayError, TargetError

LIB = """
    import collections, dataclasses, enum, functools, types, typing
    NAMES = ["a", "b", "c"]
    SET = {"a", "b"}
    TUPLE = tuple("abc")
    FROZEN = frozenset("ab")
    DEQUE = collections.deque(["a", "b", "c"])
    FULL = collections.deque("abc", maxlen=3)
    EMPTY = ()
    TABLE = {"a": 1, "b": 2, "c": 3}
    ORDERED = collections.OrderedDict(TABLE)
    FIXED = types.MappingProxyType(TABLE)
    LITERAL = typing.Literal["a", "b"]
    PAIR = collections.namedtuple("Pair", "x y")("a", "b")
    NUMBER = 1
    def function(): pass
    class Base:
        names = ("a", "b")
        def method(self): return "stock"
    class Thing(Base):
        table = []
        def own(self): return "own"
    class Holder:
        def __init__(self): self.names = ["a"]
        @property
        def computed(self): return ("a",)
    HOLDER = Holder()
    class Colour(enum.Enum):
        RED = 1
    @dataclasses.dataclass
    class Settings:
        size: int = 1
    ANSWERS = {"known": lambda: "stock"}
    @functools.cache
    def __getattr__(name):
        if name in ANSWERS: return ANSWERS[name]()
        raise AttributeError(name)
"""
COPY = """
    from lib import TUPLE, FROZEN, NAMES, function
    from lib import TUPLE as RENAMED
"""


@pytest.fixture(autouse=True)
def _packages(site: Any) -> None:
    site.write({"lib.py": LIB, "copier.py": COPY, "ours.py": "VALUE = ['an object']\nclass Cls: pass\n"})


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


def at(lib: Any, path: str) -> Any:
    for name in path.split("."):
        lib = getattr(lib, name)
    return lib


def effects(engine: Engine) -> list[str | None]:
    return [item.patch.effect(item.applied) for item in engine._state.items()]  # type: ignore[attr-defined]


ENTERED = [
    ("NAMES", "x", {}, ["a", "b", "c", "x"]),
    ("NAMES", "x", {"before": "b"}, ["a", "x", "b", "c"]),
    ("NAMES", "x", {"after": "b"}, ["a", "b", "x", "c"]),
    ("NAMES", "x", {"after": "c"}, ["a", "b", "c", "x"]),
    ("NAMES", "x", {"position": 0}, ["x", "a", "b", "c"]),
    ("NAMES", "x", {"position": -1}, ["a", "b", "x", "c"]),
    ("NAMES", "x", {"position": 99}, ["a", "b", "c", "x"]),
    ("NAMES", "x", {"position": -99}, ["x", "a", "b", "c"]),
    ("SET", "x", {}, {"a", "b", "x"}),
    ("TUPLE", "x", {}, ("a", "b", "c", "x")),
    ("TUPLE", "x", {"before": "a"}, ("x", "a", "b", "c")),
    ("TUPLE", "x", {"position": 1}, ("a", "x", "b", "c")),
    ("EMPTY", "x", {}, ("x",)),
    ("FROZEN", "x", {}, frozenset("abx")),
    ("Thing.table", "x", {}, ["x"]),
    ("HOLDER.names", "x", {}, ["a", "x"]),
    ("Base.names", "x", {}, ("a", "b", "x")),
]


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize(("path", "value", "where", "expected"), ENTERED)
def test_entry(
    overlay: Overlay, engine: Engine, early: bool, path: str, value: Any, where: dict[str, Any], expected: Any
) -> None:
    overlay.entry(f"lib:{path}", value, **where)
    if early:
        lib = importlib.import_module("lib")
        before, held = at(lib, path), list(at(lib, path))
    lib = load(early=early)
    assert at(lib, path) == expected and type(at(lib, path)) is type(expected)
    assert effects(engine) == [None]
    ascend_overlay.disable()
    if early:
        assert at(lib, path) is before and list(before) == held
    else:
        assert value not in at(lib, path)


def test_entry_of_a_deque(overlay: Overlay) -> None:
    overlay.entry("lib:DEQUE", "x", after="a")
    lib = load()
    assert list(lib.DEQUE) == ["a", "x", "b", "c"]
    ascend_overlay.disable()
    assert list(lib.DEQUE) == ["a", "b", "c"]


def test_entry_that_is_an_object_of_ours(overlay: Overlay) -> None:
    overlay.entry("lib:NAMES", ref("ours:VALUE"))
    lib = load()
    assert lib.NAMES[-1] is importlib.import_module("ours").VALUE


def test_copies_of_a_tuple_follow_and_come_back(overlay: Overlay) -> None:
    overlay.entry("lib:TUPLE", "x")
    overlay.entry("lib:FROZEN", "x")
    lib = load()
    copier = sys.modules["copier"]
    assert copier.TUPLE is lib.TUPLE and copier.FROZEN is lib.FROZEN
    entry = ascend_overlay.ledger().entries[0]
    assert entry.copies == ["copier.TUPLE"]
    assert entry.stale == ["copier.RENAMED (the same object under another name)"]
    ascend_overlay.disable()
    assert copier.TUPLE is lib.TUPLE is copier.RENAMED and copier.FROZEN is lib.FROZEN


def test_a_module_that_copies_the_new_tuple_gets_the_old_one_back(overlay: Overlay) -> None:
    overlay.entry("lib:TUPLE", "x")
    lib = load(early=False)
    assert sys.modules["copier"].TUPLE == ("a", "b", "c", "x")
    ascend_overlay.disable()
    assert sys.modules["copier"].TUPLE is lib.TUPLE and lib.TUPLE == ("a", "b", "c")


def test_two_overlays_enter_in_one_tuple(overlay: Overlay, offer: Any) -> None:
    other = Overlay("two", reason="a test")
    offer(other)
    overlay.entry("lib:TUPLE", "x")
    other.entry("lib:TUPLE", "y", before="a")
    lib = load()
    assert set(lib.TUPLE) == set("abcxy") and lib.TUPLE[0] == "y" and sys.modules["copier"].TUPLE is lib.TUPLE
    ascend_overlay.disable(only=["one"])
    assert lib.TUPLE == ("y", "a", "b", "c") and sys.modules["copier"].TUPLE is lib.TUPLE
    ascend_overlay.disable()
    assert lib.TUPLE == ("a", "b", "c") and sys.modules["copier"].TUPLE is lib.TUPLE


@pytest.mark.parametrize("path", ["NAMES", "DEQUE"])
def test_what_others_enter_meanwhile_stays(overlay: Overlay, path: str) -> None:
    ours, theirs = "an entry"[:], "".join(["an", " entry"])
    overlay.entry(f"lib:{path}", ours, position=1)
    lib = load()
    container = getattr(lib, path)
    container.insert(0, theirs)
    container.append("other")
    container.remove("b")
    ascend_overlay.disable()
    assert list(container) == [theirs, "a", "c", "other"] and container[0] is theirs


def test_of_two_that_are_the_same_ours_is_taken_out(overlay: Overlay) -> None:
    overlay.entry("lib:NAMES", "x")
    lib = load()
    lib.NAMES.insert(0, lib.NAMES[-1])
    lib.NAMES.append("last")
    ascend_overlay.disable()
    assert lib.NAMES == ["x", "a", "b", "c", "last"]


def test_an_entry_that_others_took_out_is_missed(overlay: Overlay, engine: Engine) -> None:
    overlay.entry("lib:NAMES", "x")
    overlay.entry("lib:SET", "x")
    lib = load()
    lib.NAMES.remove("x")
    lib.SET.remove("x")
    assert effects(engine) == [
        "lib:NAMES does not have the entry 'x' any more",
        "lib:SET does not have the entry 'x' any more",
    ]
    ascend_overlay.disable()
    assert lib.NAMES == ["a", "b", "c"] and {"a", "b"} == lib.SET


REFUSED = [
    ("NAMES", "a", {}, "has the entry 'a' already"),
    ("SET", "a", {}, "has the entry 'a' already"),
    ("TUPLE", "a", {}, "has the entry 'a' already"),
    ("NAMES", "x", {"before": "bb"}, "has no entry 'bb' to put 'x' beside"),
    ("Base.names", "x", {"after": "z"}, "has no entry 'z'"),
    ("SET", "x", {"before": "a"}, "a set.*order"),
    ("FROZEN", "x", {"position": 1}, "a frozenset.*order"),
    ("SET", [], {}, "cannot be entered.*unhashable"),
    ("FROZEN", [], {}, "cannot be entered.*unhashable"),
    ("FULL", "x", {}, "full"),
    ("TABLE", "x", {}, "overlay.item"),
    ("NUMBER", "x", {}, "has no entries"),
    ("PAIR", "x", {}, "has no entries"),
    ("function", "x", {}, "has no entries"),
    ("HOLDER.computed", "x", {}, "is computed"),
    ("NAMESS", "x", {}, "Did you mean 'NAMES'"),
    ("NAMES", ref("ours:VALEU"), {}, "Did you mean 'VALUE'"),
    ("Base.names", "x", {"before": "a", "after": "b"}, "one place"),
    ("NAMES", "x", {"position": "first"}, "not an index"),
]


@pytest.mark.parametrize(("path", "value", "where", "why"), REFUSED)
def test_entry_refused(overlay: Overlay, path: str, value: Any, where: dict[str, Any], why: str) -> None:
    overlay.entry(f"lib:{path}", value, **where)
    lib = importlib.import_module("lib")
    names, values, table = [*lib.NAMES], {*lib.SET}, {**lib.TABLE}
    with pytest.raises(OverlayError, match=f"(?s){why}"):
        ascend_overlay.enable()
    assert (names, values, table) == (lib.NAMES, lib.SET, lib.TABLE) and list(lib.FULL) == ["a", "b", "c"]


def test_text_where_an_object_was_meant(overlay: Overlay) -> None:
    overlay.entry("lib:Thing.table", "ours:Cls")
    with pytest.raises(TargetError, match=r"write ref\('ours:Cls'\)"):
        load()


def test_two_overlays_with_one_entry_are_a_conflict(overlay: Overlay, offer: Any) -> None:
    other = Overlay("two", reason="a test")
    offer(other)
    overlay.entry("lib:NAMES", "x")
    other.entry("lib:NAMES", "x")
    with pytest.raises(ConflictError, match="lib:NAMES entry 'x'"):
        ascend_overlay.enable()


# --- remove -----------------------------------------------------------------------------------------------------------

GONE = [
    ("NAMES", "b", ["a", "c"]),
    ("NAMES", "a", ["b", "c"]),
    ("NAMES", "c", ["a", "b"]),
    ("SET", "b", {"a"}),
    ("TUPLE", "b", ("a", "c")),
    ("FROZEN", "b", frozenset("a")),
    ("TABLE", "b", {"a": 1, "c": 3}),
    ("ORDERED", "a", {"b": 2, "c": 3}),
    ("Base.names", "a", ("b",)),
    ("HOLDER.names", "a", []),
]


@pytest.mark.parametrize(("path", "key", "expected"), GONE)
def test_remove_an_entry(overlay: Overlay, engine: Engine, path: str, key: str, expected: Any) -> None:
    overlay.remove(f"lib:{path}", key=key)
    lib = importlib.import_module("lib")
    before = at(lib, path)
    held = list(before.items()) if isinstance(before, dict) else list(before)
    lib = load()
    assert at(lib, path) == expected
    assert effects(engine) == [None]
    ascend_overlay.disable()
    assert at(lib, path) is before
    after = list(before.items()) if isinstance(before, dict) else list(before)
    assert after == held if not isinstance(before, (set, frozenset)) else set(after) == set(held)


def test_an_entry_goes_back_between_its_neighbours(overlay: Overlay) -> None:
    overlay.remove("lib:TABLE", key="b")
    overlay.remove("lib:NAMES", key="b")
    lib = load()
    lib.TABLE["new"] = 4
    lib.NAMES[:] = ["first", "a", "c", "last"]
    del lib.TABLE["a"]
    ascend_overlay.disable()
    assert list(lib.TABLE.items()) == [("b", 2), ("c", 3), ("new", 4)]
    assert lib.NAMES == ["first", "a", "b", "c", "last"]


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("path", ["NUMBER", "function", "Base.method", "Thing.own", "HOLDER.names"])
def test_remove_an_attribute(overlay: Overlay, engine: Engine, early: bool, path: str) -> None:
    overlay.remove(f"lib:{path}")
    owner, _, name = path.rpartition(".")
    before = vars(at(importlib.import_module("lib"), owner) if owner else importlib.import_module("lib"))[name]
    ascend_overlay.enable()
    lib = sys.modules["lib"]
    holder = at(lib, owner) if owner else lib
    assert not hasattr(holder, name)
    assert effects(engine) == [None]
    ascend_overlay.disable()
    assert vars(holder)[name] is before


@pytest.mark.parametrize("kind", ["item", "remove"])
def test_a_module_forgets_what_it_answered_from_a_mapping(overlay: Overlay, kind: str) -> None:
    """vllm.envs does that once enable_envs_cache() was called."""
    lib: Any = importlib.import_module("lib")
    assert lib.known == "stock"
    if kind == "item":
        overlay.item("lib:ANSWERS", "known", lambda: "ours")
        overlay.item("lib:ANSWERS", "new", lambda: "new")
    else:
        overlay.remove("lib:ANSWERS", key="known")
    ascend_overlay.enable()
    assert getattr(lib, "known", None) == ("ours" if kind == "item" else None)
    assert getattr(lib, "new", None) == ("new" if kind == "item" else None)
    ascend_overlay.disable()
    assert lib.known == "stock" and not hasattr(lib, "new")


def test_copies_of_what_is_removed_are_told(overlay: Overlay) -> None:
    overlay.remove("lib:function")
    load()
    assert "copier.function (a copy of what was removed)" in ascend_overlay.ledger().entries[0].stale


def test_what_is_there_again_is_told(overlay: Overlay, engine: Engine) -> None:
    overlay.remove("lib:NUMBER")
    overlay.remove("lib:NAMES", key="b")
    lib = load()
    lib.NUMBER = 2
    lib.NAMES.append("b")
    assert effects(engine) == ["lib:NUMBER is there again: 2", "lib:NAMES has the entry 'b' again"]
    del lib.NUMBER


NOT_REMOVED = [
    ("NUMBRE", {}, "Did you mean 'NUMBER'"),
    ("Thing.method", {}, "inherited from Base; remove lib:Base.method"),
    ("HOLDER.computed", {}, "inherited from Holder"),
    ("TABLE", {"key": "aa"}, "no entry 'aa'.*Did you mean 'a'"),
    ("NAMES", {"key": "z"}, "no entry 'z'"),
    ("SET", {"key": []}, "unhashable"),
    ("FIXED", {"key": "a"}, "cannot be changed"),
    ("NUMBER", {"key": "a"}, "is a int"),
    ("PAIR", {"key": "a"}, "is a Pair"),
    ("HOLDER.computed", {"key": "a"}, "is computed"),
    ("Colour.RED", {}, "member of an enumeration, whose tables keep it"),
    ("Settings.size", {}, "declared field: .* overlay.field"),
]


@pytest.mark.parametrize(("path", "options", "why"), NOT_REMOVED)
def test_remove_refused(overlay: Overlay, path: str, options: dict[str, Any], why: str) -> None:
    overlay.remove(f"lib:{path}", **options)
    with pytest.raises(TargetError, match=f"(?s){why}"):
        load()


def test_what_another_overlay_wraps_cannot_be_removed(overlay: Overlay, offer: Any) -> None:
    other = Overlay("two", reason="a test")
    offer(other)
    other.wrap("lib:function")(lambda wrapped, instance, args, kwargs: None)
    overlay.remove("lib:function")
    with pytest.raises(OverlayError, match=r"wrapped by overlay 'two'|does not exist"):
        load()


def test_described() -> None:
    overlay = Overlay("o", reason="a test")
    overlay.entry("lib:NAMES", ref("a:B"), after="b")
    overlay.entry("lib:NAMES", "x", before="b")
    overlay.entry("lib:NAMES", "x", position=3)
    overlay.remove("lib:NAMES", key="b")
    overlay.remove("lib:NUMBER")
    assert [patch.describe() for patch in overlay.patches] == [
        "entered: a:B, after 'b'",
        "entered: 'x', before 'b'",
        "entered: 'x', at 3",
        "removed: 'b'",
        "removed",
    ]
    with pytest.raises(ConfigError):
        overlay.call("lib", do=print)


def reverse(names: list[str]) -> None:
    names.reverse()


GOES_BACK = [
    ("c", lambda names: names.clear(), ["c"]),
    ("b", lambda names: names.remove("a"), ["c", "b"]),
    ("a", lambda names: names.insert(0, "first"), ["a", "first", "b", "c"]),
    ("b", lambda names: names.insert(1, "a"), ["a", "b", "a", "c"]),
    ("b", lambda names: names.insert(0, "a"), ["a", "b", "a", "c"]),
    ("b", lambda names: names.append("a"), ["a", "b", "c", "a"]),
    ("b", lambda names: names.append("b"), ["a", "c", "b"]),
    ("c", lambda names: names.extend(["x", "y"]), ["a", "b", "c", "x", "y"]),
    ("b", reverse, ["c", "a", "b"]),
]


@pytest.mark.parametrize("path", ["NAMES", "DEQUE"])
@pytest.mark.parametrize(("key", "somebody", "expected"), GOES_BACK)
def test_what_was_removed_goes_behind_what_it_stood_behind(
    overlay: Overlay, path: str, key: str, somebody: Any, expected: list[str]
) -> None:
    overlay.remove(f"lib:{path}", key=key)
    container = getattr(load(), path)
    somebody(container)
    ascend_overlay.disable()
    assert list(container) == expected


COMES_OUT = [
    ("x", {"position": 1}, reverse, ["c", "b", "a"]),
    ("x", {}, lambda names: names.remove("x"), ["a", "b", "c"]),
    ("x", {}, lambda names: names.insert(0, names[-1]), ["x", "a", "b", "c"]),
    ("x", {"position": 0}, lambda names: names.append(names[0]), ["a", "b", "c", "x"]),
    ("x", {"after": "a"}, lambda names: names.clear(), []),
]


@pytest.mark.parametrize("path", ["NAMES", "DEQUE"])
@pytest.mark.parametrize(("value", "where", "somebody", "expected"), COMES_OUT)
def test_what_was_entered_comes_out_where_it_is(
    overlay: Overlay, path: str, value: str, where: dict[str, Any], somebody: Any, expected: list[str]
) -> None:
    overlay.entry(f"lib:{path}", value, **where)
    container = getattr(load(), path)
    somebody(container)
    ascend_overlay.disable()
    assert list(container) == expected


REORDERED = [
    ("b", lambda table: None, ["a", "b", "c"]),
    ("a", lambda table: table.update(x=1), ["a", "b", "c", "x"]),
    ("c", lambda table: table.update(x=1), ["a", "b", "c", "x"]),
    ("b", lambda table: table.update(b=9), ["a", "b", "c"]),
    ("b", lambda table: table.clear(), ["b"]),
]


@pytest.mark.parametrize("path", ["TABLE", "ORDERED"])
@pytest.mark.parametrize(("key", "somebody", "expected"), REORDERED)
def test_what_was_removed_from_a_mapping_goes_back_to_its_place(
    overlay: Overlay, path: str, key: str, somebody: Any, expected: list[str]
) -> None:
    overlay.remove(f"lib:{path}", key=key)
    table = getattr(load(), path)
    somebody(table)
    ascend_overlay.disable(force=True)
    assert list(table) == expected


def test_an_entry_of_a_mapping_that_is_no_dict_goes_back(overlay: Overlay, site: Any) -> None:
    site.write({"mapped.py": "import os\nfrom collections import UserDict\nTABLE = UserDict(a=1, b=2)\n"})
    overlay.remove("mapped:TABLE", key="a")
    mapped: Any = importlib.import_module("mapped")
    ascend_overlay.enable()
    assert dict(mapped.TABLE) == {"b": 2}
    ascend_overlay.disable()
    assert dict(mapped.TABLE) == {"a": 1, "b": 2}


SIDES = [
    ("DEQUE", 0, ["x", "a", "b", "c"]),
    ("DEQUE", -1, ["a", "b", "x", "c"]),
    ("NAMES", 3, ["a", "b", "c", "x"]),
    ("NAMES", -3, ["x", "a", "b", "c"]),
    ("TUPLE", -1, ["a", "b", "x", "c"]),
    ("TUPLE", 99, ["a", "b", "c", "x"]),
]


@pytest.mark.parametrize(("path", "position", "expected"), SIDES)
def test_a_position_is_that_of_insert(overlay: Overlay, path: str, position: int, expected: list[str]) -> None:
    overlay.entry(f"lib:{path}", "x", position=position)
    assert list(getattr(load(), path)) == expected


TWO_PLACES = [{"before": "a", "after": "b"}, {"before": "a", "position": 1}, {"after": "a", "position": 0}]


@pytest.mark.parametrize("where", TWO_PLACES)
def test_an_entry_has_one_place(overlay: Overlay, where: dict[str, Any]) -> None:
    overlay.entry("lib:NAMES", "x", **where)
    with pytest.raises(ConfigError, match="the entry for lib:NAMES has one place: give before=, after= or position="):
        ascend_overlay.enable()
    assert "lib" not in sys.modules


@pytest.mark.parametrize(("path", "key"), [("NAMES", "b"), ("SET", "b"), ("TUPLE", "b"), ("TABLE", "b")])
def test_entries_that_are_named_are_those_of_the_object(overlay: Overlay, site: Any, path: str, key: str) -> None:
    site.write({"naming.py": f"KEY = {key!r}\n"})
    overlay.remove(f"lib:{path}", key=ref("naming:KEY"))
    lib = load()
    assert key not in getattr(lib, path) and ascend_overlay.ledger().entries[0].detail == "removed: naming:KEY"
    ascend_overlay.disable()
    assert key in getattr(lib, path)


KNOWN = [
    ("NAMES", "zzz", r"has no entry 'zzz' that could be removed\.$"),
    ("TABLE", "aa", r"has no entry 'aa' that could be removed\. Did you mean 'a'\?$"),
    ("NAMES", 5, r"has no entry 5 that could be removed\.$"),
    ("MIXED", "nme", r"has no entry 'nme' that could be removed\. Did you mean 'name'\?$"),
    ("MIXED", 2, r"has no entry 2 that could be removed\.$"),
]


@pytest.mark.parametrize(("path", "key", "why"), KNOWN)
def test_the_nearest_entries_are_named(overlay: Overlay, site: Any, path: str, key: Any, why: str) -> None:
    site.write({"lib.py": LIB + "    MIXED = [1, 'name', None]\n"})
    overlay.remove(f"lib:{path}", key=key)
    with pytest.raises(TargetError, match=f"(?m)the target lib:{path} {why}"):
        load()


NEIGHBOURS = [
    ({"before": "nme"}, r"has no entry 'nme' to put 'x' beside\. Did you mean 'name'\?$"),
    ({"after": 7}, r"has no entry 7 to put 'x' beside\.$"),
    ({"after": "zzz"}, r"has no entry 'zzz' to put 'x' beside\.$"),
]


@pytest.mark.parametrize(("where", "why"), NEIGHBOURS)
def test_the_nearest_neighbours_are_named(overlay: Overlay, site: Any, where: dict[str, Any], why: str) -> None:
    site.write({"lib.py": LIB + "    MIXED = [1, 'name', None]\n"})
    overlay.entry("lib:MIXED", "x", **where)
    with pytest.raises(TargetError, match=f"(?m)the target lib:MIXED {why}"):
        load()


TWO_DECIDE = [
    (
        lambda o: o.wrap("lib:function")(print),
        r"lib:function is wrapped by overlay 'two' \(.*\), so it cannot be removed; le",
    ),
    (
        lambda o: o.replace("copier:function")(lambda: 1),
        "the same thing as copier:function, which overlay 'two' .* decides already",
    ),
    (
        lambda o: o.edit("lib:function", find="pass", put="return 1"),
        "in the place of lib:function, which overlay 'two' .*edits",
    ),
]


@pytest.mark.parametrize(("declare", "why"), TWO_DECIDE)
def test_what_another_overlay_has_changed_cannot_be_removed(
    overlay: Overlay, offer: Any, declare: Any, why: str
) -> None:
    other = Overlay("two", reason="a test")
    offer(other)
    declare(other)
    overlay.remove("lib:function")
    importlib.import_module("copier")
    ascend_overlay.enable(only=["two"])
    with pytest.raises(ConflictError, match=f"(?s){why}"):
        ascend_overlay.enable(only=["one"])


NORMALISING = """
    from collections.abc import MutableMapping
    class Small(dict):
        def _k(self, key): return key.lower().replace("_", "-")
        def __setitem__(self, key, value): super().__setitem__(self._k(key), value)
        def __getitem__(self, key): return super().__getitem__(self._k(key))
        def __delitem__(self, key): super().__delitem__(self._k(key))
        def __contains__(self, key): return super().__contains__(self._k(key))
        def get(self, key, default=None): return super().get(self._k(key), default)
    class Remembering(MutableMapping):
        def __init__(self): self.held = {}
        def __setitem__(self, key, value): self.held[key.lower()] = (key, value)
        def __getitem__(self, key): return self.held[key.lower()][1]
        def __delitem__(self, key): del self.held[key.lower()]
        def __iter__(self): return (key for key, _ in self.held.values())
        def __len__(self): return len(self.held)
    SMALL, REMEMBERING = Small(), Remembering()
    for table in (SMALL, REMEMBERING):
        table["Accept"] = "same"
        table["Content-Type"] = "same"
"""


@pytest.mark.parametrize("path", ["SMALL", "REMEMBERING"])
@pytest.mark.parametrize("key", ["CONTENT-TYPE", "content-type", "Content-Type"])
@pytest.mark.parametrize("kind", ["item", "remove"])
def test_a_mapping_that_changes_its_keys_has_the_spelling_that_it_had(
    overlay: Overlay, site: Any, kind: str, key: str, path: str
) -> None:
    site.write({"changing.py": NORMALISING})
    if kind == "item":
        overlay.item(f"changing:{path}", key, "patched")
    else:
        overlay.remove(f"changing:{path}", key=key)
    table = getattr(importlib.import_module("changing"), path)
    before = list(table.items())
    ascend_overlay.enable()
    assert table.get("content-TYPE") == ("patched" if kind == "item" else None)
    ascend_overlay.disable()
    assert sorted(table.items()) == sorted(before) and next(iter(table)) == before[0][0]


def test_two_spellings_of_a_key_are_one_entry(overlay: Overlay, site: Any) -> None:
    site.write({"changing.py": NORMALISING})
    overlay.item("changing:SMALL", "Content-Type", 1)
    overlay.item("changing:SMALL", "content-type", 2)
    importlib.import_module("changing")
    with pytest.raises(ConflictError, match="content-type"):
        ascend_overlay.enable()
