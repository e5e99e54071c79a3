"""Live instances of classes: all of them are found, and the heap is searched only where somebody unknown holds one."""

from __future__ import annotations

import functools
import gc
import sys
from typing import Any

import pytest

from ascend_overlay.places import instances as module
from ascend_overlay.places.instances import instances

PLACE = ("lib.core", "Thing")
SOURCE = """
class Thing:
    def method(self):
        return super().__repr__()
    @property
    def part(self):
        return __class__
    slotted = property(lambda self: 1)
class Derived(Thing):
    def method(self):
        return super().method()
"""


@pytest.fixture
def lib(site: Any, engine: Any) -> Any:
    """Return a package of modules that are loaded when their names are asked for."""
    site.write({"lib/__init__.py": "", "lib/core.py": SOURCE, "lib/user.py": "", "elsewhere.py": ""})

    class Lib:
        def __getattr__(self, name: str) -> Any:
            return __import__("importlib").import_module(name if name == "elsewhere" else f"lib.{name}")

    return Lib()


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that has one more item after each search of the heap."""
    counted: list[int] = []
    search = module._searched
    monkeypatch.setattr(module, "_searched", lambda family: counted.append(len(family)) or search(family))
    return counted


def test_of_what_is_not_loaded_there_is_none(lib: Any, searches: list[int]) -> None:
    assert instances([PLACE]) == []
    assert lib.core and instances([("lib.core", "Missing"), ("lib.core", "__name__")]) == []
    assert not searches


# who else may hold the class without being an instance
HOLDERS: dict[str, Any] = {
    "nobody": lambda lib: None,
    "a name of another module": lambda lib: setattr(lib.user, "Thing", lib.core.Thing),
    "another name there": lambda lib: setattr(lib.user, "Alias", lib.core.Thing),
    "another package": lambda lib: setattr(lib.elsewhere, "Alias", lib.core.Thing),
    "two names of one module": lambda lib: vars(lib.user).update(A=lib.core.Thing, B=lib.core.Thing),
    "one module by two names": lambda lib: (
        sys.modules.__setitem__("lib.again", lib.user),
        setattr(lib.user, "A", lib.core.Thing),
    ),
    "a class derived elsewhere": lambda lib: setattr(lib.user, "D", type("D", (lib.core.Thing,), {})),
    "a decorated method of its own": lambda lib: setattr(
        lib.core.Thing, "method", functools.wraps(lib.core.Thing.method)(lib.core.Thing.method)
    ),
    "a table of its own": lambda lib: setattr(lib.core.Thing, "TABLE", {"it": [lib.core.Thing]}),
    "a partial": lambda lib: setattr(lib.core.Thing, "make", functools.partial(lib.core.Thing)),
    "a default": lambda lib: setattr(lib.core.Derived, "other", lambda self, cls=lib.core.Thing: cls),
    "a static method": lambda lib: setattr(lib.core.Derived, "f", staticmethod(lambda cls=lib.core.Thing: cls)),
    "a class method": lambda lib: setattr(lib.core.Derived, "f", classmethod(lambda cls, o=lib.core.Thing: o)),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_where_all_holders_are_known_the_heap_is_not_searched(lib: Any, searches: list[int], holder: str) -> None:
    HOLDERS[holder](lib)
    assert instances([PLACE]) == []
    assert not searches


@pytest.mark.parametrize("name", ["Thing", "Derived"])
@pytest.mark.parametrize("holder", HOLDERS)
def test_an_instance_is_found_whoever_holds_the_class(lib: Any, searches: list[int], holder: str, name: str) -> None:
    HOLDERS[holder](lib)
    made = getattr(lib.core, name)()
    assert instances([PLACE]) == [made]
    assert searches


@pytest.mark.parametrize("where", ["parts", "a list that nobody knows", "a running function"])
def test_who_is_not_known_is_searched_for(lib: Any, searches: list[int], where: str) -> None:
    held: Any = [lib.core.Thing] if where != "a running function" else lib.core.Thing
    assert instances([PLACE], [held] if where == "parts" else []) == []
    assert bool(searches) is (where != "parts")
    assert held


def test_parts_may_have_instances(lib: Any) -> None:
    made = lib.core.Thing()
    assert instances([PLACE], [[lib.core.Thing, made], made, {"it": made}]) == [made]


def test_a_class_may_hold_its_instance(lib: Any, searches: list[int]) -> None:
    lib.core.Thing.only = lib.core.Thing()
    lib.core.Thing.all = [lib.core.Thing.only]
    lib.core.Thing.only.kind = lib.core.Thing
    for _ in range(2):
        assert instances([PLACE]) == [lib.core.Thing.only]
    del lib.core.Thing.only.kind
    del searches[:]
    assert instances([PLACE]) == [lib.core.Thing.only] and not searches


def test_what_a_search_has_found_is_known(lib: Any, searches: list[int]) -> None:
    first, second = lib.core.Thing(), lib.core.Derived()
    assert sorted(map(id, instances([PLACE]))) == sorted(map(id, [first, second])) and len(searches) == 1
    assert sorted(map(id, instances([PLACE]))) == sorted(map(id, [first, second])) and len(searches) == 1
    assert instances([("lib.core", "Derived")]) == [second] and len(searches) == 1
    del second
    assert instances([PLACE]) == [first] and len(searches) == 1
    third = lib.core.Thing()
    assert sorted(map(id, instances([PLACE]))) == sorted(map(id, [first, third])) and len(searches) == 2
    del first, third
    assert instances([PLACE]) == [] and len(searches) == 2
    assert not [ref for ref in module._known if isinstance(ref(), lib.core.Thing)]


def test_one_for_another_is_noticed(lib: Any) -> None:
    made = lib.core.Thing()
    assert instances([PLACE]) == [made]
    made = lib.core.Thing()
    assert instances([PLACE]) == [made]


def test_one_that_changes_its_class(lib: Any) -> None:
    made = lib.core.Thing()
    assert instances([PLACE]) == [made]
    made.__class__ = type("Other", (), {})
    assert instances([PLACE]) == []
    made.__class__ = lib.core.Derived
    assert instances([PLACE]) == [made]


def test_what_cannot_be_referred_to_weakly_is_searched_for_each_time(lib: Any, searches: list[int]) -> None:
    exec("class Slotted:\n    __slots__ = ('other',)\n", vars(lib.core))
    made = lib.core.Slotted()
    for number in (1, 2):
        assert instances([("lib.core", "Slotted")]) == [made] and len(searches) == number


def test_what_is_frozen_is_found(lib: Any) -> None:
    made = lib.core.Thing()
    gc.freeze()
    try:
        assert instances([PLACE]) == [made]
        assert gc.get_freeze_count()
    finally:
        gc.unfreeze()


def test_where_references_are_not_counted_the_heap_is_searched(
    lib: Any, searches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_COUNTED", False)
    assert lib.core and instances([PLACE]) == [] and len(searches) == 1
