"""Functions as places: inside descriptors, twins, calls that are sent on."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from ascend_overlay.places import code
from ascend_overlay.places.functions import Redirection, dressed_like, function_of, twin


def run(x: int = 1, *, y: int = 2) -> Any:
    """What it does."""
    return ("stock", x, y)


def other(*args: Any, **kwargs: Any) -> Any:
    return ("other", args, kwargs)


def getter(self: Any) -> Any:
    return "got"


def setter(self: Any, value: Any) -> None: ...


def deleter(self: Any) -> None: ...


INSIDE: list[tuple[Any, Any]] = [
    (run, run),
    (staticmethod(run), run),
    (classmethod(run), run),
    (property(getter, setter), getter),
    (property(None, setter, deleter), setter),
    (property(None, None, deleter), deleter),
    (functools.cached_property(getter), getter),
    (1, 1),
]


@pytest.mark.parametrize(("raw", "function"), INSIDE)
def test_what_is_inside(raw: Any, function: Any) -> None:
    assert function_of(raw) is function


DRESSES = [staticmethod(run), classmethod(run), property(getter), functools.cached_property(getter)]


@pytest.mark.parametrize("raw", DRESSES, ids=lambda raw: type(raw).__name__)
def test_dressed(raw: Any) -> None:
    dressed = dressed_like(raw, other)
    assert type(dressed) is type(raw) and function_of(dressed) is other
    for kind in DRESSES:
        assert dressed_like(raw, kind) is kind
    assert dressed_like(run, other) is other


def test_a_property_keeps_its_other_parts() -> None:
    dressed = dressed_like(property(getter, setter, deleter, "words"), other)
    assert (dressed.fset, dressed.fdel, dressed.__doc__) == (setter, deleter, "words")


def test_a_cached_property_keeps_its_name() -> None:
    class Thing:
        value = functools.cached_property(getter)

    dressed = dressed_like(vars(Thing)["value"], lambda self: "other")
    assert dressed.attrname == "value"
    thing = Thing()
    assert dressed.__get__(thing, Thing) == "other" and vars(thing) == {"value": "other"}


def test_a_twin_is_the_same_but_for_its_identity() -> None:
    def made(free: int) -> Callable[..., Any]:
        def inner(x: int = 3, *, y: int = 4) -> Any:
            "Words."
            return free, x, y

        inner.mark = "mark"  # type: ignore[attr-defined]
        inner.__module__, inner.__qualname__ = "elsewhere", "Other.name"
        return inner

    function, cells = made(1), made(2).__closure__
    same: Any = twin(function)  # type: ignore[arg-type]
    assert same is not function and same() == (1, 3, 4) and vars(same) == {"mark": "mark"}
    for name in ("__module__", "__qualname__", "__name__", "__doc__", "__annotations__", "__kwdefaults__"):
        assert getattr(same, name) == getattr(function, name), name
    assert twin(function, closure=cells)() == (2, 3, 4)  # type: ignore[arg-type]


def fresh(kind: str) -> Any:
    scope: dict[str, Any] = {}
    exec(
        "def plain(x=1, *, y=2): return ('stock', x, y)\n"
        "def generator(x=1, *, y=2):\n    yield ('stock', x, y)\n"
        "async def coroutine(x=1, *, y=2): return ('stock', x, y)\n"
        "async def asynchronous(x=1, *, y=2):\n    yield ('stock', x, y)\n"
        "def outer(free='stock'):\n    def closure(x=1, *, y=2): return (free, x, y)\n    return closure\n"
        "closure = outer()\n",
        scope,
    )
    return scope[kind], twin(scope[kind])


def result(kind: str, function: Any, *args: Any, **kwargs: Any) -> Any:
    async def first() -> Any:
        return [item async for item in function(*args, **kwargs)]

    if kind == "generator":
        return list(function(*args, **kwargs))
    if kind == "coroutine":
        return asyncio.run(function(*args, **kwargs))
    return asyncio.run(first()) if kind == "asynchronous" else function(*args, **kwargs)


def changed(kind: str) -> Any:
    source = {
        "generator": "def target(*args, **kwargs):\n    yield ('target', args, kwargs)\n",
        "coroutine": "async def target(*args, **kwargs): return ('target', args, kwargs)\n",
        "asynchronous": "async def target(*args, **kwargs):\n    yield ('target', args, kwargs)\n",
    }.get(kind, "def target(*args, **kwargs): return ('target', args, kwargs)\n")
    scope: dict[str, Any] = {}
    exec(source, scope)
    return scope["target"]


KINDS = ["plain", "generator", "coroutine", "asynchronous", "closure"]


@pytest.mark.parametrize("kind", KINDS)
def test_calls_are_sent_on_and_come_back(kind: str) -> None:
    function, same = fresh(kind)
    stock, code_before, signature = result(kind, same), function.__code__, inspect.signature(function)
    redirection = Redirection(function)
    redirection.lead_to(changed(kind))
    wrapped = [("target", (5,), {"y": 6})] if kind in ("generator", "asynchronous") else ("target", (5,), {"y": 6})
    assert result(kind, function, 5, y=6) == wrapped
    assert result(kind, redirection.stand_in) == stock and redirection.foreign is None
    assert inspect.signature(function) == signature and function.__code__.co_name == kind
    for test in (inspect.isgeneratorfunction, inspect.iscoroutinefunction, inspect.isasyncgenfunction):
        assert test(function) == test(same)
    redirection.lead_to(redirection.stand_in)
    assert result(kind, function) == stock
    redirection.undo()
    redirection.undo()
    assert function.__code__ is code_before and function.__kwdefaults__ == {"y": 2} and vars(function) == {}
    assert result(kind, function) == stock and code.known(function) is None


def test_a_signature_that_was_given_stays() -> None:
    function, _ = fresh("plain")
    given = function.__signature__ = inspect.signature(setter)
    redirection = Redirection(function)
    redirection.lead_to(other)
    assert function.__signature__ is given
    redirection.undo()
    assert function.__signature__ is given


def test_other_code_that_came_meanwhile_stays() -> None:
    function, _ = fresh("plain")
    redirection = Redirection(function)
    redirection.lead_to(other)
    function.__code__ = getter.__code__
    assert redirection.foreign is getter.__code__
    redirection.lead_to(other)
    assert function.__code__ is getter.__code__
    redirection.undo()
    assert function.__code__ is getter.__code__ and code.known(function) is None


def test_content_is_changed_beside_that() -> None:
    function, _ = fresh("plain")
    before, body = function.__code__, code.body(function)
    redirection = Redirection(function)
    assert body is code.body(function) and code.behind(function) is function
    redirection.lead_to(other)
    assert code.behind(redirection.stand_in) is function
    body.owners.append("one")
    edited = before.replace(co_consts=tuple("edited" if const == "stock" else const for const in before.co_consts))
    assert body.put(edited) and function() == ("other", (), {}) and redirection.stand_in() == ("edited", 1, 2)
    redirection.undo()
    assert function() == ("edited", 1, 2) and code.known(function) is body
    assert body.undo() and function() == ("stock", 1, 2)
    body.owners.clear()
    code.release(body)
    assert code.known(function) is None


def test_content_that_somebody_else_changed_stays() -> None:
    function, _ = fresh("plain")
    body = code.body(function)
    edited = function.__code__.replace(co_name="edited")
    assert body.put(edited) and body.foreign is None
    function.__code__ = getter.__code__
    assert body.foreign is getter.__code__ and not body.put(edited) and not body.undo()
    body.call_back()
    assert function.__code__ is getter.__code__
    code.release(body)


SIGNATURES = ["", "x", "x, /", "x, /, y", "x=1", "x=9", "x=1, y=2", "x, y=2", "*, k", "x, *, k=3", "*args", "free"]
CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    *((args, {}) for args in [(), (5,), (5, 6), (5, 6, 7)]),
    *((args, {name: 8}) for args in [(), (5,)] for name in ["x", "y", "k", "free"]),
]


def outcome(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return function(*args, **kwargs)
    except TypeError:
        return TypeError


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("theirs", SIGNATURES)
@pytest.mark.parametrize("ours", SIGNATURES)
def test_a_call_means_what_it_means_to_the_target(free: bool, theirs: str, ours: str) -> None:
    scope: dict[str, Any] = {}
    body = "free" if free else "0"
    exec(
        f"def outer(free=0):\n    def function({theirs}): return {body}\n    return function\n"
        f"function = outer()\ndef target({ours}): return locals()\n",
        scope,
    )
    function, target = scope["function"], scope["target"]
    before = function.__code__, function.__defaults__, function.__kwdefaults__
    redirection = Redirection(function)
    redirection.lead_to(target)
    for args, kwargs in CALLS:
        assert outcome(function, args, kwargs) == outcome(target, args, kwargs), (args, kwargs)
    redirection.lead_to(other)
    assert outcome(function, (5, 6), {"z": 8}) == ("other", (5, 6), {"z": 8})
    redirection.lead_to(target)
    redirection.lead_to(target)
    assert outcome(function, (5,), {}) == outcome(target, (5,), {})
    redirection.undo()
    assert (function.__code__, function.__defaults__, function.__kwdefaults__) == before
