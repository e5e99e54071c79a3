"""Keys of TypedDicts and defaults of named tuples: computed from all changes in force, in any order."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from ascend_overlay.errors import TargetError
from ascend_overlay.places import keys
from ascend_overlay.places.keys import KeyChange
from ascend_overlay.places.target import MISSING

TEXT = """
from typing import NamedTuple, TypedDict
class Pair(NamedTuple):
    first: int
    second: int = 2
    third: int = 3
class Bare(NamedTuple):
    first: int
    second: int
    third: int
class Needed(TypedDict):
    count: int
class Keys(Needed, total=False):
    size: int
"""


def made(name: str) -> Any:
    """Return a new class, whose annotations are types."""
    scope: dict[str, Any] = {"__name__": "declaring"}
    exec(compile(TEXT, "declaring", "exec", dont_inherit=True), scope)
    return scope[name]


def tuples() -> Any:
    return made("Pair")


def dicts() -> Any:
    return made("Keys")


def looks(owner: Any) -> dict[str, Any]:
    """Return what a class keeps of its keys."""
    names = ("__annotations__", "__optional_keys__", "__required_keys__", "_field_defaults")
    found = {name: vars(owner)[name] for name in names if name in vars(owner)}
    return found | ({"defaults": owner.__new__.__defaults__} if issubclass(owner, tuple) else {})


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(value is other[name] for name, value in one.items())


TUPLES = {
    "second": lambda owner: KeyChange(owner, "second", 20, MISSING),
    "second again": lambda owner: KeyChange(owner, "second", 21, MISSING),
    "third": lambda owner: KeyChange(owner, "third", 30, str),
    "first": lambda owner: KeyChange(owner, "first", 10, MISSING),
    "a type": lambda owner: KeyChange(owner, "second", MISSING, float),
}
DICTS = {
    "a type": lambda owner: KeyChange(owner, "size", MISSING, str),
    "a key": lambda owner: KeyChange(owner, "site", MISSING, bytes),
    "another": lambda owner: KeyChange(owner, "more", MISSING, float),
    "a type of what is required": lambda owner: KeyChange(owner, "count", MISSING, complex),
}


def expected_of_tuples(there: list[str]) -> tuple[dict[str, int], dict[str, Any]]:
    defaults = {"second": 2, "third": 3}
    for name in there:
        defaults |= {"second": {"second": 20}, "second again": {"second": 21}, "third": {"third": 30}}.get(
            name, {"first": 10} if name == "first" else {}
        )
    types = {"first": int, "second": float if "a type" in there else int, "third": str if "third" in there else int}
    return defaults, types


@pytest.mark.parametrize("order", list(itertools.permutations(TUPLES)), ids=",".join)
def test_named_tuples(order: tuple[str, ...]) -> None:
    owner, there = tuples(), []
    before = looks(owner)
    other, changes = tuples(), {}
    for name in order:
        changes[name] = TUPLES[name](owner)
        keys.enter(changes[name])
        there.append(name)
        defaults, types = expected_of_tuples(there)
        assert owner._field_defaults == defaults and vars(owner)["__annotations__"] == types
        assert owner(1, 5, 6) == (1, 5, 6)
        assert owner(**{"first": 1} | {"first": 9}) == (9, defaults["second"], defaults["third"])
        assert ("first" not in defaults) or owner() == (10, defaults["second"], defaults["third"])
        assert keys.in_force(changes[name])
    for name in sorted(order):
        keys.leave(changes[name])
        there.remove(name)
        defaults, types = expected_of_tuples(there)
        assert owner._field_defaults == defaults and vars(owner)["__annotations__"] == types
        assert not keys.in_force(changes[name])
        keys.leave(changes[name])
        assert owner._field_defaults == defaults
    assert same(looks(owner), before) and other(1) == owner(1) == (1, 2, 3)
    assert owner not in keys._state.stock


@pytest.mark.parametrize("order", list(itertools.permutations(DICTS)), ids=",".join)
def test_typed_dicts(order: tuple[str, ...]) -> None:
    owner, changes = dicts(), {}
    before = looks(owner)
    news = {"a type": {"size": str}, "a key": {"site": bytes}, "another": {"more": float}}
    news["a type of what is required"] = {"count": complex}

    def check(there: list[str]) -> None:
        types = {"count": int, "size": int}
        for name in there:
            types |= news[name]
        assert vars(owner)["__annotations__"] == types
        assert owner.__optional_keys__ == types.keys() - {"count"} and owner.__required_keys__ == {"count"}

    for at, name in enumerate(order):
        changes[name] = DICTS[name](owner)
        keys.enter(changes[name])
        check(list(order[: at + 1]))
        assert keys.in_force(changes[name])
    for at, name in enumerate(order):
        keys.leave(changes[name])
        check(list(order[at + 1 :]))
        assert not keys.in_force(changes[name])
    assert same(looks(owner), before)


def test_two_classes_are_apart() -> None:
    one, other = tuples(), tuples()
    changes = [KeyChange(cls, "second", 20, MISSING) for cls in (one, other)]
    for change in changes:
        keys.enter(change)
    keys.leave(changes[0])
    assert one(1) == (1, 2, 3) and other(1) == (1, 20, 3)
    keys.leave(changes[1])
    assert other(1) == (1, 2, 3)


class Derived(tuples()):  # type: ignore[misc]
    pass


A_KEY = "is a key of a TypedDict, which has no defaults; give annotation= only, and wrap the function that makes"
REFUSED: list[tuple[Any, str, Any, Any, str | None]] = [
    (dicts(), "size", MISSING, MISSING, None),
    (dicts(), "new", MISSING, MISSING, None),
    (dicts(), "size", 1, MISSING, A_KEY),
    (dicts(), "size", MISSING, list, A_KEY),
    (tuples(), "second", 1, MISSING, None),
    (tuples(), "second", MISSING, MISSING, None),
    (tuples(), "first", 1, MISSING, None),
    (tuples(), "new", 1, MISSING, "cannot be added: a named tuple is as long as whoever unpacks it expects;"),
    (tuples(), "second", MISSING, list, "is a field of a named tuple, which has no factories; give default=."),
    (Derived, "second", 1, MISSING, "is inherited; name the named tuple that declares 'second'."),
    (Derived, "second", MISSING, MISSING, "is inherited; name the named tuple that declares 'second'."),
]


@pytest.mark.parametrize(("owner", "name", "default", "factory", "words"), REFUSED)
def test_what_cannot_be(owner: Any, name: str, default: Any, factory: Any, words: str | None) -> None:
    if words is None:
        keys.refuse("lib:K.x", owner, name, default, factory, int)
        return
    with pytest.raises(TargetError) as raised:
        keys.refuse("lib:K.x", owner, name, default, factory, int)
    assert str(raised.value).startswith("the target lib:K.x ") and words in str(raised.value)


def test_a_default_before_one_that_has_none() -> None:
    bare = made("Bare")
    with pytest.raises(TargetError, match="cannot have a default: 'second' after it has none"):
        keys.refuse("lib:K.x", bare, "first", 1, MISSING, MISSING)
    with pytest.raises(TargetError, match="cannot have a default: 'third' after it has none"):
        keys.refuse("lib:K.x", bare, "second", 1, MISSING, MISSING)
    keys.refuse("lib:K.x", bare, "third", 1, MISSING, MISSING)
    keys.refuse("lib:K.x", bare, "first", MISSING, MISSING, int)
