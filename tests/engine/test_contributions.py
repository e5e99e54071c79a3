"""What plugins answer to a hook, in which order, and whose fault it is where one raises."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import process
from ascend_overlay.engine import plan
from ascend_overlay.engine.plugins import Answer, Failure, Origin, Plugins
from ascend_overlay.errors import PluginError
from ascend_overlay.hooks import hookimpl

HOOK = "ascend_overlay_left_to_vllm"


def raising() -> Any:
    raise ZeroDivisionError("what it says.")


def raising_later() -> Iterator[int]:
    yield 1
    raise ZeroDivisionError("what it says.")


def plugins(**answers: Callable[[], Any]) -> Plugins:
    """Return plugins, registered in this order, that answer one hook."""
    made = Plugins()
    for name, answer in answers.items():
        made.register(types.SimpleNamespace(ascend_overlay_left_to_vllm=hookimpl(answer)), name)
    return made


# what a plugin returns -> what it contributes
ANSWERS: list[tuple[Any, list[Any]]] = [
    ({"a": 1, "b": 2}, [("a", 1), ("b", 2)]),
    (types.MappingProxyType({"a": 1}), [("a", 1)]),
    ([1, 2], [1, 2]),
    ((1,), [1]),
    ([], []),
    ("text", ["text"]),
    (5, [5]),
    (iter([1, 2]), [1, 2]),
]


@pytest.mark.parametrize(("answer", "things"), ANSWERS, ids=lambda value: type(value).__name__)
def test_what_is_contributed(answer: Any, things: list[Any]) -> None:
    assert list(plugins(one=lambda: answer).contributions(HOOK)) == [(Origin("one"), things)]


@pytest.mark.parametrize("bad", [raising, raising_later], ids=["at once", "in a generator"])
def test_who_raises_is_named_and_the_others_are_asked(bad: Any) -> None:
    answers = dict(plugins(one=lambda: [1], two=bad, three=lambda: None, four=lambda: [4]).contributions(HOOK))
    assert list(answers) == [Origin(name) for name in ("four", "three", "two", "one")], "the last one first"
    assert answers[Origin("one")] == [1] and answers[Origin("four")] == [4]
    two, three = answers[Origin("two")], answers[Origin("three")]
    assert isinstance(two, Failure) and isinstance(two.error.__cause__, ZeroDivisionError)
    assert str(two.error).startswith(f"plugin 'two' raised in its hook {HOOK}: ZeroDivisionError: what it says (")
    assert f"({__file__}, line " in str(two.error)
    assert isinstance(three, Failure)
    assert str(three.error) == f"plugin 'three' returns None from its hook {HOOK}; return a list, and [] for nothing."


@pytest.mark.parametrize(
    "answer", [lambda: [1], raising, raising_later, lambda: None], ids=lambda value: value.__name__
)
def test_who_has_heard_enough_may_leave(answer: Any) -> None:
    found = plugins(one=answer).contributions(HOOK)
    assert next(iter(found))[0] == Origin("one")
    # A generator that goes on when it is closed says so on standard error, and takes errors of others for the plugin's.
    found.close()  # type: ignore[attr-defined]


def test_some_are_not_asked() -> None:
    some = plugins(one=lambda: [1], two=lambda: [2])
    assert list(some.contributions(HOOK, leave_out={Origin("two")})) == [(Origin("one"), [1])]
    assert list(some.each(HOOK, leave_out={Origin("one")})) == [(Origin("two"), [2])]


def test_the_first_answer_counts() -> None:
    assert plugins(one=lambda: 1, two=lambda: 2, three=lambda: None).first(HOOK) == Answer(Origin("two"), 2)
    assert plugins(one=lambda: 0, two=lambda: None).first(HOOK) == Answer(Origin("one"), 0)
    assert plugins(one=lambda: None).first(HOOK) is None is plugins().first(HOOK)
    with pytest.raises(PluginError, match="plugin 'two' raised in its hook"):
        plugins(one=lambda: 1, two=raising).first(HOOK)
    assert plugins(one=raising, two=lambda: 2).first(HOOK) == Answer(Origin("two"), 2)


def test_a_name_is_taken_once() -> None:
    def one() -> list[Any]:
        return []

    some, plugin = Plugins(), types.SimpleNamespace(ascend_overlay_left_to_vllm=hookimpl(one))
    assert some.register(plugin, "one") == some.register(plugin, "one") == Origin("one")
    other = types.SimpleNamespace(ascend_overlay_left_to_vllm=hookimpl(lambda: [2]))
    with pytest.raises(PluginError, match="another plugin is registered as 'one' already"):
        some.register(other, "one")
    assert some.register(other).plugin == "SimpleNamespace"
    assert list(some.contributions(HOOK)) == [(Origin("SimpleNamespace"), [2]), (Origin("one"), [])]


NAMED = [
    (Origin("one"), "plugin 'one'"),
    (Origin("one", "a-dist"), "plugin 'one' of a-dist"),
    (Origin("one", "a-dist", "1.2"), "plugin 'one' of a-dist 1.2"),
    (Origin("the program itself", is_program=True), "the program itself"),
]


@pytest.mark.parametrize(("origin", "name"), NAMED)
def test_origins(origin: Origin, name: str) -> None:
    assert str(origin) == name


@pytest.mark.parametrize("installed", [True, False])
def test_a_module_that_is_named_comes_from_its_distribution(site: Any, engine: Any, installed: bool) -> None:
    text = """
        from ascend_overlay import Overlay
        from ascend_overlay.hooks import hookimpl
        one = Overlay("one", reason="a test")
        one.add("json:made_here", 1)
        @hookimpl
        def ascend_overlay_overlays(): return [one]
    """
    site.write({"contributing/plug.py": text})
    if installed:
        site.distribution("some-dist", "3.4")
        (site.folder / "some_dist-3.4.dist-info" / "RECORD").write_text("contributing/plug.py,,\n")
    ascend_overlay.enable(load=["contributing.plug"])
    (entry,) = ascend_overlay.ledger().of("one")
    found = (entry.plugin, entry.distribution, entry.version)
    assert found == (("contributing.plug", "some-dist", "3.4") if installed else ("contributing.plug", "", ""))


def test_an_overlay_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "there is no overlay 'tow'; there are: one, two. Did you mean 'two'?"
    assert plan.no_such_overlay("tow", ["one", "two"]) == text
    assert plan.no_such_overlay("x", []) == "there is no overlay 'x'; there are: none."
    monkeypatch.setattr(process, "role", lambda: "worker")
    assert plan.no_such_overlay("tow", ["one", "two"]) == (
        f"{text} A plugin that the parent process registered by hand is not known in this worker process: "
        "name its module in enable(load=...) or ASCEND_OVERLAY_LOAD."
    )


@pytest.mark.parametrize("method", ["contributions", "each"])
@pytest.mark.parametrize("bad", [None, raising, raising_later])
def test_who_asks_may_stop_asking(method: str, bad: Any) -> None:
    answers = getattr(plugins(one=lambda: [1], two=bad or (lambda: [2])), method)(HOOK)
    next(answers)
    answers.close()
    assert list(answers) == []
