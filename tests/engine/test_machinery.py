"""Machinery comes with what is asked for; what is required is in force, or an error."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay, process, settings
from ascend_overlay.conditions import env, role
from ascend_overlay.errors import ConfigError, ForeignError, OverlayError, RuledOutError

Make = Callable[..., Overlay]


def passing(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return wrapped(*args, **kwargs)


@pytest.fixture
def make(site: Any) -> Make:
    names = ("one", "two", "gear", "wheel")
    site.write({f"{name}_lib.py": "def run(): return 'stock'\n" for name in names})

    def overlay(name: str, target: str = "", **options: Any) -> Overlay:
        made = Overlay(name, reason="a test", **options)
        made.wrap(target or f"{name}_lib:run")(passing)
        return made

    return overlay


@pytest.fixture
def gears(make: Make, offer: Any) -> None:
    offer(make("one"), make("two"), make("gear", machinery=True), make("wheel", machinery=True, default=False))


def enabled() -> set[str]:
    return {entry.overlay for entry in ascend_overlay.ledger() if entry.state in ("pending", "applied")}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, {"one", "two", "gear"}),
        ({"only": ["one"]}, {"one", "gear"}),
        ({"only": ["gear"]}, {"gear"}),
        ({"only": ["one", "wheel"]}, {"one", "gear", "wheel"}),
        ({"only": ["one"], "exclude": ["gear"]}, {"one"}),
        ({"exclude": ["gear"]}, {"one", "two"}),
        ({"require": ["one"]}, {"one", "two", "gear"}),
        ({"only": ["one"], "require": ["two"]}, {"one", "two", "gear"}),
    ],
)
def test_what_is_enabled(gears: None, arguments: Any, expected: set[str]) -> None:
    ascend_overlay.enable(**arguments)
    assert enabled() == expected


def test_the_children_enable_the_same(gears: None) -> None:
    ascend_overlay.enable(only=["one"], exclude=["gear"], require=["one"])
    there = settings.Settings.from_env()
    assert (there.only, there.exclude, there.require) == (("one",), ("gear",), ("one",))


def test_machinery_that_was_left_out_stays_out(gears: None) -> None:
    ascend_overlay.enable(exclude=["gear", "two"])
    ascend_overlay.enable(only=["two"])
    assert enabled() == {"one", "two"}
    assert settings.Settings.from_env().exclude == ("gear",)


def test_machinery_leaves_with_the_last_that_needs_it(gears: None) -> None:
    before = dict(os.environ)
    ascend_overlay.enable(only=["one", "two"])
    ascend_overlay.disable(only=["one"])
    assert enabled() == {"two", "gear"}
    ascend_overlay.disable(only=["two"])
    assert enabled() == set() and dict(os.environ) == before


def test_machinery_that_was_asked_for_by_name_stays(gears: None) -> None:
    ascend_overlay.enable(only=["one", "gear"])
    ascend_overlay.disable(only=["one"])
    assert enabled() == {"gear"}


def test_the_ledger_says_which_is_machinery(gears: None) -> None:
    ascend_overlay.enable(only=["one"])
    assert {entry.overlay for entry in ascend_overlay.ledger() if entry.machinery} == {"gear"}
    assert "gear (plugin1, machinery)" in str(ascend_overlay.ledger())


def test_who_leaves_out_what_another_asks_for(gears: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASCEND_OVERLAY", "-one")
    with pytest.raises(ConfigError, match=r"'one' is asked for \(only=\) and left out \(ASCEND_OVERLAY\); take it out"):
        ascend_overlay.enable(only=["one"])
    ascend_overlay.enable(exclude=["gear"])
    assert enabled() == {"two"}


# --- what is required -------------------------------------------------------------------------------------------------


def test_what_is_required_and_left_out(gears: None) -> None:
    with pytest.raises(ConfigError, match=r"'one' is asked for \(require=\) and left out \(exclude=\)"):
        ascend_overlay.enable(require=["one"], exclude=["one"])
    with pytest.raises(ConfigError, match=r"there is no overlay 'onee' \(in require=\)"):
        ascend_overlay.enable(require=["onee"])


STAYS_OFF: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a release": ({"requires": {"sys": ">=5"}}, {}, "sys is not installed"),
    "a condition": ({"when": env("NOBODY_SETS_THIS")}, {}, r"not so that \$NOBODY_SETS_THIS is set"),
    "a veto": (
        {},
        {"select": lambda overlay: "not today" if overlay.name == "one" else None},
        "vetoed by plugin 'plugin1'",
    ),
}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("why", list(STAYS_OFF))
def test_what_is_required_and_stays_off(make: Make, offer: Any, why: str, strict: bool) -> None:
    options, hooks, reason = STAYS_OFF[why]
    offer(make("one", **options), make("two"), **hooks)
    with pytest.raises(
        RuledOutError, match=rf"'one' \(plugin 'plugin1'\) is required by require= and stays off: {reason}"
    ):
        ascend_overlay.enable(require=["one"], strict=strict)
    assert enabled() == set()


def test_another_role_has_no_use_for_it(make: Make, offer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_entered", set())
    offer(make("one", when=role("worker")))
    ascend_overlay.enable(require=["one"])
    (entry,) = ascend_overlay.ledger()
    assert (entry.state, entry.cause) == ("skipped", "role")
    ascend_overlay.api.enter_role("worker")
    importlib.import_module("one_lib")
    assert ascend_overlay.ledger().of("one")[0].state == "applied"


def test_what_is_required_loses_a_conflict(make: Make, offer: Any) -> None:
    first, second = make("one"), make("two")
    for overlay in (first, second):
        overlay.replace("gear_lib:run")(lambda: "ours")
    offer(first, second)
    with pytest.raises(
        RuledOutError, match=r"'one' .*is required by require= and stays off: the overlay two was chosen"
    ):
        ascend_overlay.enable(require=["one"], prefer={"gear_lib:run": "two"}, strict=False)


@pytest.mark.parametrize("strict", [True, False])
def test_what_is_required_and_fails(make: Make, offer: Any, strict: bool) -> None:
    offer(make("one", "one_lib:missing"), make("two"))
    ascend_overlay.enable(require=["one"], strict=strict)
    with pytest.raises(OverlayError, match="has no 'missing'"):
        importlib.import_module("one_lib")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_not_required_may_fail_beside_it(make: Make, offer: Any) -> None:
    offer(make("one"), make("two", "two_lib:missing"))
    ascend_overlay.enable(require=["one"], strict=False)
    importlib.import_module("one_lib")
    importlib.import_module("two_lib")
    assert {entry.overlay: entry.state for entry in ascend_overlay.ledger()} == {"one": "applied", "two": "failed"}


@pytest.mark.parametrize("accepted", ["accept", "warn"])
def test_what_is_required_is_covered_by_somebody_else(make: Make, offer: Any, accepted: str) -> None:
    offer(make("one"), make("two"))
    ascend_overlay.enable(require=["one"], foreign=accepted)
    one, two = importlib.import_module("one_lib"), importlib.import_module("two_lib")
    theirs = two.run, one.run
    two.run = lambda: "theirs"
    ascend_overlay.api.look()
    one.run = lambda: "theirs"
    with pytest.raises(ForeignError, match=r"overlay 'one' .*stands in place of this patch"):
        ascend_overlay.api.look()
    two.run, one.run = theirs


AT_EXIT = """
import sys
import ascend_overlay
ascend_overlay.enable(load=["plug"], require=["one"], only=["one"], exclude=["roles", "caches", "registry",
    "layer_registry", "vllm_cpu"])
import lib
if "displaced" in sys.argv: lib.run = lambda: "theirs"
"""


@pytest.mark.parametrize("displaced", [True, False])
def test_what_is_required_and_lost_at_the_end_is_in_the_ledger(site: Any, python: Any, displaced: bool) -> None:
    """Nothing changes the status of a process that ends; whoever checks the ledgers gets one."""
    plug = "from ascend_overlay import Overlay\nfrom ascend_overlay.hooks import hookimpl\n"
    plug += "one = Overlay('one', reason='a test')\none.wrap('lib:run')(lambda w, i, a, k: w())\n"
    plug += "@hookimpl\ndef ascend_overlay_overlays(): return [one]\n"
    site.write({"lib.py": "def run(): return 'stock'\n", "plug.py": plug, "program.py": AT_EXIT})
    ledger = site.folder / "ledger"
    done = python("program.py", "displaced" if displaced else "", env={"ASCEND_OVERLAY_LEDGER": str(ledger)})
    said = "overlay 'one' (plugin 'plug'), which require= requires, is not in force at the end of this process"
    assert (said in done.stderr) is displaced
    for options in (["--check"], ["--require", "one"]):
        checked = python.command("ledger", str(ledger), *options, check=False)
        assert checked.returncode == int(displaced), checked.stderr
        assert ("displaced: one: lib:run: " in checked.stdout) is displaced


CAUSES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    **{name.removeprefix("a "): (*case[:2], name.removeprefix("a ")) for name, case in STAYS_OFF.items()},
    "role": ({"when": role("worker")}, {}, "role"),
}


@pytest.mark.parametrize("cause", list(CAUSES))
def test_the_cause_of_a_skip(make: Make, offer: Any, cause: str) -> None:
    options, hooks, expected = CAUSES[cause]
    offer(make("one", **options), make("two"), **hooks)
    ascend_overlay.enable()
    (entry,) = ascend_overlay.ledger().of("one")
    assert (entry.state, entry.cause) == ("skipped", expected)
    (other,) = ascend_overlay.ledger().of("two")
    assert (other.state, other.cause) == ("pending", "")


# --- what the children are told ---------------------------------------------------------------------------------------

SAID = {
    "ASCEND_OVERLAY_TRACE": ("1", {"trace": False}),
    "ASCEND_OVERLAY_FUSED_QKV": ("1", {"fused_qkv": False}),
    "ASCEND_OVERLAY_FUSED_QUANT": ("0", {"fused_quant": True}),
    "ASCEND_OVERLAY_FUSED_EXPERTS": ("1", {"fused_experts": False}),
    "ASCEND_OVERLAY_GRAPH_WAIT": ("0", {"graph_wait": True}),
    "ASCEND_OVERLAY_WEIGHT_NZ": ("all", {"weight_nz": "quantized"}),
    "ASCEND_OVERLAY_FOREIGN": ("error", {"foreign": "warn"}),
    "ASCEND_OVERLAY_STRICT": ("0", {"strict": True}),
    "ASCEND_OVERLAY_PREFER": ("one_lib:run=one", {"prefer": {}}),
    "ASCEND_OVERLAY_LOAD": ("no_such_plugin", {"load": []}),
}


@pytest.mark.parametrize("variable", list(SAID))
def test_an_argument_wins_over_a_variable_in_the_children_too(
    gears: None, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    value, argument = SAID[variable]
    monkeypatch.setenv(variable, value)
    ascend_overlay.enable(only=["one"], **argument)
    here, there = settings.current(), settings.Settings.from_env()
    (name,) = argument
    assert getattr(there, name) == getattr(here, name) == type(getattr(here, name))(argument[name])
    ascend_overlay.disable()
    assert os.environ[variable] == value


@pytest.mark.parametrize("variable", [name for name in settings.VARIABLES if "NPU" not in name])
def test_what_children_are_told_of_a_variable_is_what_holds_here(variable: str) -> None:
    """Whatever a variable says; but for a list of plugins, which would have none if it were emptied."""
    said = {variable: "something"}
    there = settings.Settings.from_env(said | settings.Settings().variables(said))
    expected = ("something",) if variable == "ASCEND_OVERLAY_PLUGINS" else None
    assert there == settings.Settings(plugins=expected)


def test_a_list_of_plugins_that_the_program_sets_later_stays(gears: None, monkeypatch: pytest.MonkeyPatch) -> None:
    ascend_overlay.enable(only=["one"])
    monkeypatch.setenv("ASCEND_OVERLAY_PLUGINS", "a-plugin")
    with contextlib.suppress(OverlayError):
        ascend_overlay.enable(only=["two"])
    assert os.environ["ASCEND_OVERLAY_PLUGINS"] == "a-plugin"


def test_what_was_given_as_an_object_is_not_asked_of_the_children(gears: None, make: Make) -> None:
    ours = make("ours", "gear_lib:run")
    ascend_overlay.enable(ours, require=["two"])
    there = settings.Settings.from_env()
    assert (there.only, there.require) == (("two",), ("two",))
    ascend_overlay.disable()
    ascend_overlay.enable(ours, "one", require=["ours"])
    there = settings.Settings.from_env()
    assert (there.only, there.require) == (("one",), ())


def test_what_is_done_inside_a_block_holds_after_it(gears: None) -> None:
    ascend_overlay.enable(only=["two"])
    with ascend_overlay.enabled("one"):
        ascend_overlay.disable(only=["two"])
    assert enabled() == set() and "ASCEND_OVERLAY" not in os.environ
    ascend_overlay.enable(only=["two"])
    with ascend_overlay.enabled("one"):
        ascend_overlay.enable(only=["wheel"])
    assert enabled() == {"two", "wheel", "gear"} and settings.Settings.from_env().only == ("two", "wheel")
    with ascend_overlay.enabled("one"), ascend_overlay.enabled("wheel"):
        pass
    assert enabled() == {"two", "wheel", "gear"} and settings.Settings.from_env().only == ("two", "wheel")


def test_variables_that_contradict_each_other() -> None:
    said = {"ASCEND_OVERLAY": "-one", "ASCEND_OVERLAY_REQUIRE": "one"}
    with pytest.raises(
        ConfigError, match=r"'one' is asked for \(ASCEND_OVERLAY_REQUIRE\) and left out \(ASCEND_OVERLAY\)"
    ):
        settings.Settings.from_env(said)


@pytest.mark.parametrize(
    "arguments",
    [
        *(
            {option: value}
            for option in ("only", "exclude", "require", "load", "plugins")
            for value in (5, "one", [5], [None])
        ),
        *({"prefer": value} for value in ("t=a", 5, ["t"])),
        *({"ledger": value} for value in (5, "a\0b", ["x"])),
    ],
    ids=str,
)
def test_arguments_of_another_kind(gears: None, arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"^{next(iter(arguments))}="):
        ascend_overlay.enable(**arguments)
    assert enabled() == set()


@pytest.mark.parametrize("name", ["0", "off", "1", "On", "yes", "-one", ""])
@pytest.mark.parametrize("option", ["only", "exclude", "require"])
def test_what_names_no_overlay(gears: None, option: str, name: Any) -> None:
    with pytest.raises(ConfigError, match=rf"{option}= has {name!r}"):
        ascend_overlay.enable(**{option: [name]})


@pytest.mark.parametrize("name", ["on", "off", "no", "yes", "true", "false"])
def test_no_overlay_is_called_like_a_switch(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' cannot name an overlay"):
        Overlay(name, reason="a test")
