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


def of(text: str, **options: bool) -> str:
    return fingerprint(ast.parse(text), **options)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"""Says something."""', "'another'"),
        ("    match", "    # A comment.\n\n    match"),
        ("a, /, b", "a,  # type: ignore\n    /, b"),
        ('u"text" "more"', "'textmore'"),
        ("(y := 1.0)", "(((y := 1.0)))"),
        ("b: int = 2", "b: 'Any' = 2"),
        ('-> "x"', ""),
        ("x: int = yield", "x = yield"),
        ("x: int = yield", "x: list[int] = yield"),
        ("    match", "    z: int\n    match"),
    ],
)
def test_layout_comments_docstrings_and_annotations_do_not_matter(before: str, after: str) -> None:
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
        ("def f", "async def f"),
        ("@decorate(1)", ""),
        ("[1, *_]", "[1]"),
    ],
)
def test_what_runs_does(before: str, after: str) -> None:
    assert before in TEXT
    assert of(TEXT.replace(before, after)) != of(TEXT)


def test_it_is_the_same_by_every_release_of_python() -> None:
    assert of(TEXT) == "9efadfff9d87d938"
    assert of(TEXT, annotations=True) == "6bf1622d4de7f2f2"


@pytest.mark.parametrize(
    ("before", "after"), [("b: int", "b: Any"), ('-> "x"', ""), ("x: int =", "x ="), ("b: int", "b")]
)
def test_annotations_count_where_that_is_asked_for(before: str, after: str) -> None:
    assert before in TEXT
    assert of(TEXT.replace(before, after), annotations=True) != of(TEXT, annotations=True)


def test_what_a_class_declares_counts_with_its_type() -> None:
    fields = "class C:\n    x: int = 1\n    y: str\n    if z:\n        w: int\n    def f(self): v: int = 1\n"
    for before, after in (("x: int", "x: str"), ("y: str", "y: int"), ("    y: str\n", ""), ("w: int", "w: str")):
        assert of(fields.replace(before, after)) != of(fields)
    assert of(fields.replace("v: int", "v: str")) == of(fields)


def test_a_function_that_moved_keeps_it() -> None:
    function = "def f(a: int):\n    return a\n"
    (moved,) = ast.parse(f"class C:\n    x: int\n\n    {function.replace(chr(10), chr(10) + '    ')}").body[0].body[1:]
    assert fingerprint(moved) == fingerprint(ast.parse(function).body[0])


def test_a_string_that_is_no_docstring_counts() -> None:
    assert of("x = 1\n'text'\n") != of("x = 1\n")
    assert of("if x:\n    'text'\n") != of("if x:\n    'other'\n")
