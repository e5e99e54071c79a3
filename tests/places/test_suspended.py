"""A suspended generator or coroutine: its call of the old function is named, and its variables do not keep it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay

LIB = """
    class Wait:
        def __await__(self): yield
    def numbers():
        yield "stock"
        yield "stock"
    async def later():
        await Wait()
        return "stock"
    async def several():
        yield "stock"
        await Wait()
        yield "stock"
    class Thing:
        def numbers(self):
            yield "stock"
            yield "stock"
    def run(): return "stock"
"""
USER = """
    from lib import Wait, run
    import lib
    def keeping():
        held = run
        yield
        yield held()
    async def awaiting():
        held = run
        await Wait()
        return held()
    def of_class():
        held = lib.Thing
        yield
        yield held
    def sharing():
        held = run
        def inside(): return held()
        yield
        yield inside()
"""


@pytest.fixture
def lib(site: Any, engine: object) -> Any:
    site.write({"lib.py": LIB, "user.py": USER})
    return importlib.import_module("lib")


def _entry() -> Any:
    return ascend_overlay.ledger().of("one")[-1]


CALLS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "lib:numbers": (lambda lib: next(held := lib.numbers()) and held, "generator lib.numbers"),
    "lib:Thing.numbers": (lambda lib: next(held := lib.Thing().numbers()) and held, "generator lib.Thing.numbers"),
    "lib:later": (lambda lib: ((held := lib.later()).send(None), held)[1], "coroutine lib.later"),
    "lib:several": (lambda lib: (held := lib.several(), _to_first(held))[0], "generator lib.several"),
}


def _to_first(held: Any) -> None:
    with pytest.raises(StopIteration):
        held.asend(None).send(None)


@pytest.mark.parametrize("target", CALLS)
def test_a_suspended_call_is_named(lib: Any, target: str) -> None:
    begin, words = CALLS[target]
    held = begin(lib)
    overlay = Overlay("one", reason="a test")
    if target == "lib:later":

        @overlay.wrap(target)
        async def patched(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
            return "patched"
    elif target == "lib:several":

        @overlay.wrap(target)
        async def patched_each(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
            yield "patched"
    else:

        @overlay.wrap(target)
        def patched_all(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
            yield "patched"

    ascend_overlay.enable(overlay, propagate=False)
    assert _entry().stale == [f"a call of it, the suspended {words}, which goes on as it was"]
    del held
    ascend_overlay.disable()
    assert _entry().stale == []
    ascend_overlay.enable(overlay, propagate=False)
    assert _entry().stale == []


def test_a_call_of_the_patch_that_is_suspended_is_named_afterwards(lib: Any) -> None:
    overlay = Overlay("one", reason="a test")

    @overlay.replace("lib:numbers")
    def numbers() -> Any:
        yield "patched"
        yield "patched"

    ascend_overlay.enable(overlay, propagate=False)
    held = lib.numbers()
    assert next(held) == "patched"
    ascend_overlay.disable()
    (stale,) = _entry().stale
    assert stale.startswith("a call of it, the suspended generator ") and "numbers" in stale


def test_a_call_of_a_wrapper_that_is_suspended_is_named_afterwards(lib: Any) -> None:
    overlay = Overlay("one", reason="a test")

    @overlay.wrap("lib:numbers")
    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        yield from wrapped()

    ascend_overlay.enable(overlay, propagate=False)
    held = lib.numbers()
    next(held)
    assert _entry().stale == []
    ascend_overlay.disable()
    assert _entry().stale == ["a call of it, the suspended generator numbers, which goes on as it was"]


@pytest.mark.parametrize("name", ["keeping", "awaiting", "sharing"])
def test_what_a_suspended_call_keeps_in_a_variable_meets_the_patch(lib: Any, name: str) -> None:
    held = getattr(importlib.import_module("user"), name)()
    held.send(None)
    overlay = Overlay("one", reason="a test")
    overlay.replace("lib:run")(lambda: "patched")
    ascend_overlay.enable(overlay, propagate=False)
    (note,) = _entry().notes
    assert _entry().seam == "in the function itself" and f"user.{name}" in note and "held" in note
    try:
        assert held.send(None) == "patched"
    except StopIteration as done:
        assert done.value == "patched"
    ascend_overlay.disable()
    assert lib.run() == "stock"


def test_a_class_in_a_variable_of_a_suspended_call_is_named(lib: Any, site: Any) -> None:
    site.write({"ours.py": "import lib\nclass Ours(lib.Thing): pass\n"})
    held = importlib.import_module("user").of_class()
    next(held)
    overlay = Overlay("one", reason="a test")
    overlay.subclass("lib:Thing", "ours:Ours")
    ascend_overlay.enable(overlay, propagate=False)
    assert _entry().stale == ["variable held of the suspended generator user.of_class"]
