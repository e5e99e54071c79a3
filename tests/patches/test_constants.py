"""Who imported a constant by name has the patched one while it is there, and the stock one before and after."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay, ref

LIB = """
    LIMIT, SMALL, NONE, FLAG, NAME, EMPTY, TABLE = 4096, 3, None, True, "a name", (), {}
    PAIR, RATE, FUNCTION = (1, 2), 0.25, len
"""
IMPORTED = {
    "by name": ("from lib import {0}\n", "{0}"),
    "inside a package": ("from .lib import {0}\n", "{0}"),
    "from who imports it": ("from through import {0}\n", "{0}"),
    "by a star": ("from lib import *\n", "{0}"),
    "after another value": ("{0} = 5\nfrom lib import {0}\n", "{0}"),
}
RENAMED = {
    "under another name": ("from lib import {0} as other\n", "other"),
    "renamed by who imports it": ("from through import again as other\n", "other"),
}
OWN = {
    "a value of its own": "VALUE = {0!r}\n{1} = VALUE\n",
    "in a branch": "try:\n    from lib import {1}\nexcept ImportError:\n    {1} = {0!r}\n",
    "imported, then set": "from lib import {1}\n{1} = {1}\n",
}
VALUES = {
    "LIMIT": 8192,
    "SMALL": 4,
    "NONE": "something new",
    "FLAG": False,
    "NAME": "another name",
    "EMPTY": (1,),
    "PAIR": (3, 4),
    "RATE": 0.125,
    "TABLE": {"key": 1},
}
TELLING = {name: value for name, value in VALUES.items() if name not in ("SMALL", "NONE", "FLAG", "EMPTY")}
PERHAPS = "(a constant of the same name, perhaps a copy)"


@pytest.fixture
def overlay(offer: Any, site: Any) -> Overlay:
    site.write({"lib.py": LIB, "through.py": "from lib import *\nfrom lib import LIMIT, LIMIT as again\n"})
    overlay = Overlay("one", reason="a test")
    offer(overlay)
    return overlay


def _user(site: Any, text: str, name: str) -> None:
    (site.folder / "user.py").write_text(text.replace(".lib", "lib").format(name))
    importlib.invalidate_caches()


def _entry() -> Any:
    return ascend_overlay.ledger().of("one")[-1]


def _holds(user: ModuleType, alias: str, name: str) -> bool:
    return vars(user)[alias] is vars(sys.modules["lib"])[name]


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize(("text", "alias"), IMPORTED.values(), ids=IMPORTED)
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_who_imports_it_has_what_is_there(
    overlay: Overlay, site: Any, text: str, alias: str, name: str, when: str
) -> None:
    _user(site, text, name)
    overlay.attribute(f"lib:{name}", VALUES[name], as_is=True)
    importlib.import_module("user" if when == "before" else "lib")
    stock = vars(sys.modules["lib"])[name]
    ascend_overlay.enable()
    user = importlib.import_module("user")
    assert vars(sys.modules["lib"])[name] is VALUES[name] and _holds(user, alias.format(name), name)
    assert f"user.{name}" in _entry().copies or when == "meanwhile"
    assert _entry().stale == []
    ascend_overlay.disable()
    assert vars(sys.modules["lib"])[name] is stock and _holds(user, alias.format(name), name)
    assert _entry().stale == []


@pytest.mark.parametrize("name", TELLING)
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_an_alias_of_what_few_hold(overlay: Overlay, site: Any, name: str, when: str) -> None:
    _user(site, RENAMED["under another name"][0], name)
    overlay.attribute(f"lib:{name}", VALUES[name])
    importlib.import_module("user" if when == "before" else "lib")
    ascend_overlay.enable()
    user = importlib.import_module("user")
    assert _holds(user, "other", name)
    ascend_overlay.disable()
    assert _holds(user, "other", name)


@pytest.mark.parametrize("name", [name for name in VALUES if name not in TELLING])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_an_alias_in_the_package_of_what_everybody_holds(overlay: Overlay, site: Any, name: str, when: str) -> None:
    text = f"from pack.lib import {name} as other\nfrom .lib import {name}   as again\nown = None  # {name} as own\n"
    site.write({"pack/lib.py": LIB, "pack/user.py": text})
    overlay.attribute(f"pack.lib:{name}", VALUES[name], as_is=True)
    lib = importlib.import_module("pack.lib")
    if when == "before":
        importlib.import_module("pack.user")
    stock = vars(lib)[name]
    ascend_overlay.enable()
    user = importlib.import_module("pack.user")
    assert user.other is user.again is VALUES[name] and user.own is None
    assert sorted(_entry().copies) == (["pack.user.again", "pack.user.other"] if when == "before" else [])
    ascend_overlay.disable()
    assert [user.other, user.again] == ([stock, stock] if when == "before" else [user.other, user.again])


def test_an_alias_of_an_alias(overlay: Overlay, site: Any) -> None:
    _user(site, RENAMED["renamed by who imports it"][0], "LIMIT")
    overlay.attribute("lib:LIMIT", 8192)
    user = importlib.import_module("user")
    with ascend_overlay.enabled():
        assert user.other == 8192
    assert user.other == 4096


@pytest.mark.parametrize("text", OWN.values(), ids=OWN)
def test_who_may_not_have_imported_it_is_named_and_left_alone(overlay: Overlay, site: Any, text: str) -> None:
    (site.folder / "user.py").write_text(text.format(3, "SMALL"))
    (site.folder / "later.py").write_text(text.format(4, "SMALL"))
    overlay.attribute("lib:SMALL", 4)
    user = importlib.import_module("user")
    importlib.import_module("lib")
    ascend_overlay.enable()
    later = importlib.import_module("later")
    assert user.SMALL == 3 and _entry().stale == [f"user.SMALL {PERHAPS}"]
    ascend_overlay.disable()
    assert later.SMALL == 4 and _entry().stale == [f"later.SMALL {PERHAPS}"]
    assert user.SMALL == sys.modules["lib"].SMALL == 3


def test_who_set_it_anew_keeps_that(overlay: Overlay, site: Any) -> None:
    _user(site, "from lib import LIMIT\n", "LIMIT")
    overlay.attribute("lib:LIMIT", 8192)
    user = importlib.import_module("user")
    user.LIMIT = 7  # type: ignore[attr-defined]
    ascend_overlay.enable()
    assert user.LIMIT == 7
    ascend_overlay.disable()
    assert user.LIMIT == 7 and _entry().stale == []


def test_the_implementation_keeps_what_it_imported(overlay: Overlay, site: Any) -> None:
    site.write({"ours.py": "from lib import LIMIT as STOCK\nLIMIT = STOCK * 2\n"})
    overlay.attribute("lib:LIMIT", ref("ours:LIMIT"))
    ours = importlib.import_module("ours")
    for _ in range(2):
        with ascend_overlay.enabled():
            assert (sys.modules["lib"].LIMIT, ours.STOCK, ours.LIMIT) == (8192, 4096, 8192)
        assert (sys.modules["lib"].LIMIT, ours.STOCK, ours.LIMIT) == (4096, 4096, 8192)


def test_who_imports_what_was_added_is_named(overlay: Overlay, site: Any) -> None:
    _user(site, "from lib import MORE as more, MORE\nfrom lib import LIMIT\n", "MORE")
    (site.folder / "other.py").write_text("MORE = 54321\n")
    overlay.add("lib:MORE", 54321)
    ascend_overlay.enable()
    importlib.import_module("user")
    ascend_overlay.disable()
    assert sorted(_entry().stale) == [f"user.{name} (imported what was added)" for name in ("MORE", "more")]
    assert sys.modules["user"].MORE == 54321 and not hasattr(sys.modules["lib"], "MORE")


@pytest.mark.parametrize(("target", "value"), [("lib:NONE", print), ("lib:FUNCTION", None)])
def test_between_a_constant_and_a_function(overlay: Overlay, site: Any, target: str, value: Any) -> None:
    name = target.partition(":")[2]
    _user(site, "from lib import {0}\n", name)
    overlay.attribute(target, value, as_is=True)
    user = importlib.import_module("user")
    stock = vars(user)[name]
    for _ in range(2):
        with ascend_overlay.enabled():
            assert vars(user)[name] is value
        assert vars(user)[name] is stock


def test_what_has_no_source_is_named(overlay: Overlay) -> None:
    made = sys.modules["made"] = ModuleType("made")
    lib: Any = importlib.import_module("lib")
    vars(made)["LIMIT"] = lib.LIMIT
    overlay.attribute("lib:LIMIT", 8192)
    ascend_overlay.enable()
    assert _entry().stale == [f"made.LIMIT {PERHAPS}"] and vars(made)["LIMIT"] == 4096


def test_what_imports_in_a_circle_ends(overlay: Overlay, site: Any) -> None:
    site.write({"one.py": "from two import LIMIT\n", "two.py": "from one import LIMIT\n"})
    for name in ("one", "two"):
        sys.modules[name] = ModuleType(name)
    lib: Any = importlib.import_module("lib")
    vars(sys.modules["one"])["LIMIT"] = lib.LIMIT
    overlay.attribute("lib:LIMIT", 8192)
    ascend_overlay.enable()
    assert _entry().stale == [f"one.LIMIT {PERHAPS}"]
