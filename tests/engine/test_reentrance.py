"""Applying a patch may run code that leads to the engine again."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay

READS = "ascend_overlay.ledger()"
IMPORTS = "__import__('later')"
ENABLES = "ascend_overlay.enable(only=['one', 'two'])"


@pytest.mark.parametrize("leads", [READS, IMPORTS, ENABLES], ids=["ledger", "import", "enable"])
def test_a_patch_that_leads_to_the_engine_is_applied_once(site: Any, offer: Any, leads: str) -> None:
    site.write(
        {
            "lib.py": f"""
                import ascend_overlay
                class Registry(dict):
                    def __setitem__(self, key, value):
                        super().__setitem__(key, value)
                        entered.append(key)
                        if len(entered) == 1: {leads}
                entered = []
                TABLE = Registry()
                dict.__setitem__(TABLE, "a", 1)
                class Thing:
                    def method(self): return ["stock"]
            """,
            "later.py": """
                def run(): return ["stock"]
            """,
            "ours.py": """
                def wrapper(wrapped, instance, args, kwargs): return ["ours", *wrapped(*args, **kwargs)]
            """,
        }
    )
    overlay, other = Overlay("one", reason="a test"), Overlay("two", reason="a test")
    overlay.item("lib:TABLE", "a", 2)
    overlay.wrap("lib:Thing.method", "ours:wrapper")
    other.wrap("later:run", "ours:wrapper")
    offer(overlay, other)
    lib = importlib.import_module("lib")
    ascend_overlay.enable(only=["one", "two"])
    assert lib.TABLE == {"a": 2}
    # A nested enable() begins anew what it finds unfinished.
    assert leads == ENABLES or lib.entered == ["a"]
    assert lib.Thing().method() == ["ours", "stock"]
    assert importlib.import_module("later").run() == ["ours", "stock"]
    assert {entry.state for entry in ascend_overlay.ledger()} == {"applied"}
    ascend_overlay.disable()
    assert lib.Thing().method() == ["stock"]
    assert lib.TABLE == {"a": 1}
