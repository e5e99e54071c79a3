"""Things that raise when they are asked what they are, or what they say: the sentence is there all the same."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.conditions import predicate
from ascend_overlay.errors import ConfigError, OverlayError, PluginError, TargetError, represented, told


class Mute:
    """Cannot be shown."""

    def __repr__(self) -> str:
        raise ZeroDivisionError("no")


class MuteError(Exception):
    """Cannot be told."""

    def __str__(self) -> str:
        raise ZeroDivisionError("no")


def fails(*arguments: Any) -> Any:
    raise MuteError


@pytest.fixture(autouse=True)
def _own_engine(engine: object, site: Any) -> None:
    site.write({"lib.py": "import enum\nvalue = 1\nclass E(enum.Enum):\n    A = 1\ndef run(): return 'stock'\n"})


def test_the_one_place() -> None:
    assert represented(Mute()) == "<Mute, whose __repr__ raises ZeroDivisionError>"
    assert told(MuteError()) == "MuteError: its __str__ raises ZeroDivisionError"
    assert (represented([1]), told(ValueError("x"))) == ("[1]", "ValueError: x")
    assert represented([Mute()]).startswith("<list, whose __repr__ raises")


MUTE = "whose __repr__ raises ZeroDivisionError"
GIVEN: dict[str, Callable[[], object]] = {
    "an overlay": lambda: ascend_overlay.enable(Mute()),  # type: ignore[arg-type]
    "only": lambda: ascend_overlay.enable(only=Mute()),  # type: ignore[arg-type]
    "only, in a list": lambda: ascend_overlay.enable(only=[Mute()]),  # type: ignore[list-item]
    "prefer": lambda: ascend_overlay.enable(prefer=Mute()),  # type: ignore[arg-type]
    "ledger": lambda: ascend_overlay.enable(ledger=Mute()),  # type: ignore[arg-type]
    "a target": lambda: Overlay("one", reason="r").wrap(Mute(), "a:b"),  # type: ignore[call-overload]
    "a module": lambda: Overlay("one", reason="r").call(Mute(), do=fails, undo=fails),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("what", GIVEN)
def test_what_is_given(what: str) -> None:
    with pytest.raises((ConfigError, TargetError), match=MUTE):
        GIVEN[what]()


def test_a_contribution(offer: Any) -> None:
    offer(overlays=lambda: [Mute()])
    with pytest.raises(PluginError, match=f"contributes <Mute, {MUTE}>, which is not an Overlay"):
        ascend_overlay.enable()


def test_a_value_is_put_in_place_and_taken_back(offer: Any) -> None:
    overlay = Overlay("one", reason="a test")
    overlay.attribute("lib:value", Mute(), as_is=True)
    offer(overlay)
    ascend_overlay.enable()
    lib = importlib.import_module("lib")
    (entry,) = ascend_overlay.ledger()
    assert entry.state == "applied" and MUTE in entry.detail and MUTE in str(ascend_overlay.ledger()).replace("\n", "")
    lib.value = Mute()
    (entry,) = ascend_overlay.ledger()
    assert entry.state == "displaced" and any(MUTE in note for note in entry.notes)
    lib.value = 1
    ascend_overlay.disable()


FAILS: dict[str, tuple[Callable[[Any], None], str]] = {
    "a condition": (
        lambda offer: offer(_wrapping(when=predicate(fails, "so"))),
        r"condition 'so' .*cannot be evaluated .*MuteError: its __str__ raises",
    ),
    "a hook": (lambda offer: offer(_wrapping(), select=lambda overlay: fails()), "raised in its hook .*MuteError: its"),
    "a call": (lambda offer: offer(_calling()), r"for lib failed: MuteError: its __str__ raises"),
}


@pytest.mark.parametrize("what", FAILS)
def test_errors_of_others(offer: Any, what: str) -> None:
    register, text = FAILS[what]
    register(offer)
    with pytest.raises(OverlayError, match=text):
        ascend_overlay.enable()
        importlib.import_module("lib")


def _wrapping(**options: Any) -> Overlay:
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lib:run", **options)(lambda wrapped, instance, args, kwargs: wrapped())
    return overlay


def _calling() -> Overlay:
    overlay = Overlay("one", reason="a test")
    overlay.call("lib", do=fails, undo=fails)
    return overlay
