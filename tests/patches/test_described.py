"""How the ledger and errors name what a patch puts in place."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay, ref
from ascend_overlay.errors import TargetError


class Odd:
    """Something at hand that is called by no name of Python's."""

    def __init__(self, qualified: Any) -> None:
        self.__qualname__ = qualified

    def __repr__(self) -> str:
        return "an odd one"


VALUES = [
    (ref("package.module:Name.of"), "package.module:Name.of"),
    (len, "builtins:len"),
    (str.join, "str.join"),
    (Odd, f"{__name__}:Odd"),
    (Odd("Named"), f"{__name__}:Named"),
    (Odd(1), "an odd one"),
    (1.5, "1.5"),
    (None, "None"),
    ("text", "'text'"),
    ("x" * 58, repr("x" * 58)),
    ("x" * 59, f"'{'x' * 56}..."),
    ("x" * 900, f"'{'x' * 56}..."),
]


@pytest.mark.parametrize(("value", "shown"), VALUES)
def test_a_value_by_a_short_name(value: Any, shown: str) -> None:
    overlay = Overlay("one", reason="a test")
    overlay.attribute("lib:NAME", value)
    assert overlay.patches[0].describe() == f"set to {shown}"


WHAT = [
    ("function", "a function"),
    ("len", "a function"),
    ("NUMBER", "an int"),
    ("NAMES", "a list"),
    ("OBJECT", "an object"),
]


@pytest.mark.parametrize(("name", "what"), WHAT)
@pytest.mark.parametrize("kind", ["subclass", "factory"])
def test_what_is_there_in_place_of_a_class(
    offer: Any, site: Any, engine: object, kind: str, name: str, what: str
) -> None:
    lib = "from builtins import len\nNUMBER, NAMES, OBJECT = 1, [], object()\ndef function(): pass\nclass Cls: pass\n"
    site.write({"lib.py": lib})
    overlay = Overlay("one", reason="a test")
    getattr(overlay, kind)(f"lib:{name}", "lib:Cls")
    offer(overlay)
    importlib.import_module("lib")
    with pytest.raises(TargetError, match=f"the target lib:{name} is {what}, not a class; use overlay.replace"):
        ascend_overlay.enable()


@pytest.mark.parametrize(("name", "what"), WHAT)
def test_what_is_given_in_place_of_a_subclass(offer: Any, site: Any, engine: object, name: str, what: str) -> None:
    lib = "from builtins import len\nNUMBER, NAMES, OBJECT = 1, [], object()\ndef function(): pass\nclass Cls: pass\n"
    site.write({"lib.py": lib})
    overlay = Overlay("one", reason="a test")
    overlay.subclass("lib:Cls", f"lib:{name}")
    offer(overlay)
    importlib.import_module("lib")
    with pytest.raises(TargetError, match=f"cannot stand in for lib:Cls: it is {what}, not a class. To have a"):
        ascend_overlay.enable()
