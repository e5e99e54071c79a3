"""Values that the users of a container cannot use: a text where an object is meant, a value where a function is due."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay, ref
from ascend_overlay.errors import TargetError
from ascend_overlay.source.written import samples

LIBRARY = """
    import os
    from dataclasses import dataclass
    from typing import Any, Callable
    def made(name): return lambda: name
    def asked(): return "stock"
    @dataclass
    class Layer:
        size: int = 1
        table = {"a": 1}
    VARIABLES: dict[str, Callable[[], Any]] = {"A": lambda: os.getenv("A"), "B": made("B"), "C": asked}
    TAKES = {"a": lambda x: x, "b": lambda x: -x}
    NUMBERS = {"a": 1, "b": 2}
    TEXTS = {"a": "lib:asked"}
    MIXED = {"a": asked, "b": "lib:made"}
    FUNCTIONS = [asked, made]
    WORDS = ["one", "lib:asked"]
    LIMIT = 3
    NAME = "lib:asked"
    EMPTY = {}
    LATER = {"a": 1}
    LATER["b"] = "lib:asked"
    COPIED = {**NUMBERS}
    COMPUTED = {"a": os.getenv("A"), "b": 1}
    HELD = [1, 2]
    HELD.append("lib:asked")
"""
QUOTED = "lib:asked"
Declare = Callable[[Overlay], None]
TEXT = r"is the text 'lib:asked', and nothing would import it; write ref\('lib:asked'\)"
CALLED = r"is called, and an int cannot be\. Give a function that returns it, such as lambda: 3; or say as_is=True"
NEEDS = r"is called without arguments\. Give a function that needs none"
REFUSED: dict[str, tuple[Declare, str]] = {
    "a text among functions": (lambda o: o.item("lib:VARIABLES", "NEW", QUOTED), TEXT),
    "a text for one that is there": (lambda o: o.item("lib:VARIABLES", "A", QUOTED), TEXT),
    "a text among numbers": (lambda o: o.item("lib:NUMBERS", "c", QUOTED), TEXT),
    "a text among a class's numbers": (lambda o: o.item("lib:Layer.table", "b", QUOTED), TEXT),
    "a text for a number": (lambda o: o.attribute("lib:LIMIT", QUOTED), TEXT),
    "a text for a function": (lambda o: o.attribute("lib:asked", QUOTED), TEXT),
    "a text for a default": (lambda o: o.field("lib:Layer.size", default=QUOTED), TEXT),
    "a text in a list of functions": (lambda o: o.entry("lib:FUNCTIONS", QUOTED), TEXT),
    "a text that is new": (lambda o: o.add("lib:NEW", QUOTED), TEXT),
    "a value among functions": (lambda o: o.item("lib:VARIABLES", "NEW", 3), CALLED),
    "a value for one that is there": (lambda o: o.item("lib:VARIABLES", "A", 3), CALLED),
    "nothing among functions": (lambda o: o.item("lib:VARIABLES", "NEW", None), r"is called, and a NoneType cannot be"),
    "a value among functions of something": (lambda o: o.item("lib:TAKES", "c", 3), CALLED),
    "a value in a list of functions": (lambda o: o.entry("lib:FUNCTIONS", 3), CALLED),
    "a function of something": (lambda o: o.item("lib:VARIABLES", "NEW", lambda name: name), NEEDS),
    "one that names what it needs": (lambda o: o.item("lib:VARIABLES", "NEW", lambda *, name: name), NEEDS),
}
LATE = {"a text that is new", "a function of something", "one that names what it needs"}
"""What is computed may be called otherwise, as far as source tells; and what is new has no place to be judged by."""


@pytest.fixture(autouse=True)
def _lib(site: Any) -> None:
    site.write({"lib.py": LIBRARY, "ours.py": "VALUE = 3\ndef asked(): return 3\n"})


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("what", REFUSED)
def test_refused_before_anything_is_imported(offer: Any, what: str, early: bool) -> None:
    declare, part = REFUSED[what]
    overlay = Overlay("one", reason="a test")
    declare(overlay)
    offer(overlay, name="plug")
    if not early:
        importlib.import_module("lib")
    with pytest.raises(TargetError, match=rf"overlay 'one' \(plugin 'plug'\) .*lib:.*{part}"):
        ascend_overlay.enable()
        assert early
        importlib.import_module("lib")
    assert ("lib" in sys.modules) is not early


TAKEN: dict[str, Declare] = {
    "a text among texts": lambda o: o.item("lib:TEXTS", "b", QUOTED),
    "a text beside one": lambda o: o.item("lib:MIXED", "c", QUOTED),
    "a value beside a text": lambda o: o.item("lib:MIXED", "c", 3),
    "a text where texts come later": lambda o: o.item("lib:LATER", "c", QUOTED),
    "a number among numbers": lambda o: o.item("lib:NUMBERS", "c", 3),
    "a number where there is nothing": lambda o: o.item("lib:EMPTY", "c", 3),
    "a function among functions": lambda o: o.item("lib:VARIABLES", "NEW", lambda: 3),
    "a function that may be given something": lambda o: o.item("lib:VARIABLES", "NEW", lambda name="x", *more: 3),
    "a class among functions": lambda o: o.item("lib:VARIABLES", "NEW", int),
    "a function of something among such": lambda o: o.item("lib:TAKES", "c", lambda x, y=0: x),
    "the name of a function": lambda o: o.item("lib:VARIABLES", "NEW", ref("ours:asked")),
    "a text in a list of texts": lambda o: o.entry("lib:WORDS", "lib:made"),
    "a text in a list that has one": lambda o: o.entry("lib:HELD", "lib:made"),
    "a function in a list of functions": lambda o: o.entry("lib:FUNCTIONS", print),
    "a text for a text": lambda o: o.attribute("lib:NAME", "lib:made"),
    "a value that is meant": lambda o: o.item("lib:VARIABLES", "NEW", 3, as_is=True),
    "a text that is meant": lambda o: o.item("lib:VARIABLES", "NEW", QUOTED, as_is=True),
    "an entry that is meant": lambda o: o.entry("lib:FUNCTIONS", 3, as_is=True),
    "a word that names no module": lambda o: o.item("lib:NUMBERS", "c", "nothing:here"),
}


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("what", TAKEN)
def test_taken(offer: Any, what: str, early: bool) -> None:
    overlay = Overlay("one", reason="a test")
    TAKEN[what](overlay)
    offer(overlay)
    if not early:
        importlib.import_module("lib")
    ascend_overlay.enable()
    importlib.import_module("lib")
    assert [entry.state for entry in ascend_overlay.ledger().of("one")] == ["applied"]


def test_the_name_of_a_value_is_judged_when_it_is_known(offer: Any) -> None:
    overlay = Overlay("one", reason="a test")
    overlay.item("lib:VARIABLES", "NEW", ref("ours:VALUE"))
    offer(overlay)
    ascend_overlay.enable()
    with pytest.raises(TargetError, match=rf"overlay 'one' .*lib:VARIABLES\['NEW'\] cannot be 3: .*{CALLED}"):
        importlib.import_module("lib")


CERTAIN = {
    "VARIABLES": True,
    "NUMBERS": True,
    "FUNCTIONS": True,
    "LIMIT": True,
    "asked": True,
    "Layer.size": True,
    "Layer.table": True,
    "TEXTS": True,
    "EMPTY": False,
    "LATER": False,
    "HELD": False,
    "COPIED": False,
    "COMPUTED": False,
    "NOWHERE": False,
    "Layer.nothing": False,
    "LIMIT.real": False,
    "a.b.c": False,
}


@pytest.mark.parametrize("name", CERTAIN)
def test_what_source_tells(name: str) -> None:
    assert (samples("lib", name.split(".")) is not None) is CERTAIN[name]
    assert "lib" not in sys.modules and samples("no_such_lib", ["x"]) is None


@pytest.mark.parametrize("value", [3, None, "vllm.envs:VLLM_PORT", (1,)])
def test_an_environment_variable_of_vllm_is_a_function(offer: Any, value: Any) -> None:
    if "vllm.envs" in sys.modules:
        pytest.skip("it is loaded in this process")
    overlay = Overlay("one", reason="a test")
    overlay.item("vllm.envs:environment_variables", "VLLM_ACME", value)
    offer(overlay)
    with pytest.raises(TargetError, match=r"environment_variables\['VLLM_ACME'\].*(Give a function|write ref\()"):
        ascend_overlay.enable()
    assert "vllm.envs" not in sys.modules
