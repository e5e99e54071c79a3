"""Changes of fields of one family come and go in any order: each class is what the changes in force make of it."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import itertools
from typing import Any

import pytest
from declared_members import LATER, LIB, USER, World

from ascend_overlay.patches import Applied, Context
from ascend_overlay.patches.fields import Field
from ascend_overlay.places.slots import Slots


@pytest.fixture
def lib(site: Any) -> Any:
    """A module with one class of each kind."""
    site.write({"declaring/lib.py": LIB, "declaring/user.py": USER, "declaring/later.py": LATER})
    importlib.import_module("declaring.user")
    return importlib.import_module("declaring.lib")


def enter(slots: Slots, lib: Any, target: str, options: dict[str, Any]) -> Applied:
    patch, result = Field(target=f"declaring.lib:{target}", **options), Applied(slots)
    patch.apply(lib, patch.load(), Context(slots, 0, "a test", {}), result)
    return result


def many() -> list[int]:
    return [1, 2]


# what is changed, and of which classes
CHANGES: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "a default": ("Plain.count", {"default": 5}, {"Plain", "Derived", "Bare", "Unannotated"}),
    "one of a derived class": ("Derived.count", {"default": 6}, {"Derived"}),
    "a field": ("Plain.site", {"default": 8, "annotation": int}, {"Plain", "Derived", "Unannotated", "Overriding"}),
    "a factory": ("Plain.parts", {"default_factory": many}, {"Plain", "Derived", "Unannotated", "Overriding"}),
    "a type": ("Plain.name", {"annotation": bytes}, {"Plain", "Derived", "Unannotated", "Overriding"}),
}
FAMILY = {"Plain", "Derived", "Bare", "Unannotated", "Overriding"}


def expected(there: list[str], cls: str) -> dict[str, Any]:
    """Return what an object of a class of the family has."""
    found: dict[str, Any] = {"name": "plain", "count": 7 if cls == "Overriding" else 1, "parts": []}
    if cls == "Derived":
        found["more"] = 3
    for change in there:
        target, options, classes = CHANGES[change]
        name = target.partition(".")[2]
        if cls not in classes and not (cls == "Bare" and target.startswith("Plain.")):
            continue
        if "default" in options:
            found[name] = options["default"]
        elif "default_factory" in options:
            found[name] = options["default_factory"]()
    return found


def check(lib: Any, there: list[str]) -> None:
    for name in FAMILY:
        cls = getattr(lib, name)
        wanted = expected(there, name)
        made = cls()
        assert vars(made) == wanted, (name, there)
        assert made == cls() and (
            name == "Bare" or all(f"{key}={value!r}" in repr(made) for key, value in wanted.items())
        )
        assert {field.name for field in dataclasses.fields(cls)} == set(wanted)
        parameters = inspect.signature(cls).parameters
        assert set(parameters) == set(wanted) and parameters["count"].default == wanted["count"]
        types = {field.name: field.type for field in dataclasses.fields(cls)}
        assert types["name"] == (bytes if "a type" in there else str)
        assert cls.count == wanted["count"] and ("site" not in wanted or cls.site == 8) and not hasattr(cls, "parts")
    own = vars(lib.Plain)["__annotations__"]
    assert ("site" in own, own["name"]) == ("a field" in there, bytes if "a type" in there else str)
    assert "site" not in vars(lib.Derived)["__annotations__"]


@pytest.mark.parametrize("first", CHANGES)
def test_dataclasses(lib: Any, first: str) -> None:
    before, slots = World(lib), Slots()
    others = [name for name in CHANGES if name != first]
    for number, rest in list(enumerate(itertools.permutations(others)))[::2]:
        order, there, done = [first, *rest], [], {}
        for name in order:
            target, options, _ = CHANGES[name]
            done[name] = enter(slots, lib, target, options)
            there.append(name)
            check(lib, there)
        leaving = [*order[number % 5 :], *order[: number % 5]]
        for name in leaving:
            done[name].revert()
            there.remove(name)
            check(lib, there)
            done[name].revert()
        assert before.differences() == []


@pytest.mark.parametrize("base_first", [True, False])
def test_a_class_that_declares_the_field_itself_keeps_its_own(lib: Any, base_first: bool) -> None:
    before, slots = World(lib), Slots()
    changes = [("Overriding.count", {"default": 9}), ("Plain.count", {"default": 5})]
    done = [enter(slots, lib, target, options) for target, options in changes[:: -1 if base_first else 1]]
    assert (lib.Overriding().count, lib.Overriding.count, lib.Plain().count, lib.Plain.count) == (9, 9, 5, 5)
    done[0].revert()
    expected = (9, 9, 1, 1) if base_first else (7, 7, 5, 5)
    assert (lib.Overriding().count, lib.Overriding.count, lib.Plain().count, lib.Plain.count) == expected
    done[1].revert()
    assert before.differences() == []


COMPILED: dict[str, tuple[str, dict[str, Any]]] = {
    "a default": ("count", {"default": 5}),
    "a field": ("site", {"default": 8, "annotation": int}),
    "a type": ("size", {"annotation": str}),
}


def check_compiled(lib: Any, there: list[str], owner: str) -> None:
    embedding, inner = ("Embedding", "inner") if owner == "Compiled" else ("ModelEmbedding", "inner")
    for cls in (getattr(lib, owner), getattr(lib, f"{owner}Derived")):
        made = cls()
        assert (made.count, getattr(made, "site", None)) == (
            5 if "a default" in there else 1,
            8 if "a field" in there else None,
        )
        assert inspect.signature(cls).parameters["count"].default == (5 if "a default" in there else 1)
        assert ("site" in inspect.signature(cls).parameters) == ("a field" in there)
    for make in (getattr(lib, owner), lambda **said: getattr(getattr(lib, embedding)(**{inner: said}), inner)):
        assert make().count == (5 if "a default" in there else 1)
        if "a type" in there:
            assert make(size="any").size == "any"
        else:
            with pytest.raises(ValueError, match="size"):
                make(size="any")
        if "a field" in there:
            assert make(site="3").site == 3
            with pytest.raises(ValueError, match="site"):
                make(site="many")


@pytest.mark.parametrize("leaving", list(itertools.permutations(range(3))), ids=str)
@pytest.mark.parametrize("owner", ["Compiled", "Model"])
def test_what_pydantic_compiled(lib: Any, owner: str, leaving: tuple[int, ...]) -> None:
    before, slots = World(lib), Slots()
    order = [list(COMPILED)[at] for at in leaving[::-1]]
    there, done = [], {}
    for name in order:
        field, options = COMPILED[name]
        done[name] = enter(slots, lib, f"{owner}.{field}", options)
        there.append(name)
        check_compiled(lib, there, owner)
    for name in [order[at] for at in leaving]:
        done[name].revert()
        there.remove(name)
        check_compiled(lib, there, owner)
    assert before.differences() == []
