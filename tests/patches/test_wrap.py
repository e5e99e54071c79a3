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
from ascend_overlay.patches import shells

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


GETTERS = """
    import functools, operator
    class Callable:
        def __call__(self, thing): return thing.size
    def get(extra, thing): return thing.size
    class Thing:
        size = 1
        by_getter = property(operator.attrgetter("size"))
        by_partial = property(functools.partial(get, 0))
        by_object = property(Callable())
"""


@pytest.mark.parametrize("name", ["by_getter", "by_partial", "by_object"])
def test_the_getter_of_a_property_may_be_anything(site: Any, offer: Any, name: str) -> None:
    site.write({"lib.py": GETTERS})
    lib = importlib.import_module("lib")
    overlay = Overlay("one", reason="a test")
    overlay.wrap(f"lib:Thing.{name}")(lambda wrapped, instance, args, kwargs: (wrapped(), instance.size))
    offer(overlay)
    ascend_overlay.enable()
    assert getattr(lib.Thing(), name) == (1, 1)
    ascend_overlay.disable()
    assert getattr(lib.Thing(), name) == 1


def test_a_generator_is_awaited_where_it_was_before(site: Any, offer: Any) -> None:
    text = "import types\ndef plain(x): yield x\n@types.coroutine\ndef awaited(x): yield x\n"
    site.write({"lib.py": text})
    lib = importlib.import_module("lib")
    overlay = Overlay("one", reason="a test")
    for name in ("plain", "awaited"):
        overlay.wrap(f"lib:{name}")(adding)
    offer(overlay)
    ascend_overlay.enable()
    for name in ("plain", "awaited"):
        made = getattr(lib, name)(1)
        assert inspect.isawaitable(made) == (name == "awaited") and list(made) == [2]


def test_a_wrapper_has_one_link_to_what_it_wraps(site: Any, offer: Any) -> None:
    site.write({"lib.py": LIBRARY})
    lib = importlib.import_module("lib")
    stock = lib.run
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lib:run")(adding)
    offer(overlay)
    ascend_overlay.enable()
    link = shells.link_of(lib.run)
    assert link is not None and link.inner is stock and link.wrapper is adding
