"""What the ledger and errors tell of an edit: the changed lines, what is not Python, who defines a method."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import SignatureError, TargetError

pytestmark = pytest.mark.usefixtures("engine")

LIB = """
    class Root:
        def run(self): return 'stock'
        def over(self): return 'stock'
    class Base(Root):
        def over(self): return 'base'
    class Derived(Base): pass
    HOLDER = Base()
    def one(x):
        y = x
        return y
    def two(x):
        y = x
        z = y
        return z
    def plain(x):
        return x
    def generates(x):
        yield x
    async def later(x):
        return x
    async def each(x):
        yield x
    VALUE = 1
"""


def enabled(target: str, find: str, put: str) -> Any:
    overlay = Overlay("edits", reason="a test")
    overlay.edit(f"lib:{target}", find=find, put=put)
    ascend_overlay.enable(overlay, propagate=False)
    importlib.import_module("lib")
    return ascend_overlay.ledger().of("edits")[0]


@pytest.fixture(autouse=True)
def _packages(site: Any) -> None:
    site.write({"lib.py": LIB})


NOTES = [
    ("one", "y = x", "y = 1", "1 line at line 10 replaced by 1: - y = x | + y = 1"),
    ("one", "y = x", "y = 1\ny += 1", "1 line at line 10 replaced by 2: - y = x | + y = 1 | + y += 1"),
    ("two", "y = x\nz = y", "z = 1", "2 lines at line 13 replaced by 1: - y = x | - z = y | + z = 1"),
    ("two", "y = x\nz = y", "z = 1\nz = 2\nz = 3", "2 lines at line 13 replaced by 3: "),
]


@pytest.mark.parametrize(("name", "find", "put", "note"), NOTES)
def test_the_changed_lines_are_told(name: str, find: str, put: str, note: str) -> None:
    assert enabled(name, find, put).notes[0].startswith(note)


@pytest.mark.parametrize(("length", "whole"), [(2, True), (400, False)])
def test_what_is_long_is_told_in_part(length: int, whole: bool) -> None:
    (note,) = enabled("plain", "return x", f"return {'x' * length!r}").notes
    changed = note.partition(": ")[2]
    assert changed.endswith("...") is not whole and len(changed) == (
        len(f"- return x | + return '{'x' * length}'") if whole else 400
    )


@pytest.mark.parametrize("extra", [0, 1])
def test_so_much_is_told(extra: int) -> None:
    put = f"return '{'x' * (400 - len('- return x | + return ') - 2 + extra)}'"
    (note,) = enabled("plain", "return x", put).notes
    changed = note.partition(": ")[2]
    assert len(changed) == 400 and changed.endswith("..." if extra else "x'")


NOT_PYTHON = [
    ("find", "return (", r"`find` of the edit of lib:plain is not Python: .*\(line 1: return \("),
    (
        "put",
        "x = 1\nreturn )",
        r"`put` of the edit of lib:plain is not Python: unmatched '\)' \(line 2: return \)\)\. It must",
    ),
    ("find", "", "the edit of lib:plain finds nothing: `find` has no statement in it"),
    ("find", "# only this", "the edit of lib:plain finds nothing: `find` has no statement in it"),
]


@pytest.mark.parametrize(("which", "text", "why"), NOT_PYTHON)
def test_what_is_not_python_is_said_before_the_import(which: str, text: str, why: str) -> None:
    with pytest.raises(TargetError, match=why):
        enabled("plain", text if which == "find" else "return x", text if which == "put" else "return 1")


KINDS = [
    ("plain", "return x", "yield x", "it is a plain function, and with what `put` says it would be a generator, which"),
    (
        "generates",
        "yield x",
        "return x",
        "it is a generator, and with what `put` says it would be a plain function, which",
    ),
    (
        "later",
        "return x",
        "yield x",
        "it is a coroutine, and with what `put` says it would be an asynchronous generator",
    ),
    (
        "each",
        "yield x",
        "return x",
        "it is an asynchronous generator, and with what `put` says it would be a coroutine",
    ),
]


@pytest.mark.parametrize(("name", "find", "put", "why"), KINDS)
def test_a_function_stays_of_its_kind(name: str, find: str, put: str, why: str) -> None:
    with pytest.raises(SignatureError, match=f"lib:{name} cannot be edited: {why}"):
        enabled(name, find, put)


REFUSED = [
    (
        "Derived.run",
        "is inherited, and an edit would change it for every class that inherits it; edit lib:Root.run, or",
    ),
    ("Derived.over", "is inherited, .*; edit lib:Base.over, or replace lib:Derived.over"),
    ("HOLDER.over", "is inherited, .*; edit lib:Base.over, or replace lib:HOLDER.over"),
    ("HOLDER.run", "is inherited, .*; edit lib:Root.run, or replace lib:HOLDER.run"),
    ("Derived", "the target lib:Derived is a class; name one of its methods"),
    ("VALUE", "cannot be edited: 1 leads to no Python function whose code is what runs. Use overlay.replace"),
]


@pytest.mark.parametrize(("path", "why"), REFUSED)
def test_what_cannot_be_edited_is_said_with_what_can(path: str, why: str) -> None:
    with pytest.raises(TargetError, match=why):
        enabled(path, "return 'stock'", "return 'new'")


@pytest.mark.parametrize("path", ["HOLDER.run", "Derived.run"])
def test_what_is_inherited_cannot_be_removed(path: str) -> None:
    overlay = Overlay("removes", reason="a test")
    overlay.remove(f"lib:{path}")
    importlib.import_module("lib")
    with pytest.raises(
        TargetError, match=r"cannot be removed: it is inherited from Root; remove lib:Root\.run, or give"
    ):
        ascend_overlay.enable(overlay, propagate=False)
