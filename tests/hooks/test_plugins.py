"""Finding plugins, refusing broken ones, and calling their hooks."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.commands.check.command import chosen
from ascend_overlay.conditions import predicate
from ascend_overlay.errors import ActivationError, ConfigError, OverlayError, PluginError
from ascend_overlay.settings import Settings

GOOD = """
    from ascend_overlay import Overlay
    from ascend_overlay.hooks import hookimpl
    overlay = Overlay("{name}", reason="a test")
    overlay.wrap("lib:run")(lambda wrapped, instance, args, kwargs: f"{name}({{wrapped()}})")
    @hookimpl
    def ascend_overlay_overlays(): return [overlay]
"""
BROKEN = {
    "an import error": ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    "an error at import": ("1 / 0", "ZeroDivisionError"),
    "a syntax error": ("def", "SyntaxError"),
    "a wrong overlay": (
        "from ascend_overlay import Overlay\noverlay = Overlay('x', reason='y', vllm='new')",
        "not a PEP 440 specifier",
    ),
    "a misspelt hook": (
        "from ascend_overlay.hooks import hookimpl\n@hookimpl\ndef ascend_overlay_overlay(): return []",
        "'ascend_overlay_overlay', which is no hook. Did you mean 'ascend_overlay_overlays'",
    ),
    "a wrong signature": (
        "from ascend_overlay.hooks import hookimpl\n@hookimpl\ndef ascend_overlay_select(ovrelay): return None",
        "implements ascend_overlay_select with the argument 'ovrelay', which the hook does not have; it has overlay",
    ),
    "a hook without a decorator": (
        "def ascend_overlay_overlays(): return []",
        "defines ascend_overlay_overlays without the decorator @hookimpl",
    ),
    "no hook": ("x = 1", "implements no hook"),
    "a wrapper": (
        "from ascend_overlay.hooks import hookimpl\n@hookimpl(wrapper=True)\ndef ascend_overlay_overlays(): yield",
        "as a wrapper",
    ),
    "an exception in a hook": (
        "from ascend_overlay.hooks import hookimpl\n@hookimpl\ndef ascend_overlay_overlays(): 1 / 0",
        "raised in its hook ascend_overlay_overlays: ZeroDivisionError: division by zero",
    ),
    "an exception in a generator": (
        "from ascend_overlay.hooks import hookimpl\n@hookimpl\ndef ascend_overlay_overlays():\n    yield 1 / 0",
        "raised in its hook ascend_overlay_overlays: ZeroDivisionError: division by zero",
    ),
    "something else than overlays": (
        "from ascend_overlay.hooks import hookimpl\n@hookimpl\ndef ascend_overlay_overlays(): return ['rms_norm']",
        "contributes 'rms_norm', which is not an Overlay",
    ),
    "a number": (
        "from ascend_overlay.hooks import hookimpl\n@hookimpl\ndef ascend_overlay_overlays(): return 42",
        "contributes 42, which is not an Overlay",
    ),
    "a forgotten return": (
        "from ascend_overlay.hooks import hookimpl\n@hookimpl\ndef ascend_overlay_overlays(): []",
        "returns None from its hook ascend_overlay_overlays; return a list, and [] for nothing",
    ),
    "a decorator that decorates nothing": (
        """
            from ascend_overlay import Overlay
            from ascend_overlay.hooks import hookimpl
            overlay = Overlay("x", reason="y")
            overlay.wrap("lib:run")
            @hookimpl
            def ascend_overlay_overlays(): return [overlay]
        """,
        "contributes the overlay 'x', which has no patch",
    ),
}


@pytest.fixture(autouse=True)
def _packages(site: Any) -> None:
    site.write(
        {
            "lib.py": "def run(): return 'stock'\n",
            "good_plugin.py": GOOD.format(name="good"),
            "other_plugin.py": GOOD.format(name="other"),
        }
    )


def run() -> str:
    return str(importlib.import_module("lib").run())


def test_installed_plugin_is_found_and_named_in_the_ledger(site: Any) -> None:
    site.distribution("good-dist", "1.2", {"good_entry": "good_plugin"})
    ascend_overlay.enable()
    assert run() == "good(stock)"
    (entry,) = ascend_overlay.ledger()
    assert (entry.plugin, entry.distribution, entry.version) == ("good_entry", "good-dist", "1.2")


@pytest.mark.parametrize("kind", list(BROKEN))
def test_broken_plugin_stops_the_program_and_is_named(site: Any, kind: str) -> None:
    text, message = BROKEN[kind]
    site.write({"broken_plugin.py": text})
    site.distribution("broken-dist", "0.1", {"broken": "broken_plugin"})
    site.distribution("good-dist", "1.2", {"good": "good_plugin"})
    with pytest.raises(PluginError) as raised:
        ascend_overlay.enable()
    for part in ("plugin 'broken' of broken-dist 0.1", message):
        assert part in str(raised.value), str(raised.value)
    assert run() == "stock"


@pytest.mark.parametrize("kind", list(BROKEN))
def test_broken_plugin_takes_nobody_down_without_strictness(site: Any, kind: str) -> None:
    text, message = BROKEN[kind]
    site.write({"broken_plugin.py": text})
    site.distribution("broken-dist", "0.1", {"broken": "broken_plugin"})
    site.distribution("good-dist", "1.2", {"good": "good_plugin"})
    with pytest.warns(RuntimeWarning, match="plugin 'broken' of broken-dist 0.1"):
        ascend_overlay.enable(strict=False)
    assert run() == "good(stock)"
    (failed,) = [entry for entry in ascend_overlay.ledger() if entry.kind == "plugin"]
    assert (failed.target, failed.distribution, failed.state) == ("broken", "broken-dist", "failed")
    assert message in failed.reason


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("import sys\nimport no_such_module", 2),
        ("from ascend_overlay import Overlay\n\noverlay = Overlay('x', reason=' ')", 3),
        (
            "from ascend_overlay.hooks import hookimpl\n@hookimpl\ndef ascend_overlay_overlays():\n    return [][1]",
            4,
        ),
    ],
)
def test_the_line_of_a_plugin_that_went_wrong_is_named(site: Any, text: str, line: int) -> None:
    site.write({"broken_plugin.py": text})
    with pytest.raises(PluginError, match=rf"broken_plugin\.py, line {line}\)") as raised:
        ascend_overlay.enable(load=["broken_plugin"])
    assert ".." not in str(raised.value)
    assert "Correct the name" not in str(raised.value), "the name is right"


def test_broken_plugin_can_be_blocked_and_then_repaired(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write({"broken_plugin.py": "1 / 0"})
    site.distribution("broken-dist", "0.1", {"broken": "broken_plugin"})
    site.distribution("good-dist", "1.2", {"good": "good_plugin"})
    with pytest.raises(PluginError, match="ASCEND_OVERLAY_PLUGINS=-broken"):
        ascend_overlay.enable()
    monkeypatch.setenv("ASCEND_OVERLAY_PLUGINS", "-broken")
    ascend_overlay.enable()
    assert run() == "good(stock)"
    ascend_overlay.disable()
    monkeypatch.delenv("ASCEND_OVERLAY_PLUGINS")
    site.write({"broken_plugin.py": GOOD.format(name="repaired")})
    ascend_overlay.enable()
    assert "repaired" in run()


@pytest.mark.parametrize(
    ("plugins", "expected"),
    [
        ("good", "good(stock)"),
        ("good-dist", "good(stock)"),
        ("good,other", "other(good(stock))"),
        ("", "stock"),
        ("-good", "other(stock)"),
        ("-good-dist,-other", "stock"),
    ],
)
def test_allow_list_and_block_list(site: Any, monkeypatch: pytest.MonkeyPatch, plugins: str, expected: str) -> None:
    site.distribution("good-dist", "1.2", {"good": "good_plugin"})
    site.distribution("other-dist", "1.2", {"other": "other_plugin"})
    monkeypatch.setenv("ASCEND_OVERLAY_PLUGINS", plugins)
    ascend_overlay.enable()
    assert run() == expected
    left_out = {entry.target: entry.reason for entry in ascend_overlay.ledger() if entry.kind == "plugin"}
    assert left_out.keys() == {name for name in ("good", "other") if name not in expected}
    assert all("ASCEND_OVERLAY_PLUGINS" in reason for reason in left_out.values())
    import sys

    assert all(f"{name}_plugin" not in sys.modules for name in left_out), "a plugin that is not wanted is not imported"


def test_unknown_name_on_the_allow_list(site: Any) -> None:
    site.distribution("good-dist", "1.2", {"good": "good_plugin"})
    with pytest.raises(PluginError, match=r"names 'goood'.*there are: good, good-dist.*Did you mean 'good'"):
        ascend_overlay.enable(plugins=["goood"])
    ascend_overlay.enable(plugins=["good"])
    assert run() == "good(stock)"


def test_an_allow_list_that_comes_later_holds_from_then_on(site: Any) -> None:
    """What is enabled stays, here and in child processes; what nobody has asked for yet is not asked any more."""
    site.distribution("good-dist", "1.2", {"good": "good_plugin"})
    site.distribution("other-dist", "1.2", {"other": "other_plugin"})
    ascend_overlay.enable(only=["good"])
    ascend_overlay.enable(plugins=["good"], only=["good"])
    assert os.environ["ASCEND_OVERLAY_PLUGINS"] == "good"
    ascend_overlay.disable()
    ascend_overlay.enable(only=["other"])
    ascend_overlay.enable(plugins=["good"], only=["good"])
    assert os.environ["ASCEND_OVERLAY_PLUGINS"] == "other,good"
    site.distribution("late-dist", "1", {"late": "late_plugin"})
    ascend_overlay.enable(only=["good"])
    (entry,) = [entry for entry in ascend_overlay.ledger() if entry.target == "late"]
    assert (entry.state, entry.cause) == ("skipped", "not asked")


NAMED = {
    "only": (lambda name: {"only": [name]}, "only="),
    "require": (lambda name: {"require": [name]}, "require="),
    "exclude": (lambda name: {"exclude": [name]}, "exclude="),
    "prefer": (lambda name: {"prefer": {"lib:run": name}}, "prefer="),
}
LEFT_OUT = {
    "a block": ({}, "-good-dist", "blocked by ASCEND_OVERLAY_PLUGINS"),
    "an allow-list": ({}, "other", "not on the allow-list of ASCEND_OVERLAY_PLUGINS"),
    "an argument": ({"plugins": ["other"]}, "", "not on the allow-list of plugins="),
    "none allowed": ({"plugins": []}, "", "not on the allow-list of plugins="),
}


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("why", LEFT_OUT)
@pytest.mark.parametrize("by", NAMED)
def test_an_overlay_of_a_plugin_that_is_left_out(
    site: Any, monkeypatch: pytest.MonkeyPatch, by: str, why: str, beside: bool
) -> None:
    """Who names it is told by what its plugin is left out; where its declaration is elsewhere, that it may be."""
    if beside:
        site.write({"good_declared.py": GOOD.format(name="good"), "good_plugin.py": "from good_declared import *\n"})
    site.distribution("good-dist", "1.2", {"good": "good_plugin"})
    site.distribution("other-dist", "1.2", {"other": "other_plugin"})
    arguments, variable, reason = LEFT_OUT[why]
    if variable:
        monkeypatch.setenv("ASCEND_OVERLAY_PLUGINS", variable)
    names, whose = NAMED[by]
    with pytest.raises(ConfigError) as raised:
        ascend_overlay.enable(**arguments, **names("good"))
    told = str(raised.value)
    if beside:
        assert told.startswith(f"there is no overlay 'good' (in {whose}); there are: ")
        assert f" A plugin that is not asked may have it: plugin 'good' of good-dist 1.2 ({reason})" in told
    else:
        assert told == (
            f"the overlay 'good' (in {whose}) is that of plugin 'good' of good-dist 1.2, which is {reason}. Have the "
            f"plugin asked, or do not name the overlay."
        )
    assert "good_plugin" not in sys.modules and "good_declared" not in sys.modules
    with pytest.raises(ConfigError, match=r"there is no overlay 'gooood'.* may have it: "):
        ascend_overlay.enable(**arguments, **names("gooood"))


@pytest.mark.parametrize("how", ["disable", "judge", "check"])
def test_others_who_name_an_overlay_of_a_blocked_plugin(site: Any, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    site.distribution("good-dist", "1.2", {"good": "good_plugin"})
    site.distribution("other-dist", "1.2", {"other": "other_plugin"})
    monkeypatch.setenv("ASCEND_OVERLAY_PLUGINS", "-good")
    ascend_overlay.enable()
    with pytest.raises(ConfigError, match=r"is that of plugin 'good' of good-dist 1.2, which is blocked by ASCEND_"):
        if how == "disable":
            ascend_overlay.disable(only=["good"])
        elif how == "judge":
            ascend_overlay.api.judge(Settings.from_env().updated(only=["good"]))
        else:
            chosen(["good"])


@pytest.mark.parametrize("load", [False, True])
def test_an_overlay_of_a_plugin_that_is_broken(site: Any, load: bool) -> None:
    site.write({"good_plugin.py": GOOD.format(name="good") + "\n    1 / 0\n"})
    if not load:
        site.distribution("good-dist", "1.2", {"good": "good_plugin"})
    whose = "plugin 'good_plugin'" if load else "plugin 'good' of good-dist 1.2"
    with (
        pytest.warns(RuntimeWarning, match="cannot be loaded: ZeroDivisionError"),
        pytest.raises(ConfigError, match=rf"'good' \(in only=\) is that of {whose}, which is broken"),
    ):
        ascend_overlay.enable(only=["good"], strict=False, load=["good_plugin"] if load else [])


def test_a_distribution_hides_another_of_its_name(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for the import system: the first on sys.path is the one that counts, whether it has a plugin or not."""
    site.distribution("good-dist", "1.2", {"good": "good_plugin"})
    before = type(site)(tmp_path / "before")
    before.folder.mkdir()
    before.distribution("good-dist", "2.0", {})
    monkeypatch.syspath_prepend(str(before.folder))

    with pytest.raises(ConfigError, match="there is no overlay 'good'"):
        ascend_overlay.enable(only=["good"])


def test_two_plugins_of_one_name(site: Any) -> None:
    site.distribution("a-dist", "1", {"same": "good_plugin"})
    site.distribution("b-dist", "2", {"same": "other_plugin"})
    ascend_overlay.enable()
    assert run() == "other(good(stock))"


def test_two_overlays_of_one_name(site: Any) -> None:
    site.write({"twin_plugin.py": GOOD.format(name="good")})
    site.distribution("a-dist", "1", {"one": "good_plugin"})
    site.distribution("b-dist", "2", {"two": "twin_plugin"})
    # The next enable() says it again.
    for _ in range(2):
        with pytest.raises(PluginError) as raised:
            ascend_overlay.enable()
        for part in ("plugin 'one' of a-dist 1", "plugin 'two' of b-dist 2", "an overlay named 'good'", "rename one"):
            assert part in str(raised.value)


def test_plugin_by_module_name(site: Any) -> None:
    ascend_overlay.enable(load=["good_plugin"])
    assert run() == "good(stock)"
    with pytest.raises(PluginError, match=r"plugin 'god_plugin' cannot be loaded.*Correct the name in load="):
        ascend_overlay.enable(load=["god_plugin"])


def test_plugin_registered_by_hand() -> None:
    good = importlib.import_module("good_plugin")
    ascend_overlay.register(good)
    ascend_overlay.register(good)
    ascend_overlay.enable(load=["good_plugin"])
    assert run() == "good(stock)"
    assert ascend_overlay.ledger().entries[0].plugin == "good_plugin"
    with pytest.raises(PluginError, match=r"'good_plugin' already.*register\(plugin, name="):
        ascend_overlay.register(importlib.import_module("other_plugin"), "good_plugin")


@pytest.mark.parametrize("by_name", [True, False])
def test_a_registration_is_taken_back(by_name: bool) -> None:
    plugin = importlib.import_module("good_plugin")
    ascend_overlay.register(plugin, "mine")
    ascend_overlay.enable()
    assert run() == "good(stock)"
    handle = "mine" if by_name else plugin
    with pytest.raises(
        ActivationError, match=r"plugin 'mine' has contributed.*: good; disable\(only=\['good'\]\) first"
    ):
        ascend_overlay.unregister(handle)
    assert run() == "good(stock)"
    ascend_overlay.disable()
    ascend_overlay.unregister(handle)
    ascend_overlay.enable()
    assert run() == "stock"
    with pytest.raises(ConfigError, match="there is no overlay 'good'"):
        ascend_overlay.enable(only=["good"])
    with pytest.raises(PluginError, match=r"no plugin .* was registered by hand"):
        ascend_overlay.unregister(handle)
    ascend_overlay.register(importlib.import_module("other_plugin"), "mine")
    ascend_overlay.register(plugin, "mine too")
    ascend_overlay.enable(only=["good"])
    assert run() == "good(stock)"
    ascend_overlay.enable()
    assert run() == "other(good(stock))" or run() == "good(other(stock))"


@pytest.mark.parametrize(
    ("handle", "why"),
    [
        ("mien", "no plugin 'mien' was registered by hand; there are: mine. Did you mean 'mine'"),
        (importlib, "no plugin the module importlib was registered by hand"),
        (None, r"no plugin None \(NoneType\) was"),
        ("good_plugin", "was registered by hand; .* load= is left out by enable"),
    ],
)
def test_only_what_was_registered_by_hand_is_taken_back(handle: Any, why: str) -> None:
    ascend_overlay.register(importlib.import_module("other_plugin"), "mine")
    ascend_overlay.enable(load=["good_plugin"])
    with pytest.raises(PluginError, match=why):
        ascend_overlay.unregister(handle)


def test_overlay_that_is_not_in_a_list_is_taken(offer: Any) -> None:
    import types

    from ascend_overlay.hooks import hookimpl

    overlay = Overlay("alone", reason="a test")
    overlay.wrap("lib:run")(lambda wrapped, instance, args, kwargs: f"<{wrapped()}>")
    ascend_overlay.register(types.SimpleNamespace(ascend_overlay_overlays=hookimpl(lambda: overlay)), "plug")
    ascend_overlay.enable()
    assert run() == "<stock>"


def wrapping(name: str, target: str = "lib:run") -> Overlay:
    overlay = Overlay(name, reason="a test")
    overlay.wrap(target)(lambda wrapped, instance, args, kwargs: f"<{wrapped()}>")
    return overlay


def test_veto(offer: Any) -> None:
    offer(wrapping("one"), wrapping("two"), select=lambda overlay: "not today" if overlay.name == "one" else None)
    ascend_overlay.enable()
    states = {entry.overlay: (entry.state, entry.reason) for entry in ascend_overlay.ledger()}
    assert states["one"] == ("skipped", "vetoed by plugin 'plugin1': not today") and run() == "<stock>"


def test_observers_are_told_everything(offer: Any) -> None:
    told: list[tuple[str, str, str]] = []

    def applied(entry: Any) -> None:
        told.append(("applied", entry.overlay, entry.state))

    def reverted(entry: Any) -> None:
        told.append(("reverted", entry.overlay, entry.state))

    def failed(entry: Any, error: BaseException) -> None:
        assert isinstance(error, OverlayError) and "lib:missing" in str(error)
        told.append(("failed", entry.overlay, entry.state))

    offer(wrapping("one"), wrapping("two", "lib:missing"), applied=applied, reverted=reverted, failed=failed)
    ascend_overlay.enable(strict=False)
    with pytest.warns(RuntimeWarning):
        run()
    ascend_overlay.disable()
    assert set(told) == {("applied", "one", "applied"), ("failed", "two", "failed"), ("reverted", "one", "reverted")}
    assert told.index(("applied", "one", "applied")) < told.index(("reverted", "one", "reverted"))


def raise_it(**anything: Any) -> None:
    raise ZeroDivisionError("oops")


@pytest.mark.parametrize("hook", ["select", "applied"])
def test_observer_that_raises(offer: Any, hook: str) -> None:
    importlib.import_module("lib")
    functions = {"select": lambda overlay: raise_it(), "applied": lambda entry: raise_it()}
    offer(wrapping("one"), name="plug", **{hook: functions[hook]})
    with pytest.raises(
        PluginError, match=f"plugin 'plug' raised in its hook ascend_overlay_{hook}: ZeroDivisionError: oops"
    ):
        ascend_overlay.enable()
    assert run() == "stock"
    with pytest.warns(RuntimeWarning, match="plugin 'plug' raised"):
        ascend_overlay.enable(strict=False)
    assert run() == "<stock>"


def test_observer_that_raises_while_disabling_leaves_nothing_patched(offer: Any) -> None:
    offer(wrapping("one"), wrapping("two"), reverted=lambda entry: raise_it())
    ascend_overlay.enable()
    run()
    with pytest.raises(PluginError, match="ascend_overlay_reverted"):
        ascend_overlay.disable()
    assert run() == "stock"
    assert ascend_overlay.settings.in_force() is None


@pytest.mark.parametrize("foreign", ["warn", "accept"])
@pytest.mark.parametrize("around", [True, False])
def test_observers_are_told_once_of_what_others_changed(
    offer: Any, monkeypatch: pytest.MonkeyPatch, foreign: str, around: bool
) -> None:
    told: list[tuple[str, str, str]] = []

    def displaced(entry: Any) -> None:
        ascend_overlay.ledger()
        (text,) = entry.foreign()
        told.append((entry.overlay, entry.state, text.partition(";")[0]))

    offer(wrapping("one"), wrapping("two"), displaced=displaced)
    lib = importlib.import_module("lib")
    ascend_overlay.enable(foreign=foreign)
    ascend_overlay.ledger()
    assert told == []
    before = lib.run
    monkeypatch.setattr(lib, "run", (lambda: before()) if around else (lambda: "theirs"))
    ascend_overlay.ledger()
    ascend_overlay.ledger()
    state, what = ("applied", "goes around") if around else ("displaced", "stands in place of")
    assert sorted((overlay, said) for overlay, said, _ in told) == [("one", state), ("two", state)]
    assert all(text.endswith(f"{what} this patch at lib.run") for _, _, text in told)


def test_observer_of_others_changes_that_raises_is_a_warning(offer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(wrapping("one"), displaced=lambda entry: raise_it())
    lib = importlib.import_module("lib")
    ascend_overlay.enable()
    monkeypatch.setattr(lib, "run", lambda: "theirs")
    with pytest.warns(RuntimeWarning, match="ascend_overlay_displaced"):
        assert ascend_overlay.ledger().of("one")[0].state == "displaced"


def test_first_hooks_wait_for_an_answer(offer: Any) -> None:
    offer(wrapping("one"), select=lambda overlay: None)
    offer(wrapping("two"), select=lambda overlay: "the last registered is asked first")
    ascend_overlay.enable()
    assert {entry.reason for entry in ascend_overlay.ledger()} == {
        "vetoed by plugin 'plugin2': the last registered is asked first"
    }
    assert {entry.cause for entry in ascend_overlay.ledger()} == {"veto"}


def test_no_warning_where_all_is_well(site: Any) -> None:
    site.distribution("good-dist", "1.2", {"good": "good_plugin"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ascend_overlay.enable(strict=False)
        run()


def test_specname_is_understood(site: Any) -> None:
    site.write(
        {
            "named_plugin.py": """
                from ascend_overlay.hooks import hookimpl
                from good_plugin import overlay
                @hookimpl(specname="ascend_overlay_overlays")
                def mine(): return [overlay]
            """
        }
    )
    ascend_overlay.enable(load=["named_plugin"])
    assert run() == "good(stock)"


def test_overlay_names(offer: Any) -> None:
    for name in ("", "Upper", "with-dash", "1st", "a b"):
        with pytest.raises(ConfigError, match="cannot name an overlay"):
            Overlay(name, reason="a test")
    with pytest.raises(ConfigError, match="gives no reason"):
        Overlay("one", reason=" ")


# --- plugins and distributions that misbehave -------------------------------------------------------------------------

ENDS = {
    "sys.exit": ("import sys\nsys.exit()", "SystemExit"),
    "sys.exit with a status": ("import sys\nsys.exit(0)", "SystemExit: 0"),
    "an exception of its own": ("class Stop(BaseException): pass\nraise Stop('now')", "Stop: now"),
}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("where", ["import", "hook", "generator", "select"])
@pytest.mark.parametrize("how", list(ENDS))
def test_a_plugin_that_ends_the_program(site: Any, how: str, where: str, strict: bool) -> None:
    code, shown = ENDS[how]
    body = code.replace("\n", "\n    ")
    hook = "select(overlay)" if where == "select" else "overlays()"
    last = "    yield\n" if where == "generator" else ""
    function = f"@hookimpl\ndef ascend_overlay_{hook}:\n    {body}\n{last}"
    source = f"from ascend_overlay.hooks import hookimpl\n{code if where == 'import' else function}\n"
    site.write({"ending_plugin.py": source})
    site.distribution("a-dist", "1", {"good": "good_plugin"})
    site.distribution("z-dist", "1", {"ending": "ending_plugin"})
    sentence = rf"plugin 'ending' of z-dist 1 (cannot be loaded|raised in its hook \w+): {re.escape(shown)}"
    if strict:
        with pytest.raises(PluginError, match=sentence):
            ascend_overlay.enable()
        assert run() == "stock"
    else:
        with pytest.warns(RuntimeWarning, match=sentence):
            ascend_overlay.enable(strict=False)
        assert run() == "good(stock)"


@pytest.mark.parametrize("where", ["condition", "implementation", "call", "undo"])
@pytest.mark.parametrize("how", list(ENDS))
def test_what_a_plugin_gives_ends_the_program(site: Any, how: str, where: str) -> None:
    """sys.exit() is the worst: the program would end with status 0 and no word."""
    code, shown = ENDS[how]
    site.write(
        {
            "ours.py": f"{code}\ndef run(): return 'ours'\n",
            "ending.py": f"def end():\n    {code.replace(chr(10), chr(10) + '    ')}\n",
        }
    )
    overlay = Overlay("ending", reason="a test", when=predicate(_ending, "x") if where == "condition" else None)
    if where in ("call", "undo"):
        overlay.call("lib", do=_ending if where == "call" else _nothing, undo=_ending if where == "undo" else _nothing)
    else:
        overlay.replace("lib:run", "ours:run" if where == "implementation" else "json:dumps")
    if where == "undo":
        ascend_overlay.enable(overlay)
        run()
        ascend_overlay.disable()
        assert shown in ascend_overlay.ledger().of("ending")[-1].reason
        return
    with pytest.raises(OverlayError, match=re.escape(shown)):
        ascend_overlay.enable(overlay)
        run()
    with contextlib.suppress(OverlayError):
        ascend_overlay.disable()


def _ending() -> Any:
    return importlib.import_module("ending").end()


def _nothing() -> None:
    pass


@pytest.mark.parametrize("name", ["evil-dist", "evil_dist", "Evil.Dist", "EVIL--DIST", "the.plug", "The-Plug"])
@pytest.mark.parametrize("way", ["blocked", "allowed"])
def test_names_are_compared_as_installers_do(site: Any, monkeypatch: pytest.MonkeyPatch, name: str, way: str) -> None:
    site.distribution("Evil_Dist", "1", {"the_plug": "good_plugin"})
    site.distribution("other", "1", {"other": "other_plugin"})
    monkeypatch.setenv("ASCEND_OVERLAY_PLUGINS", f"-{name}" if way == "blocked" else name)
    sys.modules.pop("good_plugin", None)
    ascend_overlay.enable()
    assert run() == ("other(stock)" if way == "blocked" else "good(stock)")
    assert ("good_plugin" in sys.modules) is (way == "allowed")


def test_entry_points_of_somebody_that_are_no_text(site: Any) -> None:
    site.distribution("good-dist", "1.2", {"good": "good_plugin"})
    site.distribution("broken", "1", {})
    (site.folder / "broken-1.dist-info" / "entry_points.txt").write_bytes(b"[console_scripts]\nx = \xff\xfe:y\n")
    ascend_overlay.enable()
    assert run() == "good(stock)"
    (entry,) = [entry for entry in ascend_overlay.ledger() if entry.kind == "plugin"]
    assert (entry.state, entry.cause, entry.distribution) == ("skipped", "not asked", "broken")
    assert entry.reason.startswith("its entry_points.txt cannot be read, so no plugin of it is found")


@pytest.mark.parametrize("text", ["[ascend_overlay.plugins]\nno equals sign\n", "[ascend_overlay.plugins\nx = y\n"])
def test_entry_points_that_are_none(site: Any, text: str) -> None:
    site.distribution("good-dist", "1.2", {"good": "good_plugin"})
    site.distribution("broken", "1", {})
    (site.folder / "broken-1.dist-info" / "entry_points.txt").write_text(text)
    ascend_overlay.enable()
    assert run() == "good(stock)"


def test_a_distribution_without_a_version(site: Any) -> None:
    site.distribution("versionless", "1", {"good": "good_plugin"})
    (site.folder / "versionless-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: versionless\n")
    ascend_overlay.enable()
    assert run() == "good(stock)"


def test_a_distribution_without_a_name(site: Any) -> None:
    site.distribution("nameless", "1", {"good": "good_plugin"})
    for file in ("METADATA", "PKG-INFO"):
        (site.folder / "nameless-1.dist-info" / file).write_text("Metadata-Version: 2.1\n")
    with pytest.raises(PluginError, match="plugins= names 'x', but no installed plugin"):
        ascend_overlay.enable(plugins=["x"])
    ascend_overlay.enable()
    assert run() == "good(stock)"


def test_names_reach_the_terminal_as_text(site: Any) -> None:
    site.write({"loud_plugin.py": "raise RuntimeError('\\x1b[2J\\x07')\n"})
    site.distribution("loud", "1", {"lo\x1b[31mud": "loud_plugin"})
    with pytest.raises(PluginError) as raised:
        ascend_overlay.enable()
    assert str(raised.value).isprintable() and r"\x1b[2J\x07" in str(raised.value)
