"""Several overlays on one target: order of wrappers, and who may decide."""

from __future__ import annotations

import importlib
import itertools
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import ConfigError, ConflictError


@pytest.fixture(autouse=True)
def _package(site: Any) -> None:
    site.write(
        {"lib.py": "def run(): return 'stock'\nclass Thing:\n    def run(self): return 'stock'\n", "other.py": ""}
    )


def run() -> str:
    return str(importlib.import_module("lib").run())


def wrapper(name: str, **order: Any) -> Overlay:
    overlay = Overlay(name, reason="a test", **order)
    overlay.wrap("lib:run")(lambda wrapped, instance, args, kwargs: f"{name}({wrapped()})")
    return overlay


def replacement(name: str, target: str = "lib:run", **order: Any) -> Overlay:
    overlay = Overlay(name, reason="a test", **order)
    overlay.replace(target)(lambda *self: name)
    return overlay


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
def test_declared_order_holds_however_they_are_contributed(offer: Any, order: tuple[str, ...], early: bool) -> None:
    overlays = {
        "a": wrapper("a", before=["b"]),
        "b": wrapper("b"),
        "c": wrapper("c", after=["b"]),
    }
    if early:
        importlib.import_module("lib")
    offer(*(overlays[name] for name in order))
    ascend_overlay.enable()
    assert run() == "c(b(a(stock)))"


def test_without_a_declaration_the_later_contributed_goes_around(offer: Any) -> None:
    offer(wrapper("b"), wrapper("a"))
    ascend_overlay.enable()
    assert run() == "a(b(stock))"


def test_a_declaration_moves_none_that_it_does_not_name(offer: Any) -> None:
    offer(wrapper("a"), wrapper("b", after=["a"]), wrapper("c"))
    ascend_overlay.enable()
    assert run() == "c(b(a(stock)))"


def test_the_ledger_shows_the_order(offer: Any) -> None:
    offer(wrapper("a"), wrapper("b", before=["a"]), wrapper("c", after=["a"]))
    ascend_overlay.enable()
    run()
    notes = {entry.overlay: [note.partition(" (")[0] for note in entry.notes] for entry in ascend_overlay.ledger()}
    assert notes["b"] == ["inside overlay 'a'"]
    assert notes["a"] == ["around overlay 'b'", "inside overlay 'c'"]
    assert notes["c"] == ["around overlay 'a'"]


def test_names_in_the_order_may_be_absent(offer: Any) -> None:
    offer(wrapper("a", after=["not_installed"], before=["nor_this"]))
    ascend_overlay.enable()
    assert run() == "a(stock)"


def test_circular_order_is_refused(offer: Any) -> None:
    offer(wrapper("a", after=["b"]), wrapper("b", after=["a"]))
    with pytest.raises(ConfigError, match="circle"):
        ascend_overlay.enable()


def test_order_given_as_one_string_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"after=\['other'\]"):
        Overlay("a", reason="a test", after="other")


@pytest.mark.parametrize("first", ["wrap", "replace"])
@pytest.mark.parametrize("early", [True, False])
def test_wrappers_go_around_a_replacement(offer: Any, first: str, early: bool) -> None:
    if early:
        importlib.import_module("lib")
    overlays = [wrapper("a"), replacement("b")]
    offer(*(overlays if first == "wrap" else reversed(overlays)))
    ascend_overlay.enable()
    assert run() == "a(b)"


def test_wrapper_of_an_inherited_method_outlives_a_replacement(offer: Any, site: Any) -> None:
    site.write({"tree.py": "class Base:\n    def run(self): return 'stock'\nclass Thing(Base): pass\n"})
    tree = importlib.import_module("tree")
    wrapping = Overlay("wrapping", reason="a test")
    wrapping.wrap("tree:Thing.run")(lambda wrapped, instance, args, kwargs: f"<{wrapped()}>")
    offer(replacement("replacing", "tree:Thing.run"), wrapping)
    ascend_overlay.enable()
    assert tree.Thing().run() == "<replacing>"
    ascend_overlay.disable(only=["replacing"])
    assert tree.Thing().run() == "<stock>"
    ascend_overlay.disable()
    assert "run" not in vars(tree.Thing)


def subclassing(name: str) -> Overlay:
    overlay = Overlay(name, reason="a test")
    overlay.subclass("lib:Thing", "ours:Ours")
    return overlay


def replacing_thing(name: str) -> Overlay:
    overlay = Overlay(name, reason="a test")
    overlay.attribute("lib:Thing", "whatever")
    return overlay


@pytest.mark.parametrize(
    ("one", "two", "target"),
    [
        (replacement("one"), replacement("two"), "lib:run"),
        (subclassing("one"), subclassing("two"), "lib:Thing"),
        (subclassing("one"), replacing_thing("two"), "lib:Thing"),
        (replacement("one", "lib:Thing.run"), replacement("two", "lib:Thing.run"), "lib:Thing.run"),
    ],
    ids=["replace/replace", "subclass/subclass", "attribute/subclass", "replace/replace of a method"],
)
def test_two_that_decide_are_a_conflict(site: Any, engine: Any, one: Overlay, two: Overlay, target: str) -> None:
    site.write(
        {
            "ours.py": "from lib import Thing\nclass Ours(Thing): pass\n",
            "first_plugin.py": PLUGIN,
            "second_plugin.py": PLUGIN,
        }
    )
    site.distribution("first-dist", "1.0", {"first": "first_plugin"})
    site.distribution("second-dist", "2.0", {"second": "second_plugin"})
    importlib.import_module("first_plugin").overlays.append(one)
    importlib.import_module("second_plugin").overlays.append(two)
    with pytest.raises(ConflictError) as raised:
        ascend_overlay.enable()
    for text in (
        target,
        "one",
        "two",
        "first-dist 1.0",
        "second-dist 2.0",
        "prefer=",
        "ASCEND_OVERLAY_PREFER",
        "exclude",
    ):
        assert text in str(raised.value), text
    assert {entry.state for entry in ascend_overlay.ledger()} <= {"reverted", "skipped"}
    assert run() == "stock"


PLUGIN = """
from ascend_overlay.hooks import hookimpl
overlays = []
@hookimpl
def ascend_overlay_overlays(): return overlays
"""


def test_conflict_through_two_names_of_one_function_names_both(offer: Any, site: Any) -> None:
    site.write({"api.py": "from lib import run\n"})
    importlib.import_module("api")
    offer(replacement("one", "lib:run"), name="alpha")
    offer(replacement("two", "api:run"), name="beta")
    with pytest.raises(ConflictError) as raised:
        ascend_overlay.enable()
    for text in ("one", "two", "alpha", "beta", "lib:run", "api:run"):
        assert text in str(raised.value), text
    assert run() == "stock"


def test_prefer_decides_and_the_loser_is_skipped_with_the_reason(offer: Any) -> None:
    offer(replacement("one"), replacement("two"))
    ascend_overlay.enable(prefer={"lib:run": "two"})
    assert run() == "two"
    (entry,) = ascend_overlay.ledger().of("one")
    assert entry.state == "skipped" and "two" in entry.reason and "lib:run" in entry.reason


def test_prefer_from_the_environment(offer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASCEND_OVERLAY_PREFER", "lib:run=one")
    offer(replacement("one"), replacement("two"))
    ascend_overlay.enable()
    assert run() == "one"


def test_prefer_takes_an_overlay_that_was_enabled_earlier_out(offer: Any) -> None:
    offer(replacement("one"), replacement("two"))
    ascend_overlay.enable(only=["one"])
    assert run() == "one"
    ascend_overlay.enable(only=["two"], prefer={"lib:run": "two"})
    assert run() == "two"
    assert [entry.state for entry in ascend_overlay.ledger().of("one")] == ["skipped"]


def test_prefer_of_a_target_that_the_overlay_does_not_decide_is_refused(offer: Any) -> None:
    offer(replacement("one"), replacement("two"))
    with pytest.raises(ConfigError, match=r"'lib:rnu'.*Did you mean 'lib:run'"):
        ascend_overlay.enable(prefer={"lib:rnu": "one"})


@pytest.mark.parametrize("winner", ["one", "two"])
def test_hook_resolves_a_conflict(offer: Any, winner: str) -> None:
    asked: list[tuple[str, list[str]]] = []

    def resolve_conflict(target: str, overlays: Any) -> str:
        asked.append((target, [overlay.name for overlay in overlays]))
        return winner

    offer(replacement("one"), replacement("two"), resolve_conflict=resolve_conflict)
    ascend_overlay.enable()
    assert run() == winner
    assert asked == [("lib:run", ["one", "two"])]


def test_hook_that_names_none_of_them_is_no_answer(offer: Any) -> None:
    offer(replacement("one"), replacement("two"), resolve_conflict=lambda target, overlays: "three")
    with pytest.raises(ConflictError):
        ascend_overlay.enable()


def test_without_strictness_the_first_keeps_the_target(offer: Any) -> None:
    offer(replacement("one"), replacement("two"), replacement("three", "lib:Thing.run"))
    with pytest.warns(RuntimeWarning, match="2 overlays decide lib:run"):
        ascend_overlay.enable(strict=False)
    assert run() == "one"
    assert importlib.import_module("lib").Thing().run() == "three"
    assert [entry.state for entry in ascend_overlay.ledger().of("two")] == ["failed"]


def test_without_strictness_a_preference_still_counts(offer: Any) -> None:
    offer(
        replacement("one", "lib:Thing.run"),
        replacement("two", "lib:Thing.run"),
        replacement("three"),
        replacement("four"),
    )
    with pytest.warns(RuntimeWarning, match="2 overlays decide lib:run"):
        ascend_overlay.enable(strict=False, prefer={"lib:Thing.run": "two"})
    assert importlib.import_module("lib").Thing().run() == "two"
    assert run() == "three"


def test_an_overlay_that_failed_claims_nothing(offer: Any) -> None:
    failing = replacement("one")
    failing.wrap("lib:missing")(lambda wrapped, instance, args, kwargs: None)
    importlib.import_module("lib")
    offer(failing, replacement("two"))
    with pytest.warns(RuntimeWarning, match="missing"):
        ascend_overlay.enable(only=["one"], strict=False)
    ascend_overlay.enable(only=["two"], strict=False)
    assert run() == "two"


def test_one_overlay_that_decides_twice_is_told_so(offer: Any) -> None:
    overlay = replacement("one")
    overlay.replace("lib:run")(lambda: "again")
    offer(overlay)
    sentence = r"'one' \(plugin 'plugin1'\) decides lib:run more than once.*: replaced by .* and .*Take one"
    with pytest.raises(ConflictError, match=sentence):
        ascend_overlay.enable()


def test_patches_of_different_releases_do_not_conflict(offer: Any, site: Any) -> None:
    site.vllm("0.32.0+cpu", {"vllm/old.py": "def run(): return 'stock'\n"})
    overlay = Overlay("one", reason="a test", vllm=">=0.27.1")
    overlay.replace("vllm.old:run", vllm="<0.33")(lambda: "old")
    overlay.replace("vllm.new:run", vllm=">=0.33")(lambda: "new")
    overlay.replace("vllm.old:run", vllm=">=0.40")(lambda: "newer")
    offer(overlay)
    ascend_overlay.enable()
    assert importlib.import_module("vllm.old").run() == "old"
    assert [entry.state for entry in ascend_overlay.ledger()] == ["applied", "skipped", "skipped"]
