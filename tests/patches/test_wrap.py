"""overlay.wrap as a whole: what it installs, who is said to keep what was there, and that all of it comes back."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Callable
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay

LIBRARY = """
    import functools
    from collections.abc import AsyncIterator, Iterator

    def run(x): return x

    class Base:
        def plain(self, x): return x
        async def coroutine(self, x): return x
        def generator(self, x): yield x
        async def async_generator(self, x): yield x
        @staticmethod
        async def static(x): return x
        @classmethod
        async def of_class(cls, x): return x

    class Derived(Base): ...

    def around(function):
        @functools.wraps(function)
        def inner(*args): return function(*args)
        return inner
"""


def adding(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Add one to the argument."""
    return wrapped(args[0] + 1, *args[1:], **kwargs)


def test_nobody_is_said_to_keep_what_the_wrappers_themselves_hold(site: Any, offer: Any) -> None:
    site.write({"lib.py": LIBRARY, "user.py": "from lib import run\nfrom lib import Base\nplain = Base.plain\n"})
    lib, user = importlib.import_module("lib"), importlib.import_module("user")
    stock = lib.run
    for name in ("first", "second"):
        overlay = Overlay(name, reason="a test")
        overlay.wrap("lib:run")(adding)
        overlay.wrap("lib:Base.plain")(adding)
        offer(overlay)

    ascend_overlay.enable(only=["first"])
    ascend_overlay.enable(only=["second"])

    assert [user.run(1), lib.Base().plain(1)] == [3, 3]
    assert [list(entry.stale) for entry in ascend_overlay.ledger()] == [[]] * 4
    ascend_overlay.disable(only=["first"])
    assert [user.run(1), lib.Base().plain(1)] == [2, 2]
    ascend_overlay.disable()
    assert user.run is lib.run is stock


@pytest.mark.parametrize("owner", ["Base", "Derived"])
@pytest.mark.parametrize("name", ["plain", "coroutine", "generator", "async_generator", "static", "of_class"])
def test_a_member_keeps_its_kind_inherited_or_not(site: Any, offer: Any, owner: str, name: str) -> None:
    site.write({"lib.py": LIBRARY})
    lib = importlib.import_module("lib")
    cls = getattr(lib, owner)
    before = getattr(cls(), name)
    overlay = Overlay("kinds", reason="a test")
    overlay.wrap(f"lib:{owner}.{name}")(adding)
    offer(overlay)

    ascend_overlay.enable()

    after = getattr(cls(), name)
    for tells in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction):
        assert tells(after) == tells(before)
    assert inspect.signature(after) == inspect.signature(before)
    assert _result(after(1)) == 2
    ascend_overlay.disable()
    assert (name in vars(cls)) == (owner == "Base")
    assert getattr(cls(), name).__func__ is before.__func__ if name != "static" else getattr(cls, name) is before


def _result(given: Any) -> Any:
    if inspect.iscoroutine(given):
        return asyncio.run(given)
    if inspect.isasyncgen(given):
        return asyncio.run(anext(given))  # type: ignore[arg-type]
    return next(given) if inspect.isgenerator(given) else given


def test_an_inherited_method_is_looked_up_at_each_call(site: Any, offer: Any) -> None:
    site.write({"lib.py": LIBRARY})
    lib = importlib.import_module("lib")
    for target in ("lib:Derived.coroutine", "lib:Base.coroutine"):
        overlay = Overlay(target.partition(":")[2].replace(".", "_").lower(), reason="a test")
        overlay.wrap(target)(adding)
        offer(overlay)

    ascend_overlay.enable(only=["derived_coroutine"])
    assert asyncio.run(lib.Derived().coroutine(1)) == 2
    ascend_overlay.enable(only=["base_coroutine"])
    assert asyncio.run(lib.Derived().coroutine(1)) == 3
