"""An overlay is applied as a whole or not at all, at enable() and at import, and enabling twice changes nothing."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay, ref, settings
from ascend_overlay.errors import ConfigError, OverlayError, TargetError


@pytest.fixture(autouse=True)
def _packages(site: Any) -> None:
    site.write(
        {
            "first.py": "def run(): return 'stock'\n",
            "second.py": "import first\ndef run(): return 'stock'\n",
            "third.py": "def run(): return 'stock'\n",
        }
    )


def around(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> str:
    return f"<{wrapped()}>"


def overlay_of(name: str, *targets: str) -> Overlay:
    overlay = Overlay(name, reason="a test")
    for target in targets:
        overlay.wrap(target)(around)
    return overlay


def states(name: str) -> list[str]:
    return [entry.state for entry in ascend_overlay.ledger().of(name)]


def run(name: str) -> str:
    return str(importlib.import_module(name).run())


@pytest.mark.parametrize("early", [["first", "second"], ["first"], []])
def test_one_failing_patch_takes_the_whole_overlay_back(offer: Any, early: list[str]) -> None:
    for name in early:
        importlib.import_module(name)
    offer(overlay_of("one", "first:run", "second:missing"))
    with pytest.raises(TargetError, match="second:missing"):
        ascend_overlay.enable()
        importlib.import_module("second")
    assert states("one") == ["reverted", "failed"]
    assert run("first") == "stock" and run("second") == "stock"


def test_module_that_does_not_exist_is_found_out_at_once(offer: Any) -> None:
    offer(overlay_of("one", "first:run", "frist:run"))
    with pytest.raises(TargetError, match="'frist' is not installed"):
        ascend_overlay.enable()
    assert "first" not in sys.modules


def test_nothing_stays_behind_when_enable_fails(offer: Any) -> None:
    importlib.import_module("second")
    environment = dict(os.environ)
    offer(overlay_of("one", "first:run"), overlay_of("two", "second:missing"))
    with pytest.raises(OverlayError):
        ascend_overlay.enable(exclude=[], strict=True)
    assert run("first") == "stock"
    assert dict(os.environ) == environment
    assert settings.in_force() is None
    ascend_overlay.enable(only=["one"])
    assert run("first") == "<stock>"


def test_failing_enable_keeps_what_was_enabled_before(offer: Any) -> None:
    importlib.import_module("second")
    offer(overlay_of("one", "first:run"), overlay_of("two", "second:missing"))
    ascend_overlay.enable(only=["one"])
    before = settings.in_force()
    with pytest.raises(OverlayError):
        ascend_overlay.enable(only=["two"])
    assert run("first") == "<stock>" and states("one") == ["applied"]
    assert settings.in_force() is before
    assert os.environ["ASCEND_OVERLAY"] == "one"


def test_an_overlay_pushed_aside_comes_back_when_the_other_fails(offer: Any) -> None:
    importlib.import_module("first")
    one, two = Overlay("one", reason="a test"), Overlay("two", reason="a test")
    one.replace("first:run")(lambda: "one")
    two.replace("first:run")(lambda: "two")
    two.wrap("first:missing")(around)
    offer(one, two)
    ascend_overlay.enable(only=["one"])
    with pytest.raises(TargetError, match="missing"):
        ascend_overlay.enable(only=["two"], prefer={"first:run": "two"})
    assert run("first") == "one" and states("one") == ["applied"]


def test_without_strictness_the_failure_is_a_warning_and_the_rest_goes_on(offer: Any) -> None:
    importlib.import_module("second")
    offer(overlay_of("one", "first:run", "first:missing"), overlay_of("two", "second:run"))
    with pytest.warns(RuntimeWarning, match=r"overlay 'one'.*first:missing does not exist"):
        ascend_overlay.enable(strict=False)
    assert (run("first"), run("second")) == ("stock", "<stock>")
    assert states("one") == ["reverted", "failed"] and states("two") == ["applied"]


def test_without_strictness_what_came_after_the_failure_is_not_applied(offer: Any) -> None:
    importlib.import_module("second")
    offer(overlay_of("one", "first:missing", "first:run", "second:run"), overlay_of("two", "second:run"))
    with pytest.warns(RuntimeWarning, match=r"overlay 'one'.*first:missing does not exist"):
        ascend_overlay.enable(strict=False)
    assert (run("first"), run("second")) == ("stock", "<stock>")
    assert states("one") == ["failed", "reverted", "reverted"] and states("two") == ["applied"]


@pytest.mark.parametrize("hook_first", [True, False])
def test_a_place_that_gives_way_to_what_another_patch_changes(offer: Any, site: Any, hook_first: bool) -> None:
    site.write({"conf.py": "def stock(): return 'hook'\nHOOK = stock\n", "user.py": "from conf import HOOK\n"})
    conf, user, first = (importlib.import_module(name) for name in ("conf", "user", "first"))
    stock, run_of_first = conf.HOOK, first.run
    overlay = overlay_of("one", *([] if hook_first else ["first:run"]))
    overlay.attribute("conf:HOOK", ref("first:run"))
    if hook_first:
        overlay.wrap("first:run")(around)
    offer(overlay)
    for _ in range(2):
        ascend_overlay.enable()
        assert first.run() == "<stock>" and conf.HOOK() == user.HOOK() and user.HOOK is conf.HOOK is not stock
        ascend_overlay.disable()
        assert conf.HOOK is user.HOOK is stock and first.run is run_of_first


def test_without_strictness_an_import_goes_through(offer: Any) -> None:
    offer(overlay_of("one", "first:run", "second:missing"), overlay_of("two", "second:run"))
    ascend_overlay.enable(strict=False)
    assert run("first") == "<stock>"
    with pytest.warns(RuntimeWarning, match="second:missing"):
        importlib.import_module("second")
    assert (run("first"), run("second")) == ("stock", "<stock>")


def test_import_fails_with_the_error_and_a_second_try_finds_the_other_overlays(offer: Any) -> None:
    offer(overlay_of("one", "third:missing"), overlay_of("two", "third:run"))
    ascend_overlay.enable()
    with pytest.raises(TargetError, match="third:missing"):
        importlib.import_module("third")
    assert "third" not in sys.modules
    assert run("third") == "<stock>"
    assert states("one") == ["failed"] and states("two") == ["applied"]


def test_the_error_is_no_import_error(offer: Any) -> None:
    """``try: import x except ImportError`` must not swallow it."""
    offer(overlay_of("one", "third:missing"))
    ascend_overlay.enable()
    try:
        importlib.import_module("third")
    except ImportError:
        pytest.fail("an ImportError")
    except OverlayError:
        pass


def test_module_that_fails_by_itself_is_patched_when_it_is_imported_again(offer: Any, site: Any) -> None:
    site.write({"flaky.py": "import os\ndef run(): return 'stock'\nif 'FLAKY' in os.environ: raise RuntimeError\n"})
    offer(overlay_of("one", "flaky:run"))
    ascend_overlay.enable()
    os.environ["FLAKY"] = "1"
    try:
        with pytest.raises(RuntimeError):
            importlib.import_module("flaky")
    finally:
        del os.environ["FLAKY"]
    assert states("one") == ["pending"]
    assert run("flaky") == "<stock>"


def test_enabling_twice_is_enabling_once(offer: Any) -> None:
    importlib.import_module("first")
    offer(overlay_of("one", "first:run", "third:run"))
    ascend_overlay.enable()
    patched = sys.modules["first"].run
    ascend_overlay.enable()
    ascend_overlay.enable(only=["one"])
    assert sys.modules["first"].run is patched and run("first") == "<stock>"
    assert run("third") == "<stock>"
    assert len(ascend_overlay.ledger()) == 2


def test_plugin_that_makes_its_overlays_anew_is_asked_once(offer: Any) -> None:
    import types

    from ascend_overlay.hooks import hookimpl

    calls = []

    def ascend_overlay_overlays() -> list[Overlay]:
        calls.append(1)
        return [overlay_of("one", "first:run")]

    ascend_overlay.register(types.SimpleNamespace(ascend_overlay_overlays=hookimpl(ascend_overlay_overlays)), "fresh")
    ascend_overlay.enable()
    ascend_overlay.enable()
    ascend_overlay.disable()
    ascend_overlay.enable()
    assert run("first") == "<stock>"
    assert calls == [1]


def test_enable_after_a_narrower_one_adds_the_rest(offer: Any) -> None:
    offer(overlay_of("one", "first:run"), overlay_of("two", "second:run"))
    ascend_overlay.enable(only=["one"])
    ascend_overlay.enable()
    assert (run("first"), run("second")) == ("<stock>", "<stock>")


def test_children_get_all_that_is_enabled(offer: Any) -> None:
    offer(overlay_of("one", "first:run"), overlay_of("two", "second:run"), overlay_of("three", "third:run"))
    ascend_overlay.enable(only=["one"])
    assert os.environ["ASCEND_OVERLAY"] == "one"
    ascend_overlay.enable(only=["two"])
    assert set(os.environ["ASCEND_OVERLAY"].split(",")) == {"one", "two"}
    ascend_overlay.disable(only=["one"])
    assert os.environ["ASCEND_OVERLAY"] == "two"
    ascend_overlay.enable(exclude=["three"])
    assert os.environ["ASCEND_OVERLAY"] == "-three"
    ascend_overlay.disable(only=["two"])
    assert set(os.environ["ASCEND_OVERLAY"].split(",")) == {"-three", "-two"}
    ascend_overlay.disable()
    assert "ASCEND_OVERLAY" not in os.environ


def test_disable_and_enable_again(offer: Any) -> None:
    offer(overlay_of("one", "first:run", "third:run"))
    for _ in range(3):
        ascend_overlay.enable()
        assert run("first") == "<stock>"
        ascend_overlay.disable()
        assert run("first") == "stock"
    assert "third" not in sys.modules
    assert run("third") == "stock"
    assert len(ascend_overlay.ledger()) == 2


def test_disable_of_an_unknown_overlay_is_an_error(offer: Any) -> None:
    offer(overlay_of("one", "first:run"))
    ascend_overlay.enable()
    with pytest.raises(ConfigError, match=r"no overlay 'oen'.*Did you mean 'one'"):
        ascend_overlay.disable(only=["oen"])


def test_context_manager_leaves_what_was_there(offer: Any) -> None:
    offer(overlay_of("one", "first:run"), overlay_of("two", "second:run"))
    ascend_overlay.enable(only=["one"], strict=False)
    before, environment = settings.in_force(), dict(os.environ)
    with ascend_overlay.enabled(only=["one", "two"], strict=True):
        assert (run("first"), run("second")) == ("<stock>", "<stock>")
        assert settings.current().strict
    assert (run("first"), run("second")) == ("<stock>", "stock")
    assert settings.in_force() == before and dict(os.environ) == environment


def test_context_manager_takes_back_after_an_exception(offer: Any) -> None:
    offer(overlay_of("one", "first:run"))
    with pytest.raises(ZeroDivisionError), ascend_overlay.enabled():
        assert run("first") == "<stock>"
        raise ZeroDivisionError
    assert run("first") == "stock"


def test_ledger_is_a_snapshot(offer: Any) -> None:
    offer(overlay_of("one", "first:run"))
    ascend_overlay.enable()
    run("first")
    before = ascend_overlay.ledger()
    ascend_overlay.disable()
    assert [entry.state for entry in before] == ["applied"]


def test_unexpected_exception_in_an_implementation_names_the_overlay(offer: Any, site: Any) -> None:
    site.write({"broken.py": "raise ZeroDivisionError('oops')\n"})
    overlay = Overlay("one", reason="a test")
    overlay.replace("first:run", "broken:run")
    importlib.import_module("first")
    offer(overlay)
    with pytest.raises(OverlayError, match=r"overlay 'one'.*first:run.*ZeroDivisionError: oops") as raised:
        ascend_overlay.enable()
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_propagate_false_leaves_the_environment_alone(offer: Any) -> None:
    environment = dict(os.environ)
    offer(overlay_of("one", "first:run"))
    ascend_overlay.enable(propagate=False)
    assert dict(os.environ) == environment
    assert run("first") == "<stock>"


def test_after_disable_the_automatic_ways_in_stay_out(offer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ascend_overlay.hooks import activation

    monkeypatch.setenv("ASCEND_OVERLAY", "1")
    offer(overlay_of("one", "first:run"))
    activation.vllm_plugin()
    assert run("first") == "<stock>"
    ascend_overlay.disable()
    activation.vllm_plugin()
    assert run("first") == "stock"
    ascend_overlay.enable()
    assert run("first") == "<stock>"


def interrupt_writing(engine: Any, monkeypatch: pytest.MonkeyPatch, count: int) -> list[type[KeyboardInterrupt]]:
    """Have so many attempts to write the ledger interrupted; return those that are still to come."""
    write, interruptions = engine.journal.write, [KeyboardInterrupt] * count

    def interrupted() -> None:
        if interruptions:
            raise interruptions.pop()
        write()

    monkeypatch.setattr(engine.journal, "write", interrupted)
    return interruptions


@pytest.mark.parametrize("call", ["enable", "disable"])
def test_the_ledger_finishes_what_was_interrupted(
    offer: Any, engine: Any, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    importlib.import_module("first")
    offer(overlay_of("one", "first:run"))
    if call == "disable":
        ascend_overlay.enable()
    interruptions = interrupt_writing(engine, monkeypatch, 2 if call == "enable" else 1)
    with pytest.raises(KeyboardInterrupt):
        getattr(ascend_overlay, call)()
    assert not interruptions and (engine._state.begun or engine._state.leaving)
    assert {entry.state for entry in ascend_overlay.ledger()} == {"reverted"}
    assert run("first") == "stock" and not engine._propagation.active
    assert engine._state.begun is None and engine._state.leaving is None


NEXT: dict[str, tuple[Callable[[], None], tuple[str, str]]] = {
    "enable another": (lambda: ascend_overlay.enable(only=["two"]), ("stock", "<stock>")),
    "disable another": (lambda: ascend_overlay.disable(only=["two"]), ("stock", "stock")),
    "disable all": (ascend_overlay.disable, ("stock", "stock")),
}


@pytest.mark.parametrize("then", NEXT)
@pytest.mark.parametrize("call", ["enable", "disable"])
def test_the_next_call_finishes_what_was_interrupted(
    offer: Any, engine: Any, monkeypatch: pytest.MonkeyPatch, call: str, then: str
) -> None:
    for name in ("first", "third"):
        importlib.import_module(name)
    offer(overlay_of("one", "first:run"), overlay_of("two", "third:run"))
    if call == "disable":
        ascend_overlay.enable(only=["one"])
    interrupt_writing(engine, monkeypatch, 2 if call == "enable" else 1)
    with pytest.raises(KeyboardInterrupt):
        getattr(ascend_overlay, call)(only=["one"])
    assert engine._state.begun or engine._state.leaving
    follow, expected = NEXT[then]
    follow()
    assert (run("first"), run("third")) == expected
    assert engine._state.begun is None and engine._state.leaving is None
    assert states("one") == ["reverted"]


STUBBORN = """
    FROZEN = False
    class Table(dict):
        def __setitem__(self, key, value):
            if FROZEN: raise TypeError("frozen")
            super().__setitem__(key, value)
    class Holder:
        def __setattr__(self, name, value):
            if FROZEN: raise AttributeError("frozen")
            super().__setattr__(name, value)
    table, holder = Table(key=1), Holder()
    holder.key = 1
    def run(): return "stock"
"""
REFUSING: dict[str, Callable[[Overlay], object]] = {
    "a mapping": lambda overlay: overlay.item("stubborn:table", "key", 2),
    "an object": lambda overlay: overlay.attribute("stubborn:holder.key", 2),
}


@pytest.mark.parametrize("kind", REFUSING)
@pytest.mark.parametrize("strict", [True, False])
def test_what_refuses_to_be_changed_back_is_told_until_it_is_changed_back(
    offer: Any, site: Any, kind: str, strict: bool
) -> None:
    site.write({"stubborn.py": STUBBORN})
    stubborn = importlib.import_module("stubborn")

    def values() -> tuple[int, int, str]:
        return stubborn.table["key"], stubborn.holder.key, stubborn.run()

    overlay = overlay_of("one", "stubborn:run")
    REFUSING[kind](overlay)
    offer(overlay)
    ascend_overlay.enable(strict=strict)
    changed = (2, 1) if kind == "a mapping" else (1, 2)
    assert values() == (*changed, "<stock>")
    stubborn.FROZEN = True
    for _ in range(2):
        with pytest.raises(OverlayError) if strict else pytest.warns(RuntimeWarning) as told:
            ascend_overlay.disable()
        text = str(told.value if strict else told[0].message)
        assert "overlay 'one'" in text and "refuses to be changed back" in text and "frozen" in text
        assert values() == (*changed, "stock")
        states = [(entry.state, "the next disable() tries again" in entry.reason) for entry in ascend_overlay.ledger()]
        assert states == [("reverted", False), ("failed", True)]
    stubborn.FROZEN = False
    ascend_overlay.disable()
    assert values() == (1, 1, "stock")
    assert {entry.state for entry in ascend_overlay.ledger()} == {"reverted"}
