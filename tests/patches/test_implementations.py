"""Implementations that are given by name: what does not exist is said with the nearest names, as early as can be."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import TargetError

LIB = "class Thing:\n    def run(self): return 'stock'\ndef run(): return 'stock'\n"
OURS = """
    class Outer:
        class Inner:
            @staticmethod
            def run(): return "ours"
    def run(): return "ours"
"""


@pytest.fixture
def overlay(offer: Any, site: Any) -> Overlay:
    site.write({"lib.py": LIB, "ours.py": OURS, "broken.py": "import no_such_module\n"})
    overlay = Overlay("one", reason="a test")
    offer(overlay)
    return overlay


MISSING = [
    ("ours:runn", r"the implementation ours:runn does not exist: no 'runn' there\. Did you mean 'run'\?"),
    ("ours:Outer.Iner.run", r"ours:Outer.Iner.run does not exist: no 'Iner' there\. Did you mean 'Inner'\?"),
    ("ours:Outer.Inner.runs", r"no 'runs' there\. Did you mean 'run'\?"),
    ("broken:run", r"the implementation broken:run cannot be imported: No module named 'no_such_module'\.$"),
]


@pytest.mark.parametrize(("implementation", "why"), MISSING)
def test_what_does_not_exist_is_said_with_the_nearest_names(overlay: Overlay, implementation: str, why: str) -> None:
    overlay.replace("lib:run", implementation)
    importlib.import_module("lib")
    with pytest.raises(TargetError, match=f"(?m){why}"):
        ascend_overlay.enable()
    assert sys.modules["lib"].run() == "stock"


@pytest.mark.parametrize(
    "declare",
    [
        lambda overlay: overlay.replace("lib:run", "nowhere:run"),
        lambda overlay: overlay.wrap("lib:run", "nowhere:run"),
        lambda overlay: overlay.subclass("lib:Thing", "nowhere:Thing"),
        lambda overlay: overlay.factory("lib:Thing", "nowhere:Thing"),
        lambda overlay: overlay.attribute("lib:run", ascend_overlay.ref("nowhere:run")),
        lambda overlay: overlay.add("lib:more", ascend_overlay.ref("nowhere:run")),
        lambda overlay: overlay.entry("lib:NAMES", ascend_overlay.ref("nowhere:run")),
        lambda overlay: overlay.field("lib:Thing.size", default=ascend_overlay.ref("nowhere:run")),
        lambda overlay: overlay.call("lib", do="nowhere:run", undo="ours:run"),
        lambda overlay: overlay.call("lib", do="ours:run", undo="nowhere:run"),
    ],
)
def test_a_module_that_does_not_exist_is_said_before_the_target_is_imported(overlay: Overlay, declare: Any) -> None:
    declare(overlay)
    with pytest.raises(
        TargetError, match=r"the implementation nowhere:\w+ does not exist: .*'nowhere' is not installed"
    ):
        ascend_overlay.enable()
    assert "lib" not in sys.modules and "ours" not in sys.modules


def test_a_name_inside_others(overlay: Overlay) -> None:
    overlay.replace("lib:run", "ours:Outer.Inner.run")
    ascend_overlay.enable()
    assert importlib.import_module("lib").run() == "ours"


def test_what_needs_a_module_that_waits_for_the_target_is_told_to_stand_alone(overlay: Overlay, site: Any) -> None:
    site.write({"using.py": "import lib\nNAME = 1\n", "glue.py": "from using import NAME\ndef run(): return NAME\n"})
    overlay.replace("lib:run", "glue:run")
    ascend_overlay.enable()
    with pytest.raises(
        TargetError, match=r"partially initialized module.*It is imported right after its target, inside"
    ):
        importlib.import_module("using")
