"""Conditions: alone, combined, and in the ledger."""

from __future__ import annotations

import importlib
import itertools
import sys
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.api import enter_role
from ascend_overlay.conditions import Condition, distribution, env, platform, predicate, role
from ascend_overlay.errors import ConfigError, RuledOutError

YES, NO = predicate(lambda: True, "it is so"), predicate(lambda: False, "it is not so")


@pytest.fixture(autouse=True)
def _packages(site: Any) -> None:
    site.write({"lib.py": "def run(): return 'stock'\ndef other(): return 'stock'\n"})


@pytest.mark.parametrize(("a", "b"), list(itertools.product([YES, NO], repeat=2)))
def test_and_or_not(a: Condition, b: Condition) -> None:
    assert (a & b).holds() is (a.holds() and b.holds())
    assert (a | b).holds() is (a.holds() or b.holds())
    assert (~a).holds() is not a.holds()
    assert (~(a & b)).holds() is (~a | ~b).holds()


@pytest.mark.parametrize(
    "combine", [lambda a: ~a, lambda a: a & YES, lambda a: YES & a, lambda a: a | YES, lambda a: NO | a]
)
def test_what_is_combined_is_asked_when_its_parts_can_be(combine: Any) -> None:
    for part, kind in ((platform("npu"), (False, True)), (role("worker"), (True, False)), (NO, (False, False))):
        combined = combine(part)
        assert (combined.by_role, combined.late) == kind, combined.text


def test_the_reason_is_a_phrase() -> None:
    assert YES.why_not() is None
    assert NO.why_not() == "not so that it is not so"
    assert "it is so" in str((~(YES | NO)).why_not())


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, is_set in (("1", True), ("yes", True), ("", False), ("0", False), ("false", False)):
        monkeypatch.setenv("SOME_SWITCH", value)
        assert env("SOME_SWITCH").holds() is is_set
        assert env("SOME_SWITCH", value).holds()
    assert not env("SOME_SWITCH", "other").holds()


def test_distribution(site: Any) -> None:
    site.distribution("some-thing", "1.5")
    assert distribution("some-thing").holds() and distribution("some-thing", ">=1.5").holds()
    assert not distribution("some-thing", ">=2").holds() and not distribution("other-thing").holds()
    assert (~distribution("vllm-ascend")).holds()
    with pytest.raises(ConfigError, match="PEP 440"):
        Overlay("one", reason="a test", when=distribution("some-thing", "newest"))


def test_what_is_no_condition_is_refused_where_it_is_declared() -> None:
    with pytest.raises(ConfigError, match=r"overlay 'one' has when='worker', which is not a condition; make one with"):
        Overlay("one", reason="a test", when="worker")  # type: ignore[arg-type]
    overlay = Overlay("one", reason="a test")
    with pytest.raises(ConfigError, match=r"overlay 'one', patch of lib:x has when=True, which is not a condition"):
        overlay.attribute("lib:x", 1, when=True)  # type: ignore[arg-type]


def test_unknown_role() -> None:
    with pytest.raises(ConfigError, match=r"'wroker' is not the role.*Did you mean 'worker'"):
        Overlay("one", reason="a test", when=role("wroker"))


@pytest.fixture
def state(offer: Any) -> Any:
    """Enable an overlay under a condition, and return what became of it."""

    def enable(when: Condition, *, of: str = "overlay") -> tuple[str, str]:
        overlay = Overlay("one", reason="a test", when=when if of == "overlay" else None)
        overlay.wrap("lib:run", when=when if of == "patch" else None)(lambda wrapped, i, args, kwargs: f"<{wrapped()}>")
        offer(overlay, name="plug")
        ascend_overlay.enable()
        importlib.import_module("lib")
        (entry,) = ascend_overlay.ledger()
        return entry.state, entry.reason

    return enable


@pytest.mark.parametrize("of", ["overlay", "patch"])
def test_what_is_ruled_out_is_skipped_with_the_reason(state: Any, of: str) -> None:
    assert state(NO, of=of) == ("skipped", "not so that it is not so")
    assert importlib.import_module("lib").run() == "stock"


@pytest.mark.parametrize("of", ["overlay", "patch"])
def test_what_holds_is_applied(state: Any, of: str) -> None:
    assert state(YES, of=of)[0] == "applied"


def test_condition_that_raises_is_named(state: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"'it divides' of overlay 'one' \(plugin 'plug'\).*lib:run.*ZeroDivisionError"
    ):
        state(predicate(lambda: 1 / 0 > 1, "it divides"))


def test_platform_is_not_asked_before_the_target_is_imported(site: Any, offer: Any) -> None:
    site.vllm(
        "0.32.0",
        {
            "vllm/platforms.py": "class current_platform:\n    device_name = 'npu'\n    device_type = 'npu'\n",
            "vllm/used.py": "import vllm.platforms\ndef run(): return 'stock'\ndef other(): return 'stock'\n",
        },
    )
    overlay = Overlay("one", reason="a test")
    overlay.wrap("vllm.used:run", when=platform("npu") & YES)(lambda wrapped, i, args, kwargs: f"<{wrapped()}>")
    overlay.wrap("vllm.used:other", when=platform("cpu"))(lambda wrapped, i, args, kwargs: f"<{wrapped()}>")
    offer(overlay)
    ascend_overlay.enable()
    assert "vllm" not in sys.modules
    used = importlib.import_module("vllm.used")
    assert (used.run(), used.other()) == ("<stock>", "stock")
    states = [(entry.state, entry.reason) for entry in ascend_overlay.ledger()]
    assert states[1] == ("skipped", "not so that vLLM's platform is cpu")


def test_role_that_is_entered_later(offer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ascend_overlay import process

    monkeypatch.setattr(process, "_entered", set())
    only_main = Overlay("only_main", reason="a test", when=~role("engine_core"))
    only_main.wrap("lib:other")(lambda wrapped, i, args, kwargs: f"<{wrapped()}>")
    core = Overlay("core", reason="a test")
    core.wrap("lib:run", when=role("engine_core"))(lambda wrapped, i, args, kwargs: f"<{wrapped()}>")
    offer(only_main, core)
    ascend_overlay.enable()
    lib = importlib.import_module("lib")
    assert (lib.run(), lib.other()) == ("stock", "<stock>")
    enter_role("engine_core")
    assert (lib.run(), lib.other()) == ("<stock>", "stock")
    states = {entry.overlay: entry.state for entry in ascend_overlay.ledger()}
    assert states == {"only_main": "skipped", "core": "applied"}
    assert ascend_overlay.ledger().process["roles"] == ["engine_core", "main"]


def conditional(overall: Condition | None, *of_patches: Condition | None) -> Overlay:
    overlay = Overlay("one", reason="a test", when=overall)
    for name, when in zip(("run", "other"), of_patches, strict=False):
        overlay.wrap(f"lib:{name}", when=when)(lambda wrapped, i, args, kwargs: f"<{wrapped()}>")
    return overlay


# the conditions of an overlay, and of its patches -> why none of it applies; None: something does, or may yet
AS_A_WHOLE = [
    ((NO, None, None), "not so that it is not so"),
    ((None, NO, NO), "not so that it is not so"),
    ((YES, NO, NO), "not so that it is not so"),
    ((None, YES, NO), None),
    ((None, NO, YES), None),
    ((None, NO, role("worker")), None),
    ((role("worker"), NO, NO), None),
    ((None, NO, platform("npu")), None),
    ((YES, None, None), None),
]


@pytest.mark.parametrize(("conditions", "why"), AS_A_WHOLE)
def test_who_is_asked_for_by_name_and_stays_off_is_an_error(
    offer: Any, conditions: tuple[Condition | None, ...], why: str | None
) -> None:
    offer(conditional(*conditions))
    if why is None:
        ascend_overlay.enable(only=["one"])
        return
    with pytest.raises(RuledOutError, match=rf"overlay 'one' .* asked for by name and stays off: {why}\. Leave it out"):
        ascend_overlay.enable(only=["one"])
    ascend_overlay.enable()
    assert {entry.reason for entry in ascend_overlay.ledger().of("one")} == {why}


def test_a_veto_of_who_is_asked_for_by_name_is_an_error(offer: Any) -> None:
    offer(conditional(None, None), select=lambda overlay: "not today")
    with pytest.raises(RuledOutError, match="stays off: vetoed by plugin 'plugin1': not today"):
        ascend_overlay.enable(only=["one"])


def test_in_a_child_that_is_a_line_in_the_log(
    offer: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from ascend_overlay import process

    monkeypatch.setattr(process, "_entered", {"worker"})
    monkeypatch.setattr(process, "role", lambda: "worker")
    offer(conditional(NO, None))
    ascend_overlay.enable(only=["one"])
    assert "asked for by name and stays off: not so that it is not so" in caplog.text
