"""What a cache or a cached_property remembers of a patched function is said, before and after."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay

LIB = """
    import functools
    def size(): return 1
    class Thing:
        @staticmethod
        def width(): return 1
        @functools.cached_property
        def area(self): return 1
        @classmethod
        @functools.lru_cache
        def wide(cls): return cls.width() > 1
        @functools.lru_cache
        def broad(self): return self.width() > 1
    class Derived(Thing): pass
    @functools.lru_cache
    def doubled(): return 2 * size()
"""
USER = """
    import functools
    from pack import lib
    from pack.lib import size
    from pack.lib import size as other, Thing
    @functools.lru_cache
    def by_name(): return size()
    @functools.cache
    def by_another_name(): return other()
    @functools.lru_cache
    def by_module(): return lib.size()
    @functools.lru_cache
    def by_class(): return Thing.width()
    @functools.lru_cache
    def unused(): return size()
    @functools.lru_cache
    def unrelated(): return len("size")
    def plain(): return size()
    again = by_module
"""
APART = """
    import functools
    from pack.lib import size
    @functools.lru_cache
    def beside(): return size()
    def make():
        @functools.lru_cache
        def inside(): return size()
        return inside
    held = [make()]
"""
OF_SIZE = ["pack.lib.doubled", "pack.user.by_module", "pack.user.by_name", "apart.beside", "apart.make.<locals>.inside"]
OF_WIDTH = ["pack.user.by_class", "pack.lib.Thing.broad", "pack.lib.Thing.wide"]


@pytest.fixture
def user(site: Any, engine: object) -> Any:
    site.write({"pack/lib.py": LIB, "pack/user.py": USER, "apart.py": APART})
    importlib.import_module("apart")
    return importlib.import_module("pack.user")


def _fill(user: Any) -> None:
    for name in ("by_name", "by_another_name", "by_module", "by_class", "unrelated", "plain"):
        getattr(user, name)()
    user.lib.doubled()
    apart = importlib.import_module("apart")
    apart.beside()
    apart.held[0]()
    user.lib.Thing.wide()
    user.lib.Thing().broad()


def _empty(user: Any) -> None:
    apart, thing = importlib.import_module("apart"), vars(user.lib.Thing)
    for cache in (user.by_name, user.by_another_name, user.by_module, user.by_class, user.lib.doubled):
        cache.cache_clear()
    for cache in (apart.beside, apart.held[0], thing["wide"].__func__, thing["broad"]):
        cache.cache_clear()


def _named(texts: list[str], whose: str) -> list[str]:
    told = [text for text in texts if "may have results" in text]
    names = [text.partition("the cache of ")[2].partition(",")[0] for text in told]
    ends = [f"may have results of {whose}: {name}.cache_clear() forgets them" for name in names]
    assert all(text.endswith(end) for text, end in zip(told, ends, strict=True))
    return sorted(names)


@pytest.mark.parametrize("kind", ["wrap", "replace"])
@pytest.mark.parametrize(
    ("target", "names"),
    [("pack.lib:size", [*OF_SIZE, "pack.user.by_another_name"]), ("pack.lib:Thing.width", OF_WIDTH)],
)
def test_caches_that_call_it_are_named(user: Any, kind: str, target: str, names: list[str]) -> None:
    overlay = Overlay("one", reason="a test")
    if kind == "wrap":
        overlay.wrap(target)(lambda wrapped, instance, args, kwargs: 5)
    else:
        overlay.replace(target)(lambda: 5)
    _fill(user)
    ascend_overlay.enable(overlay, propagate=False)
    entry = ascend_overlay.ledger().of("one")[-1]
    assert _named(entry.notes, "the original") == sorted(names)
    _empty(user)
    ascend_overlay.disable()
    assert _named(ascend_overlay.ledger().of("one")[-1].stale, "the patch") == []
    ascend_overlay.enable(overlay, propagate=False)
    assert _named(ascend_overlay.ledger().of("one")[-1].notes, "the original") == []
    _fill(user)
    ascend_overlay.disable()
    assert _named(ascend_overlay.ledger().of("one")[-1].stale, "the patch") == sorted(names)


def test_objects_that_have_computed_it_are_counted(user: Any) -> None:
    overlay = Overlay("one", reason="a test")
    overlay.replace("pack.lib:Thing.area")(lambda self: 5)
    thing, derived, fresh = user.lib.Thing(), user.lib.Derived(), user.lib.Thing()
    assert thing.area == 1
    ascend_overlay.enable(overlay, propagate=False)
    assert "1 live object with the area that the original gave" in ascend_overlay.ledger().of("one")[-1].notes
    assert (thing.area, derived.area, fresh.area) == (1, 5, 5)
    ascend_overlay.disable()
    assert ascend_overlay.ledger().of("one")[-1].stale == ["3 live objects with the area that the patch gave"]


def test_who_calls_the_undo_of_a_call_empties_a_cache(user: Any, site: Any) -> None:
    site.write({"emptying.py": "def empty(*made):\n    from pack import user\n    user.by_name.cache_clear()\n"})
    overlay = Overlay("one", reason="a test")
    overlay.replace("pack.lib:size")(lambda: 5)
    overlay.call("pack.user", do="emptying:empty", undo="emptying:empty")
    _fill(user)
    ascend_overlay.enable(overlay, propagate=False)
    assert user.by_name() == 5
    ascend_overlay.disable()
    assert user.by_name() == 1
