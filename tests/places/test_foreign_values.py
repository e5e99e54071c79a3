"""What somebody else put in a place: what it is called, whose it is, and whether it leads to what was there."""

from __future__ import annotations

import functools
import types
from typing import Any

import pytest

from ascend_overlay.places.foreign import described, is_native, leads_to
from ascend_overlay.places.slots import Attribute, Item, Slot
from ascend_overlay.places.target import MISSING

TARGET = object()


def function(*args: Any, **kwargs: Any) -> Any:
    return GLOBAL


GLOBAL: Any = function


class Thing:
    def method(self) -> None: ...

    @staticmethod
    def static() -> None: ...


class Long:
    def __repr__(self) -> str:
        return "x" * 100


HERE = __file__
DESCRIBED = [
    (MISSING, "nothing (it was removed)"),
    (function, f"{__name__}.function ({HERE}, line {function.__code__.co_firstlineno})"),
    (vars(Thing)["static"], f"{__name__}.Thing.static ({HERE}, line {Thing.static.__code__.co_firstlineno})"),
    (Thing, f"{__name__}.Thing"),
    (len, "builtins.len"),
    (42, "42, an int"),
    (Long(), f"{'x' * 57}..., a Long"),
]


@pytest.mark.parametrize(("value", "text"), DESCRIBED, ids=lambda value: str(value)[:20])
def test_described(value: Any, text: str) -> None:
    assert described(value) == text


def in_closure(value: Any) -> Any:
    def inner() -> Any:
        return value

    return inner


def in_empty_cell() -> Any:
    def inner() -> Any:
        return value

    if TARGET is None:
        value = 1
    return inner


def with_default(value: Any) -> Any:
    def inner(x: Any = value) -> None: ...

    return inner


def with_keyword(value: Any) -> Any:
    def inner(*, x: Any = value) -> None: ...

    return inner


def with_attribute(value: Any) -> Any:
    def inner() -> None: ...

    inner.attribute = value  # type: ignore[attr-defined]
    return inner


class Holds:
    def __init__(self, value: Any) -> None:
        self.value = value

    def call(self) -> None: ...


class Wrapped:
    __slots__ = ("__wrapped__",)

    def __init__(self, value: Any) -> None:
        self.__wrapped__ = value


def by_global(value: Any) -> Any:
    scope = {"value": value}
    exec("def inner(): return value", scope)
    return scope["inner"]


class Base: ...


LEADING: dict[str, Any] = {
    "itself": lambda value: value,
    "a closure": in_closure,
    "a default": with_default,
    "a keyword": with_keyword,
    "an attribute of a function": with_attribute,
    "a global": by_global,
    "a static method": lambda value: staticmethod(in_closure(value)),
    "a class method": lambda value: classmethod(in_closure(value)),
    "a getter": lambda value: property(in_closure(value)),
    "a setter": lambda value: property(None, in_closure(value)),
    "a deleter": lambda value: property(None, None, in_closure(value)),
    "a partial": lambda value: functools.partial(in_closure(value)),
    "an argument of a partial": lambda value: functools.partial(print, value),
    "a keyword of a partial": lambda value: functools.partial(print, end=value),
    "a bound method": lambda value: Holds(value).call,
    "a method of another object": lambda value: types.MethodType(in_closure(value), 1),
    "a list": lambda value: [1, value],
    "a tuple": lambda value: (1, value),
    "a table": lambda value: {1: value},
    "an object": Holds,
    "an object with slots": Wrapped,
    "four levels": lambda value: [[[[value]]]],
    "five levels": lambda value: [[[[[value]]]]],
}


@pytest.mark.parametrize("case", LEADING)
def test_leads_to(case: str) -> None:
    assert leads_to(LEADING[case](TARGET), TARGET)
    assert not leads_to(LEADING[case](object()), TARGET)


def test_a_class_leads_to_its_bases() -> None:
    class Derived(Base): ...

    assert leads_to(Derived, Base) and not leads_to(Base, Derived)


@pytest.mark.parametrize(
    "value",
    [types, "text", 1, 1.5, in_empty_cell(), [[[[[[TARGET]]]]]], {TARGET: 1}],
    ids=["a module", "text", "a number", "a float", "an empty cell", "six levels", "a key"],
)
def test_leads_nowhere(value: Any) -> None:
    assert not leads_to(value, TARGET)


def test_a_global_that_is_a_module_leads_nowhere() -> None:
    assert not leads_to(by_global(types), types)


def test_a_circle_ends() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert not leads_to(circle, TARGET)


def slot(owner: Any, name: str) -> Slot:
    return Slot(Attribute(owner, name))


def test_native() -> None:
    module = types.ModuleType("native")
    exec(
        "def run(): return 1\ndef other(): return 1\n"
        "class Thing:\n    def method(self): return 1\n    @staticmethod\n    def static(): return 1\n",
        vars(module),
    )
    native: Any = module
    assert is_native(slot(module, "run"), native.run)
    assert not is_native(slot(module, "run"), native.other)
    assert is_native(slot(native.Thing, "method"), native.Thing.method)
    assert is_native(slot(native.Thing, "static"), vars(native.Thing)["static"])
    assert not is_native(slot(module, "method"), native.Thing.method)
    assert is_native(slot(module, "Thing"), native.Thing)
    assert not is_native(slot(module, "run"), 1) and not is_native(slot(module, "run"), function)
    table = {"run": native.run}
    assert not is_native(Slot(Item(table, "run")), native.run)
    disguised: Any = in_closure(1)
    disguised.__module__, disguised.__qualname__ = "native", "run"
    assert not is_native(slot(module, "run"), disguised)
    native.run.__module__ = "elsewhere"
    assert not is_native(slot(module, "run"), native.run)


@pytest.mark.parametrize("constant", [None, True, 1, 1.5, "text", b"bytes"], ids=repr)
@pytest.mark.parametrize("case", [case for case in LEADING if case != "itself"])
def test_nothing_leads_to_a_constant_but_itself(case: str, constant: Any) -> None:
    """Whoever holds one need not have it from the place."""
    assert not leads_to(LEADING[case](constant), constant)
    assert leads_to(constant, constant)
    assert not leads_to(Thing(), constant)
