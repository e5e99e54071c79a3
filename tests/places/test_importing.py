"""Knowing when a module has executed."""

from __future__ import annotations

import importlib
import importlib.util
import runpy
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


RUN = """
    import runpy_watched_calls
    def greet(): ...
    {test}
        runpy_watched_calls.append((__name__, len(runpy_watched_calls.calls)))
"""


@pytest.mark.parametrize(
    ("test", "met"),
    [('if __name__ == "__main__":', 1), ("if '__main__' == __name__:", 1), ("if __name__:", 0)],
)
def test_a_module_that_runs_as_the_program_is_told_before_its_work(
    site: Any, monkeypatch: pytest.MonkeyPatch, test: str, met: int
) -> None:
    here = ModuleType("runpy_watched_calls")
    seen: list[Any] = []
    here.calls, here.append = calls, seen.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "runpy_watched_calls", here)
    site.write({"tool.py": RUN.format(test=test), "lib.py": RUN.format(test=test)})
    monkeypatch.setattr(importing, "_run", {})
    importing.watch("tool", callback)
    importing.watch("tool", second)
    names = runpy.run_module("tool", run_name="__main__", alter_sys=True)
    assert seen == [("__main__", 2 * met)]
    assert [name for name, _ in calls] == ["tool", "second tool"] * met
    if met:
        assert importing.loaded("tool") is calls[0][1] is importing._run["tool"]
        assert calls[0][1].__name__ == "__main__" and names["greet"] is not None
    else:
        assert importing.loaded("tool") is None
    for each in (callback, second):
        importing.unwatch("tool", each)
    calls.clear()
    runpy.run_module("lib", run_name="__main__", alter_sys=True)
    assert calls == []


def test_who_asks_for_the_code_gets_it_as_it_is(site: Any) -> None:
    site.write({"tool.py": 'if __name__ == "__main__":\n    1 / 0\n'})
    importing.watch("tool", callback)
    spec = importlib.util.find_spec("tool")
    assert spec is not None and isinstance(spec.loader, importing._Loader)
    loader: Any = spec.loader
    assert loader.get_code("tool") == loader._loader.get_code("tool") and loader.get_filename("tool") == spec.origin
    importing.unwatch("tool", callback)


def test_what_was_loaded() -> None:
    assert importing.loaded("sys") is sys and importing.loaded("no_such_module_anywhere") is None


class Finder:
    """Finds nothing, and notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        self.asked.append(name)
        # As some do: it asks all others in its turn.
        return importlib.util.find_spec(name) if name == "lib" and len(self.asked) == 1 else None


@pytest.mark.parametrize("kind", ["one that asks all others", "one that is none of today's"])
def test_other_finders(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    finder = Finder()
    asks = kind == "one that asks all others"
    with monkeypatch.context() as changed:
        changed.setattr(sys, "meta_path", [finder if asks else object(), *sys.meta_path])
        importing.watch("lib", callback)
        lib = importlib.import_module("lib")
        importing.unwatch("lib", callback)
    assert calls == [("lib", lib)] and finder.asked == ["lib", "lib"] * asks
    assert importing._names_looked_for() == set()


def test_a_finder_that_finds_nothing_is_not_the_end() -> None:
    importing.watch("no_such_module_anywhere", callback)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        importlib.import_module("no_such_module_anywhere")
    importing.unwatch("no_such_module_anywhere", callback)
    assert calls == [] and importing._names_looked_for() == set()
