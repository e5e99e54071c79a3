"""What a text imports by name, without parsing it."""

from __future__ import annotations

import pytest

from ascend_overlay.source.imports import imported

CASES = {
    "from a import b, c as d\n": [("a", "b"), ("a", "c")],
    "  from .a import (\n  b, # c) and more\n c,)\n": [(".a", "b"), (".a", "c")],
    "from a import x, \\\n  b\n": [("a", "b")],
    "if x: from q import b; y": [("q", "b")],
    "x = 1; from . import b as c": [(".", "b")],
    "from a.b.c import (b)": [("a.b.c", "b")],
    "from a import b_c, bb, x as b": [],
    "import b\nfrom b import d\nfrom aimport b\nxfrom a import b": [],
}


@pytest.mark.parametrize("text", CASES)
def test_what_is_imported(text: str) -> None:
    assert sorted(imported(text, {"b", "c"})) == CASES[text]


HOSTILE = {
    "brackets that are not closed": "from a import (\n" * 200_000,
    "a bracket, and comments": "from a import (" + "# x y\n b,\n" * 200_000,
    "spaces": ("from " + " " * 200_000) * 3 + "(" * 200_000,
    "lines that go on": "from a import \\\n" * 200_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_takes_no_longer_than_its_length(name: str) -> None:
    """A search that goes back and forth would take hours for each of these."""
    assert len(list(imported(HOSTILE[name], {"b"}))) <= 1
