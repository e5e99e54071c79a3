"""Copies and pickles of what is callable and no plain function, wrapped: in a class, in an object, and bound."""

from __future__ import annotations

import copy
import importlib
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay

LIB = """
    import functools
    class Thing:
        def __init__(self): self.size = 1
        def __eq__(self, other): return self.size == other.size
        @functools.lru_cache
        def kept(self, x): return (self.size, x)
        __hash__ = object.__hash__
    @functools.lru_cache
    def cached(x): return ("cached", x)
"""


@pytest.fixture
def lib(site: Any, engine: object) -> Any:
    site.write({"lib.py": LIB})
    lib = importlib.import_module("lib")
    overlay = Overlay("one", reason="a test")
    for name in ("Thing.kept", "cached"):
        overlay.wrap(f"lib:{name}")(lambda wrapped, instance, args, kwargs: ("wrapped", wrapped(*args, **kwargs)))
    ascend_overlay.enable(overlay, propagate=False)
    return lib


WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {protocol}": lambda found, p=protocol: pickle.loads(pickle.dumps(found, p)) for protocol in range(6)},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_function_is_itself(lib: Any, way: Callable[[Any], Any]) -> None:
    assert way(lib.cached) is lib.cached and lib.cached(1) == ("wrapped", ("cached", 1))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_is_asked_of_the_class_is_that_of_the_class(lib: Any, way: Callable[[Any], Any]) -> None:
    assert way(lib.Thing.kept)(lib.Thing(), 2) == ("wrapped", (1, 2))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_is_bound_goes_with_its_object(lib: Any, way: Callable[[Any], Any]) -> None:
    thing = lib.Thing()
    found = way(thing.kept)
    assert found(2) == ("wrapped", (1, 2))
    thing.size = 5
    lib.Thing.kept.cache_clear()
    assert found(2) == ("wrapped", (5 if way is copy.copy else 1, 2))
    assert (found.__self__ is thing) is (way is copy.copy)


def test_a_deep_copy_of_an_object_that_holds_its_method_holds_its_own(lib: Any) -> None:
    thing = lib.Thing()
    thing.held = thing.kept
    again = copy.deepcopy(thing)
    assert again is not thing and again.held.__self__ is again
