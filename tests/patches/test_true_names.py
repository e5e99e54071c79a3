"""A target that is another name of something: the ledger says of what, and who else meets the patch."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay, ref
from ascend_overlay.ledgers import Entry
from ascend_overlay.ledgers.table import as_table, as_text

HOME = """
    import dataclasses, enum
    from typing import Literal
    SIZES = Literal["small"]
    NAMES, SET, TABLE, NUMBER = ["a"], {"a"}, {"a": 1}, 7777
    class Base:
        def run(self): return "stock"
        again = run
    class Other:
        run = Base.run
    def run(): return "stock"
    also = run
    @dataclasses.dataclass
    class Row:
        size: int = 1
    class Colour(enum.Enum):
        RED = 1
    class Holder:
        value = 1
    HOLDER = Holder()
"""
ALIASES = """
    from home import *
    from home import Base as Renamed, Row as Line, Colour as Tint, Holder as Keeper, HOLDER as KEPT
    from home import run as go, SIZES as WIDTHS, NAMES as WORDS, SET as BAG, TABLE as INDEX, NUMBER as COUNT
    class Derived(Renamed): pass
    def own(): return "own"
"""
USER = "from home import Base as Third, run as ran, TABLE as USED\n"
OURS = """
    from home import Base
    class Mine(Base): pass
    class Value: pass
"""


def call(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return wrapped(*args, **kwargs)


EDIT = {"find": "return 'stock'", "put": "return 'ours'"}
Declare = Callable[[Overlay], Any]
SHARED: dict[str, tuple[Declare, str, list[str]]] = {
    "wrap": (lambda o: o.wrap("aliases:go")(call), "home:run", ["user.ran"]),
    "wrap, of a star import": (lambda o: o.wrap("aliases:also")(call), "home:run", ["user.ran"]),
    "wrap, in one module": (
        lambda o: o.wrap("home:also")(call),
        "home:run",
        ["aliases.go", "aliases.also", "aliases.run", "user.ran"],
    ),
    "wrap, of a method": (lambda o: o.wrap("aliases:Renamed.run")(call), "home:Base.run", ["user.Third"]),
    "wrap, of a method lent": (lambda o: o.wrap("home:Other.run")(call), "home:Base.run", []),
    "replace": (lambda o: o.replace("aliases:go")(lambda: "ours"), "home:run", ["user.ran"]),
    "replace, of a method": (
        lambda o: o.replace("aliases:Renamed.run")(lambda self: "ours"),
        "home:Base.run",
        ["user.Third"],
    ),
    "edit": (lambda o: o.edit("aliases:go", **EDIT), "home:run", ["user.ran"]),
    "edit, of a method": (lambda o: o.edit("aliases:Renamed.run", **EDIT), "home:Base.run", ["user.Third"]),
    "subclass": (lambda o: o.subclass("aliases:Renamed", "ours:Mine"), "home:Base", ["user.Third"]),
    "factory": (lambda o: o.factory("aliases:Renamed")(lambda: None), "home:Base", ["user.Third"]),
    "attribute, of a class": (lambda o: o.attribute("aliases:Keeper.value", 2), "home:Holder.value", []),
    "attribute, of an object": (lambda o: o.attribute("aliases:KEPT.value", 2), "home:HOLDER.value", []),
    "add": (lambda o: o.add("aliases:Renamed.new", 2), "home:Base.new", ["user.Third"]),
    "item": (lambda o: o.item("aliases:INDEX", "b", 2), "home:TABLE", ["user.USED"]),
    "entry, of a list": (lambda o: o.entry("aliases:WORDS", "b"), "home:NAMES", []),
    "entry, of a set": (lambda o: o.entry("aliases:BAG", "b"), "home:SET", []),
    "entry, of a Literal": (lambda o: o.entry("aliases:WIDTHS", "large"), "home:SIZES", []),
    "remove, of a key": (lambda o: o.remove("aliases:INDEX", key="a"), "home:TABLE", ["user.USED"]),
    "remove, of a member": (lambda o: o.remove("aliases:Renamed.again"), "home:Base.again", ["user.Third"]),
    "field": (lambda o: o.field("aliases:Line.size", default=2), "home:Row.size", []),
    "member": (lambda o: o.member("aliases:Tint.BLUE", 2), "home:Colour.BLUE", []),
}


def applied(declare: Declare, site: Any, offer: Any) -> Entry:
    site.write({"home.py": HOME, "aliases.py": ALIASES, "user.py": USER, "ours.py": OURS})
    for name in ("home", "aliases", "user"):
        importlib.import_module(name)
    overlay = Overlay("o", reason="a test")
    declare(overlay)
    offer(overlay)
    ascend_overlay.enable(only=["o"])
    (entry,) = ascend_overlay.ledger().of("o")
    assert entry.state == "applied"
    return entry


@pytest.mark.parametrize(("declare", "home", "users"), SHARED.values(), ids=SHARED)
def test_whoever_uses_the_thing_itself_is_named(
    declare: Any, home: str, users: list[str], site: Any, offer: Any
) -> None:
    entry = applied(declare, site, offer)
    assert entry.home == home and set(users) <= set(entry.shared_with)
    assert not any(name.startswith(("aliases.", "home.", "ours.")) for name in set(entry.shared_with) - set(users))
    assert f"another name of {home}: whoever uses that meets the patch, too" in entry.what_else()
    shown = as_text(as_table("a process", [entry], width=400), width=400)
    assert all(text in shown for text in (f"another name of {home}", *entry.shared_with[:3]))

    ascend_overlay.disable()
    assert all(not entry.home and not entry.what_else() for entry in ascend_overlay.ledger().of("o"))


APART: dict[str, tuple[Declare, str]] = {
    "attribute": (lambda o: o.attribute("aliases:COUNT", 2), "home:NUMBER"),
    "attribute, of a function": (lambda o: o.attribute("aliases:go", lambda: "ours"), "home:run"),
    "attribute, of an object": (lambda o: o.attribute("aliases:KEPT", ref("ours:Value"), as_is=True), "home:HOLDER"),
    "remove": (lambda o: o.remove("aliases:COUNT"), "home:NUMBER"),
}


@pytest.mark.parametrize(("declare", "home"), APART.values(), ids=APART)
def test_what_goes_by_name_leaves_the_thing_itself(declare: Any, home: str, site: Any, offer: Any) -> None:
    entry = applied(declare, site, offer)
    assert entry.home == "" and not entry.shared_with
    assert f"{home}, of which the target is another name, stays as it is" in entry.notes


OWN: dict[str, Declare] = {
    "a function": lambda o: o.wrap("aliases:own")(call),
    "a method": lambda o: o.wrap("home:Base.run")(call),
    "another name in a class body, which is apart": lambda o: o.wrap("home:Base.again")(call),
    "an inherited method, which is changed for the class alone": lambda o: o.wrap("aliases:Derived.run")(call),
    "a constant": lambda o: o.attribute("home:NUMBER", 2),
    "a new name": lambda o: o.add("aliases:new", 2),
    "a call": lambda o: o.call("aliases:go", do=lambda: None, irreversible=True),
}


@pytest.mark.parametrize("declare", OWN.values(), ids=OWN)
def test_what_is_defined_there_has_no_other_name(declare: Any, site: Any, offer: Any) -> None:
    entry = applied(declare, site, offer)
    assert entry.home == "" and not any("another name" in note for note in entry.notes)


def test_who_comes_later_is_named_and_a_subclass_in_place_is_no_home(site: Any, offer: Any) -> None:
    site.write({"home.py": HOME, "aliases.py": ALIASES, "user.py": USER, "ours.py": OURS})
    importlib.import_module("aliases")
    overlay = Overlay("o", reason="a test")
    overlay.subclass("home:Base", "ours:Mine")
    overlay.wrap("aliases:Renamed.run")(call)
    offer(overlay)
    ascend_overlay.enable(only=["o"])
    subclass, wrap = ascend_overlay.ledger().of("o")
    assert (subclass.home, wrap.home, wrap.shared_with) == ("", "home:Base.run", [])

    importlib.import_module("user")
    assert ascend_overlay.ledger().of("o")[1].shared_with == ["user.Third"]


LISTED: dict[str, tuple[Declare, str]] = {
    "wrap": (lambda o: o.wrap("aliases:Renamed.run")(call), "home:Base.run"),
    "item": (lambda o: o.item("aliases:INDEX", "b", 2), "home:TABLE"),
    "attribute": (lambda o: o.attribute("aliases:COUNT", 2), ""),
    "its own": (lambda o: o.wrap("aliases:own")(call), ""),
    "a call": (lambda o: o.call("aliases:go", do=lambda: None, irreversible=True), ""),
}


@pytest.mark.parametrize(("declare", "home"), LISTED.values(), ids=LISTED)
def test_source_tells_before_anything_is_imported(declare: Any, home: str, site: Any) -> None:
    site.write({"home.py": HOME, "aliases.py": ALIASES})
    overlay = Overlay("o", reason="a test")
    declare(overlay)
    assert [patch.true_name_by_source() for patch in overlay.patches] == [home]


@pytest.mark.vllm
def test_of_vllm(offer: Any) -> None:
    overlay = Overlay("o", reason="a test")
    overlay.wrap("vllm.model_executor.models.qwen3:Qwen3MLP.forward")(call)
    assert overlay.patches[0].true_name_by_source() == "vllm.model_executor.models.qwen2:Qwen2MLP.forward"
    offer(overlay)
    import vllm.model_executor.models.qwen3  # noqa: F401

    ascend_overlay.enable(only=["o"])
    assert ascend_overlay.ledger().of("o")[0].home == "vllm.model_executor.models.qwen2:Qwen2MLP.forward"
