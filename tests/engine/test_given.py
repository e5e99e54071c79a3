"""Overlays that a program hands over as objects: enable(overlay), enabled(overlay)."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay, api
from ascend_overlay.errors import ConfigError, PluginError


@pytest.fixture(autouse=True)
def _packages(site: Any) -> None:
    site.write({"lib.py": "def run(): return 'stock'\ndef other(): return 'stock'\n"})


def around(name: str, mark: str = "<>", target: str = "lib:run") -> Overlay:
    overlay = Overlay(name, reason="a test")
    overlay.wrap(target)(lambda wrapped, instance, args, kwargs: f"{mark[0]}{wrapped()}{mark[1]}")
    return overlay


def run() -> str:
    text: str = importlib.import_module("lib").run()
    return text


def test_it_is_in_force_until_it_is_disabled() -> None:
    overlay = around("one")
    ascend_overlay.enable(overlay)
    assert run() == "<stock>"
    (entry,) = ascend_overlay.ledger().of("one")
    assert (entry.state, entry.plugin) == ("applied", "the program itself")
    ascend_overlay.enable(overlay)
    assert run() == "<stock>" and len(ascend_overlay.ledger().of("one")) == 1
    ascend_overlay.disable()
    assert run() == "stock"


def test_beside_overlays_by_name(offer: Any) -> None:
    offer(around("two", "[]"), around("three", "()"))
    with ascend_overlay.enabled(around("one"), "two"):
        assert run() == "[<stock>]"
    assert run() == "stock"


def test_in_a_block_and_again_in_another() -> None:
    for mark in ("<>", "[]"):
        with ascend_overlay.enabled(around("one", mark)):
            assert run() == f"{mark[0]}stock{mark[1]}"
        assert run() == "stock"


def disabled() -> None:
    ascend_overlay.enable(around("one"))
    ascend_overlay.disable(only=["one"])


def failed_for_its_target() -> None:
    importlib.import_module("lib")
    with pytest.raises(ascend_overlay.errors.OverlayError, match="missing"):
        ascend_overlay.enable(around("one", target="lib:missing"))


def failed_for_another_name() -> None:
    with pytest.raises(ConfigError, match="there is no overlay 'nobody'"):
        ascend_overlay.enable(around("one"), "nobody")


def excluded() -> None:
    ascend_overlay.enable(around("one"), exclude=["one"])


def left_a_block() -> None:
    with ascend_overlay.enabled(around("one")):
        pass


OVER = [disabled, failed_for_its_target, failed_for_another_name, excluded, left_a_block]


@pytest.mark.parametrize("over", OVER, ids=lambda over: over.__name__)
def test_what_is_over_is_forgotten(offer: Any, over: Callable[[], None]) -> None:
    offer(around("two", "[]"))
    over()
    ascend_overlay.enable()
    assert run() == "[stock]" and "one" not in api.overlays()
    with pytest.raises(ConfigError, match="there is no overlay 'one'"):
        ascend_overlay.enable(only=["one"])


@pytest.mark.parametrize("over", OVER, ids=lambda over: over.__name__)
def test_another_of_its_name_may_come_then(over: Callable[[], None]) -> None:
    over()
    ascend_overlay.enable(around("one", "[]"))
    assert run() == "[stock]"


def test_another_of_the_name_of_one_that_is_enabled_is_refused(offer: Any) -> None:
    offer(around("two", "[]"))
    ascend_overlay.enable(around("one"))
    with pytest.raises(PluginError, match=r"overlay 'one', and another of that name is enabled; disable\(\) it first"):
        ascend_overlay.enable(around("one", "()"))
    with pytest.raises(PluginError, match=r"'two', and another of that name comes from plugin 'plugin1'; rename one"):
        ascend_overlay.enable("two")
        ascend_overlay.enable(around("two", "()"))
    assert run() == "[<stock>]"


def test_one_without_a_patch_is_refused() -> None:
    with pytest.raises(PluginError, match="the program itself contributes the overlay 'one', which has no patch"):
        ascend_overlay.enable(Overlay("one", reason="a test"))


@pytest.mark.parametrize(("names", "told"), [((), None), (("two",), "two"), (("two", "three"), "two,three")])
def test_children_are_told_of_the_others(offer: Any, names: tuple[str, ...], told: str | None) -> None:
    offer(around("two"), around("three"))
    ascend_overlay.enable(around("one"), *names)
    assert os.environ.get("ASCEND_OVERLAY") == (None if told is None else told)
    noted = [overlay for overlay, text in ascend_overlay.ledger().notes if "handed to enable() as an object" in text]
    assert noted == ["one"]


def test_two_of_one_name_and_an_empty_choice_are_refused() -> None:
    one, two = around("one"), around("one", "[]")
    with pytest.raises(PluginError, match="two overlays named 'one'; rename one"):
        ascend_overlay.enable(one, two)
    with pytest.raises(ConfigError, match="only= names no overlay"):
        ascend_overlay.enable(only=[])
    assert list(ascend_overlay.ledger()) == []
    ascend_overlay.enable(one, one, only=())
    assert run() == "<stock>"
