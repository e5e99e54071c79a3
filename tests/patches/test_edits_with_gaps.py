"""`...` in an edit: what is between two statements that are found, and all that was found."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import OverlayError, TargetError

pytestmark = pytest.mark.usefixtures("engine")

LIB = '''
def run(said):
    said.append("before")
    said.append("begin")
    said.append("one")  # a comment that stays
    text = """two
lines"""
    said.append(text)
    said.append("end")
    said.append("after")
    said.append("end")
    return said

def branches(said):
    if said:
        said.append("begin"); said.append("one"); said.append("end")
    return said

def twice(said):
    said.append("begin")
    said.append("end")
    for _ in said:
        said.append("begin")
        said.append("one")
        said.append("end")
    said.append("begin")
    said.append("one")
    said.append("end")
    return said
'''
FIND = 'said.append("begin")\n...\nsaid.append("end")'
ALL = ["before", "begin", "one", "two\nlines", "end", "after", "end"]


@pytest.fixture
def lib(site: Any) -> Any:
    site.write({"lib.py": LIB})
    return importlib.import_module("lib")


def edit(target: str, find: str, put: str) -> Overlay:
    overlay = Overlay("one", reason="a test")
    overlay.edit(f"lib:{target}", find=find, put=put)
    return overlay


@pytest.mark.parametrize(
    ("find", "put", "said"),
    {
        "exchanged, up to the nearest end": (FIND, "said.append('ours')", ["before", "ours", "after", "end"]),
        "taken out": (FIND, "", ["before", "after", "end"]),
        "kept in a branch": (FIND, "if not said:\n    said.append('never')\nelse:\n    ...", ALL),
        "not run in a branch": (FIND, "if not said:\n    ...", ["before", "after", "end"]),
        "twice": (FIND, "...\n...  # once more", [*ALL[:1], *ALL[1:5], *ALL[1:5], *ALL[5:]]),
        "two gaps": (
            'said.append("before")\n...\nsaid.append(text)\n...\nsaid.append("after")',
            "said.append('ours')",
            ["ours", "end"],
        ),
        "indented as a whole": (
            f"    {FIND}".replace("\n", "\n    "),
            "    said.append('ours')",
            ["before", "ours", "after", "end"],
        ),
    }.values(),
)
def test_what_a_gap_stands_for(lib: Any, find: str, put: str, said: list[str]) -> None:
    before = lib.run.__code__
    with ascend_overlay.enabled(edit("run", find, put)):
        assert lib.run([]) == said
    assert lib.run.__code__ is before and lib.run([]) == ALL


def test_without_a_gap_in_find_it_is_what_python_says(lib: Any) -> None:
    with ascend_overlay.enabled(edit("run", 'said.append("begin")', "if not said:\n    ...")):
        assert lib.run([]) == [each for each in ALL if each != "begin"]


@pytest.mark.parametrize(
    ("target", "find", "put", "sentence"),
    [
        ("run", 'said.append("begin")\n...\nsaid.append("nowhere")', "pass", "nothing in it says what `find` says"),
        ("run", 'said.append("end")\n...\nsaid.append("begin")', "pass", "nothing in it says what `find` says"),
        ("run", 'said.append("before")\n...\nsaid.append("begin")', "pass", "nothing in it says what `find` says"),
        ("twice", FIND, "pass", "is found 3 times"),
        ("branches", FIND, "if said:\n    ...", None),
        ("run", FIND, "if said: ...", "cannot be put in place of the `...` in `put`: a statement ... stands on a line"),
    ],
)
def test_what_does_not_fit(lib: Any, target: str, find: str, put: str, sentence: str | None) -> None:
    overlay = edit(target, find, put)
    if sentence is None:
        with ascend_overlay.enabled(overlay):
            assert lib.branches(["x"]) == ["x", "begin", "one", "end"]
        return
    with pytest.raises(OverlayError, match=sentence), ascend_overlay.enabled(overlay):
        pass
    assert lib.run([]) == ALL


@pytest.mark.parametrize("find", ["...\nsaid.append('end')", "said.append('begin')\n..."])
def test_it_says_where_it_begins_and_ends(lib: Any, find: str) -> None:
    sentence = r"`find` of the edit of lib:run begins or ends with `\.\.\.`, which stands for"
    with pytest.raises(TargetError, match=sentence), ascend_overlay.enabled(edit("run", find, "pass")):
        pass
