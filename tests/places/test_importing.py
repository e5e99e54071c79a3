"""Knowing when a module has executed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest

from ascend_overlay.places import importing

calls: list[tuple[str, Any]] = []


def callback(name: str, module: ModuleType) -> None:
    calls.append((name, module))


def second(name: str, module: ModuleType) -> None:
    calls.append((f"second {name}", module))


@pytest.fixture(autouse=True)
def _clean(site: Any) -> Iterator[None]:
    site.write({"lib.py": "NAME = 1\n", "other.py": "NAME = 1\n", "failing.py": "1 / 0\n"})
    finders = list(sys.meta_path)
    calls.clear()
    yield
    for name in ("lib", "other", "failing", "half", "changeling"):
        sys.modules.pop(name, None)
        for each in (callback, second):
            importing.unwatch(name, each)
    importing.sweep()
    assert sys.meta_path == finders


def test_each_execution_is_told_once() -> None:
    importing.watch("lib", callback)
    importing.watch("lib", callback)
    lib = importlib.import_module("lib")
    assert calls == [("lib", lib)] and type(lib.__spec__.loader).__module__ == "_frozen_importlib_external"
    assert lib.__loader__ is lib.__spec__.loader
    importlib.reload(lib)
    assert calls == [("lib", lib)] * 2
    del sys.modules["lib"]
    importlib.import_module("other")
    assert importlib.import_module("lib") is calls[2][1] is not lib and len(calls) == 3


def test_who_stops_to_watch_is_not_told() -> None:
    for each in (callback, second):
        importing.watch("lib", each)
    importing.watch("other", callback)
    assert importing.watched_by(callback) == ["lib", "other"] and importing.watched_by(second) == ["lib"]
    importing.unwatch("lib", callback)
    importing.unwatch("lib", callback)
    assert importing.watched_by(callback) == ["other"]
    lib = importlib.import_module("lib")
    assert calls == [("second lib", lib)]
    importing.unwatch("lib", second)
    assert importing._finder in sys.meta_path
    importing.unwatch("other", callback)
    assert importing._finder not in sys.meta_path


def test_what_fails_is_told_when_it_succeeds(site: Any) -> None:
    importing.watch("failing", callback)
    with pytest.raises(ZeroDivisionError):
        importlib.import_module("failing")
    assert calls == [] and not importing.is_complete("failing")
    site.write({"failing.py": "NAME = 'another length'\n"})
    assert calls == [] and importlib.import_module("failing") is calls[0][1]


def test_the_finder_is_the_first_again() -> None:
    importing.watch("lib", callback)
    assert sys.meta_path[0] is importing._finder and sys.meta_path.count(importing._finder) == 1
    importing.watch("other", callback)
    assert sys.meta_path.count(importing._finder) == 1


def test_a_module_that_puts_something_else_in_its_place(site: Any) -> None:
    text = "import sys, types\nsys.modules[__name__] = types.ModuleType('changeling')\n"
    site.write({"changeling.py": text})
    importing.watch("changeling", callback)
    assert importlib.import_module("changeling") is calls[0][1] is sys.modules["changeling"]


def test_complete_or_not(site: Any) -> None:
    text = "from ascend_overlay.places import importing\nfrom sys import modules\n"
    site.write({"half.py": f"{text}SAID = importing.is_complete('half'), importing.is_initializing(modules['half'])\n"})
    assert not importing.is_complete("half")
    half = importlib.import_module("half")
    assert half.SAID == (False, True) and importing.is_complete("half") and not importing.is_initializing(half)
    assert not importing.is_initializing(ModuleType("without_spec"))


def test_what_is_complete_is_told_at_once() -> None:
    lib = importlib.import_module("lib")
    importing.when_complete("lib", callback)
    assert calls == [("lib", lib)]
    assert importing._finder not in sys.meta_path


@pytest.mark.parametrize("spec", ["plain", "own"])
@pytest.mark.parametrize("end", ["sweep", "import", "fail"])
def test_what_is_executing_is_told_when_it_is_complete(site: Any, end: str, spec: str) -> None:
    text = "from ascend_overlay.places import importing\nimport test_importing\nFIRST = 1\n"
    if spec == "own":
        # Such a spec tells nothing.
        text += "__spec__.__class__ = type('Own', (type(__spec__),), {})\n"
    more = "import other\nassert not test_importing.calls\n" + ("1 / 0\n" if end == "fail" else "")
    sys.modules["test_importing"] = sys.modules[__name__]
    site.write({"half.py": f"{text}importing.when_complete('half', test_importing.callback)\n{more}"})
    if end == "fail":
        with pytest.raises(ZeroDivisionError):
            importlib.import_module("half")
        assert calls == []
    else:
        half = importlib.import_module("half")
        assert calls == ([("half", half)] if spec == "plain" else [])
        assert type(half.__spec__) is ModuleSpec or spec == "own"
    assert (importing._finder in sys.meta_path) == (spec == "own")
    if end == "import":
        importlib.import_module("json.tool")
        sys.modules.pop("json.tool")
        importlib.import_module("json.tool")
    importing.sweep()
    assert calls == ([] if end == "fail" else [("half", sys.modules["half"])])
    importing.sweep()
    assert len(calls) <= 1 and importing._finder not in sys.meta_path


def test_who_is_called_may_look_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def looking(name: str, module: ModuleType) -> None:
        calls.append((name, module))
        importing.sweep()

    monkeypatch.setattr(importing, "_unfinished", [("sys", looking), ("importlib", looking), ("no such", looking)])
    importing.sweep()
    assert calls == [("sys", sys), ("importlib", importlib)] and importing._unfinished == []
