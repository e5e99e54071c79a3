"""Fingerprints follow the code, and nothing else."""

from __future__ import annotations

import ast

import pytest

from ascend_overlay.source.fingerprints import fingerprint

TEXT = '''
@decorate(1)
def f(a, /, b: int = 2, *c, d=None, **e) -> "x":
    """Says something."""
    with a as b, c: return f"{a!r:>{b}} {c}" + u"text" "more"
    match a:
        case {"k": [1, *_]} if b: x: int = yield (y := 1.0)
class C(Base, metaclass=M):
    """And this."""
'''


def of(text: str) -> str:
    return fingerprint(ast.parse(text))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"""Says something."""', "'another'"),
        ("    match", "    # A comment.\n\n    match"),
        ("a, /, b", "a,  # type: ignore\n    /, b"),
        ('u"text" "more"', "'textmore'"),
        ("(y := 1.0)", "(((y := 1.0)))"),
    ],
)
def test_layout_comments_and_docstrings_do_not_matter(before: str, after: str) -> None:
    assert before in TEXT
    assert of(TEXT.replace(before, after)) == of(TEXT)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("1.0", "1"),
        ("1.0", "True"),
        ("b: int = 2", "b: int = 3"),
        ("d=None", "d"),
        ("metaclass=M", "M"),
        ("a as b", "a"),
        ("!r", ""),
        ('-> "x"', ""),
        ("def f", "async def f"),
        ("@decorate(1)", ""),
        ("[1, *_]", "[1]"),
    ],
)
def test_what_runs_does(before: str, after: str) -> None:
    assert before in TEXT
    assert of(TEXT.replace(before, after)) != of(TEXT)


def test_it_is_the_same_by_every_release_of_python() -> None:
    assert of(TEXT) == "6bf1622d4de7f2f2"


def test_a_string_that_is_no_docstring_counts() -> None:
    assert of("x = 1\n'text'\n") != of("x = 1\n")
    assert of("if x:\n    'text'\n") != of("if x:\n    'other'\n")
