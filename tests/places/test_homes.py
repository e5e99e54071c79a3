"""Where an implementation is at home: its module, or the names that its code leads to."""

from __future__ import annotations

import functools
import importlib
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from ascend_overlay.places.homes import homes_of, parts_of

TEXT = """
    import functools
    def helper(): return deeper()
    def deeper(): return [TABLE for _ in range(1)]
    def listed(): return 1
    def apart(): return VALUE
    VALUE = 1
    TABLE = {"a": listed, "b": (listed, apart)}
    def decorate(function):
        def outer(*args): return function(*args)
        return outer
    def plain(): return helper()
    def recursive(): return recursive
    def nested():
        def inner(): return helper()
        return inner
    dressed = decorate(plain)
    partial = functools.partial(plain)
    class Class:
        def method(self): return helper()
        @staticmethod
        def static(): return apart()
        @classmethod
        def of_class(cls): return apart()
        @property
        def value(self): return VALUE
    def empty():
        if 0: cell = 1
        def inner(): return cell
        return inner
    unset = empty()
    number = 1
"""


@pytest.fixture(params=["lib", "__main__"])
def module(request: pytest.FixtureRequest, site: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    site.write({"lib.py": TEXT})
    found = types.ModuleType(request.param)
    exec(compile((site.folder / "lib.py").read_text(), "lib.py", "exec"), vars(found))
    monkeypatch.setitem(sys.modules, request.param, found)
    return found


# an implementation -> the names that it leads to
REACHED: dict[str, tuple[Callable[[Any], Any], set[str]]] = {
    "a function": (lambda m: m.plain, {"helper", "deeper", "TABLE", "VALUE"}),
    "a leaf": (lambda m: m.apart, {"VALUE"}),
    "nothing": (lambda m: m.listed, set()),
    "itself": (lambda m: m.recursive, {"recursive"}),
    "a function inside": (lambda m: m.nested, {"helper", "deeper", "TABLE", "VALUE"}),
    "a decorated one": (lambda m: m.dressed, {"helper", "deeper", "TABLE", "VALUE"}),
    "a class": (lambda m: m.Class, {"helper", "deeper", "TABLE", "apart", "VALUE"}),
    "a static method": (lambda m: vars(m.Class)["static"], {"apart", "VALUE"}),
    "a class method": (lambda m: vars(m.Class)["of_class"], {"apart", "VALUE"}),
    "a property": (lambda m: vars(m.Class)["value"], {"VALUE"}),
    "a table": (lambda m: m.TABLE, {"VALUE"}),
    "a list": (lambda m: [m.apart], {"VALUE"}),
    "an empty cell": (lambda m: m.unset, set()),
}


@pytest.mark.parametrize("case", REACHED)
def test_in_the_module_of_the_target_it_is_names(module: Any, case: str) -> None:
    make, names = REACHED[case]
    assert homes_of(make(module), module.__name__) == {f"{module.__name__}.{name}" for name in names}


@pytest.mark.parametrize("case", REACHED)
def test_elsewhere_it_is_the_module(module: Any, case: str) -> None:
    make, names = REACHED[case]
    expected = {"lib"} if module.__name__ == "lib" else {f"__main__.{name}" for name in names}
    assert homes_of(make(module), "target") == expected


def test_what_has_no_module_has_no_home() -> None:
    assert homes_of(1, "target") == frozenset() == homes_of(importlib, "target")
    assert homes_of(functools.partial(print), "target") == {"functools"}


def test_parts(module: Any) -> None:
    name = module.__name__
    assert parts_of(module.plain) == {f"{name}.plain(default"}
    assert parts_of(module.dressed) == {
        f"{name}.decorate.<locals>.outer(default",
        f"function in the closure {name}.decorate.<locals>.outer",
        f"{name}.plain(default",
    }
    assert parts_of(1) == frozenset()
