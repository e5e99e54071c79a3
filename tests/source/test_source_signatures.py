"""The signature that is read is the signature that Python makes."""

from __future__ import annotations

import ast
import inspect
from typing import Any

import pytest

from ascend_overlay.patches.signatures import mismatch
from ascend_overlay.source.signatures import binding_of, decorators, is_generator, signature

HEADS = [
    "f()",
    "f(a)",
    "f(a, b=1)",
    "f(a, /, b, *, c, d=2, **rest)",
    "f(a=1, /, *more, c)",
    "f(*more, **rest)",
    "f(a: int = 3, *, b: 'str' = 'x') -> list[int]",
]


def parsed(text: str) -> Any:
    return ast.parse(text).body[0]


@pytest.mark.parametrize("head", HEADS)
def test_it_is_what_python_makes_of_the_function(head: str) -> None:
    text = f"def {head}: ..."
    scope: dict[str, Any] = {}
    exec(f"from __future__ import annotations\n{text}", scope)
    assert str(signature(parsed(text))) == str(inspect.signature(scope["f"]))


def test_two_releases_can_be_held_against_one_another() -> None:
    old, new = (signature(parsed(f"def f({arguments}): ...")) for arguments in ("self, a, b=None", "self, a, b, c"))
    assert mismatch(old, old) is None
    assert mismatch(old, new) == "its argument 'b' has no default, the original's has one"


@pytest.mark.parametrize(
    ("text", "names", "binding"),
    [
        ("def f(): ...", (), "method"),
        ("@staticmethod\ndef f(): ...", ("staticmethod",), "staticmethod"),
        ("@functools.cached_property\ndef f(): ...", ("functools.cached_property",), "cached_property"),
        ("@f.setter\ndef f(): ...", ("f.setter",), None),
        ("@classmethod\n@cache(1)\ndef f(): ...", ("classmethod", "cache"), None),
        ("@tools[0]\ndef f(): ...", ("",), None),
    ],
)
def test_what_a_class_binds(text: str, names: tuple[str, ...], binding: str | None) -> None:
    assert decorators(parsed(text)) == names
    assert binding_of(parsed(text)) == binding


@pytest.mark.parametrize(
    ("body", "yields"),
    [
        ("yield", True),
        ("if x:\n        y = yield from x", True),
        ("return lambda: (yield)", False),
        ("def g():\n        yield", False),
        ("class C:\n        def g(self): yield", False),
    ],
)
def test_a_generator_is_known(body: str, yields: bool) -> None:
    assert is_generator(parsed(f"def f(x):\n    {body}\n")) is yields
    assert is_generator(parsed(f"async def f(x):\n    {body}\n".replace("from x", ""))) is yields
