"""Whether a wrapper has run: in the ledger, in its file at once, and nothing is paid for it afterwards."""

from __future__ import annotations

import asyncio
import gc
import importlib
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay, api
from ascend_overlay.ledgers import read_folder
from ascend_overlay.ledgers.table import as_table, as_text
from ascend_overlay.patches import shells
from ascend_overlay.patches.first_calls import Calls, first_call

LIB = """
    import dataclasses, functools
    def run(x): return x
    async def later(x): return x
    def count(x): yield x
    part = functools.partial(run, 1)
    class Thing:
        def method(self, x): return x
        @staticmethod
        def static(x): return x
        @classmethod
        def of_class(cls, x): return x
        @property
        def value(self): return 1
        @functools.cached_property
        def kept(self): return 1
    class Derived(Thing): pass
    @dataclasses.dataclass
    class Row:
        size: int = 1
    @dataclasses.dataclass
    class More(Row):
        more: int = 1
"""


def call(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return wrapped(*args, **kwargs)


KINDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "a function": ("run", lambda lib: lib.run(1)),
    "a coroutine function": ("later", lambda lib: asyncio.run(lib.later(1))),
    "a generator function": ("count", lambda lib: list(lib.count(1))),
    "no function": ("part", lambda lib: lib.part()),
    "a method": ("Thing.method", lambda lib: lib.Thing().method(1)),
    "a method, called by its class": ("Thing.method", lambda lib: lib.Thing.method(lib.Thing(), 1)),
    "an inherited method": ("Derived.method", lambda lib: lib.Derived().method(1)),
    "a static method": ("Thing.static", lambda lib: lib.Thing.static(1)),
    "a class method": ("Thing.of_class", lambda lib: lib.Derived.of_class(1)),
    "a property": ("Thing.value", lambda lib: lib.Thing().value),
    "a cached property": ("Thing.kept", lambda lib: lib.Thing().kept),
    "what a dataclass writes, in a derived class": ("Row.__init__", lambda lib: lib.More()),
}


def enable(offer: Any, *targets: str, **arguments: Any) -> None:
    for index, target in enumerate(targets):
        overlay = Overlay(f"o{index}", reason="a test")
        overlay.wrap(target)(call)
        offer(overlay)
    ascend_overlay.enable(**arguments)


def ran() -> list[bool | None]:
    return [entry.ran for entry in ascend_overlay.ledger()]


@pytest.mark.parametrize("before", [True, False], ids=["loaded before", "loaded after"])
@pytest.mark.parametrize(("target", "use"), KINDS.values(), ids=KINDS)
def test_every_kind_of_target(target: str, use: Any, before: bool, site: Any, offer: Any, tmp_path: Path) -> None:
    site.write({"lib.py": LIB})
    if before:
        importlib.import_module("lib")
    enable(offer, f"lib:{target}", ledger=str(tmp_path / "ledgers"))
    lib = importlib.import_module("lib")
    assert ran() == [False]
    (ledger,) = read_folder(tmp_path / "ledgers")
    assert ledger.entries[0].ran is False
    assert "has not run" in as_text(as_table("a process", ledger.entries, width=200), width=200)
    assert "0 of 1 wrapper has run" in as_text(ledger)

    use(lib)
    use(lib)
    assert ran() == [True]
    (ledger,) = read_folder(tmp_path / "ledgers")
    assert ledger.entries[0].ran is True
    assert "1 of 1 wrapper has run" in as_text(ledger) and "has not run" not in as_text(ledger)

    ascend_overlay.disable()
    assert ran() == [None]


def test_what_is_not_applied_or_no_wrapper_says_nothing(site: Any, offer: Any) -> None:
    site.write({"lib.py": LIB})
    importlib.import_module("lib")
    overlay = Overlay("o", reason="a test")
    overlay.wrap("not_imported:run")(call)
    overlay.replace("lib:run")(lambda x: x)
    site.write({"not_imported.py": "def run(): pass\n"})
    offer(overlay)
    ascend_overlay.enable()
    assert ran() == [None, None]
    assert "run" not in as_text(ascend_overlay.ledger()).partition("2 ")[2]


def test_of_several_wrappers_who_is_called(site: Any, offer: Any) -> None:
    site.write({"lib.py": LIB})
    lib = importlib.import_module("lib")
    enable(offer, "lib:run", "lib:run", "lib:Thing.method")
    lib.run(1)
    assert ran() == [True, True, False]
    assert "3 applied, 2 of 3 wrappers have run" in as_text(ascend_overlay.ledger())


def test_a_module_that_is_loaded_again_and_one_that_is_enabled_again(site: Any, offer: Any) -> None:
    site.write({"lib.py": LIB})
    lib = importlib.import_module("lib")
    enable(offer, "lib:run")
    importlib.reload(lib)
    assert ran() == [False]
    lib.run(1)
    assert ran() == [True]
    importlib.reload(lib)
    assert ran() == [True]
    ascend_overlay.disable()
    ascend_overlay.enable()
    assert [entry.ran for entry in ascend_overlay.ledger() if entry.state == "applied"] == [False]


def test_the_second_call_pays_nothing(site: Any, offer: Any) -> None:
    site.write({"lib.py": LIB})
    lib = importlib.import_module("lib")
    enable(offer, "lib:run")
    link = shells.link_of(lib.run)
    assert link is not None and link.wrapper is not call
    lib.run(1)
    assert link.wrapper is call


def test_a_first_call_waits_for_nobody(site: Any, offer: Any, tmp_path: Path) -> None:
    """Another thread has the lock, and may wait for what the caller has."""
    site.write({"lib.py": LIB})
    lib = importlib.import_module("lib")
    enable(offer, "lib:run", ledger=str(tmp_path / "ledgers"))
    lock, held, done = api._engine._state.lock, threading.Event(), threading.Event()

    def hold() -> None:
        with lock.held():
            held.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(20)
        caller = threading.Thread(target=lib.run, args=(1,))
        caller.start()
        caller.join(10)
        assert not caller.is_alive()
    finally:
        done.set()
        thread.join(20)
    assert read_folder(tmp_path / "ledgers")[0].entries[0].ran is False
    ascend_overlay.note("o0", "a remark")
    assert read_folder(tmp_path / "ledgers")[0].entries[0].ran is True


def test_what_was_taken_back_is_not_held_by_a_circle() -> None:
    link = shells.Link(print, max)
    link.wrapper = first_call(link.wrapper, Calls(), link)
    held = weakref.ref(link)
    gc.disable()
    try:
        del link
        assert held() is None
    finally:
        gc.enable()
