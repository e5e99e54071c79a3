"""The same settings from arguments, options and the environment; and what they refuse."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import ConfigError
from ascend_overlay.settings import WEIGHT_NZ, Settings, declined, in_force, not_in_force, requested, required

names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: name not in ("on", "yes", "true"))
several = st.lists(names, unique=True, max_size=3).map(tuple)


@st.composite
def any_settings(draw: st.DrawFn) -> Settings:
    only = draw(several)
    plugins = draw(st.none() | several)
    return Settings(
        only=only,
        exclude=tuple(name for name in draw(several) if name not in only),
        strict=draw(st.booleans()),
        plugins=plugins,
        blocked=draw(several) if not plugins else (),
        load=draw(several),
        prefer=draw(st.dictionaries(names.map(lambda name: f"pkg.mod:{name}['k']"), names, max_size=2)),
        ledger=draw(st.none() | names.map(lambda name: f"/somewhere/{name}")),
        trace=draw(st.booleans()),
        weight_nz=draw(st.sampled_from(WEIGHT_NZ)),
        fused_qkv=draw(st.booleans()),
        fused_quant=draw(st.booleans()),
        fused_experts=draw(st.booleans()),
        graph_wait=draw(st.booleans()),
    )


@given(any_settings())
def test_a_child_reads_what_the_parent_wrote(settings: Settings) -> None:
    # An allow-list of nothing and a block-list cannot be told apart from a block-list alone, and need not be.
    if settings.plugins == () and settings.blocked:
        return
    assert Settings.from_env(settings.to_env()) == settings


BY: dict[str, tuple[Any, dict[str, str], dict[str, str]]] = {
    "options": (
        "--{}".format,
        {"only": "--only", "exclude": "--exclude", "require": "--require", "ledger": "--ledger"},
        {"exclude": "--exclude", "foreign": "--foreign accept", "prefer": "--prefer 'a b=c'"},
    ),
    "arguments": (
        "{}=".format,
        {"only": "only=", "exclude": "exclude=", "require": "require=", "ledger": "ledger="},
        {
            "exclude": "exclude=",
            "foreign": "foreign='accept' or ASCEND_OVERLAY_FOREIGN=accept",
            "prefer": "prefer='a b=c' or ASCEND_OVERLAY_PREFER='a b=c'",
        },
    ),
}
GIVEN: dict[str, Any] = {"only": ["a"], "exclude": ["b"], "require": ["c"], "ledger": "somewhere"}
VALUES = {"exclude": "", "foreign": "accept", "prefer": "a b=c"}


@pytest.mark.parametrize("by", BY)
def test_a_child_names_what_the_user_gave(by: str) -> None:
    words, sources, advice = BY[by]
    ours = Settings.from_env({}).updated(**GIVEN, by=words)
    theirs = Settings.from_env(ours.variables({}))
    again = Settings.from_env(theirs.variables(ours.variables({})))
    for settings in (ours, theirs, again):
        for name, said in sources.items():
            assert settings.whose(name, {"only": "a", "exclude": "b", "require": "c"}.get(name, "")) == said
        assert {name: settings.advice(name, value) for name, value in VALUES.items()} == advice
        # What nobody gave so is named by its variable.
        assert settings.whose("lock") == "ASCEND_OVERLAY_LOCK"
        assert settings.whose("exclude", "d") == "ASCEND_OVERLAY"
    assert "ASCEND_OVERLAY_GIVEN_BY" not in ours.to_env(), "it is no setting"


@pytest.mark.parametrize(
    "told", ["", ",", ":", "only", ":--only", "only:", "only:ONLY", "\x1b[1m:x", "a:b:c,,:,any:any"]
)
def test_what_is_told_in_another_form_is_nothing(told: str) -> None:
    settings = Settings.from_env({"ASCEND_OVERLAY": "a", "ASCEND_OVERLAY_GIVEN_BY": told})
    assert settings.whose("only") == "ASCEND_OVERLAY"
    assert (
        settings.advice("exclude") == "ASCEND_OVERLAY=-NAME" and settings.advice("exclude", "x") == "ASCEND_OVERLAY=-x"
    )


def test_what_is_required_where_all_is_switched_off() -> None:
    environment = {"ASCEND_OVERLAY_REQUIRE": "a,b"}
    assert Settings.from_env(environment).require == ("a", "b")
    for value in ("0", "off", "No"):
        off = {**environment, "ASCEND_OVERLAY": value}
        assert Settings.from_env(off).require == () and required(off) == ("a", "b")
    assert not_in_force(["a", "b", "a"]) == " Required, and not in force: a, b." and not_in_force([]) == ""


SAID = {
    "1": ((), ()),
    " ON ": ((), ()),
    "a, -b": (("a",), ("b",)),
    "1,-b": ((), ("b",)),
    "True,-b": ((), ("b",)),
}


@pytest.mark.parametrize("text", SAID)
def test_what_the_variable_selects(text: str) -> None:
    found = Settings.from_env({"ASCEND_OVERLAY": text})
    assert (found.only, found.exclude) == SAID[text] and requested({"ASCEND_OVERLAY": text})


@pytest.mark.parametrize("text", ["0 ", " off", "\tNo\r", " "])
def test_a_blank_beside_the_switch_changes_nothing(text: str) -> None:
    assert not requested({"ASCEND_OVERLAY": text})
    assert declined({"ASCEND_OVERLAY": text}) is bool(text.strip())


@pytest.mark.parametrize("text", [",", " , ,"])
@pytest.mark.parametrize("setting", ["", "_REQUIRE", "_PLUGINS", "_LOAD", "_PREFER"])
def test_a_list_in_which_nothing_is_named(setting: str, text: str) -> None:
    """Two variables of a shell that are empty: all third-party plugins were left out by that, and nothing required."""
    with pytest.raises(ConfigError, match=f"ASCEND_OVERLAY{setting} is .*, which names nothing"):
        Settings.from_env({f"ASCEND_OVERLAY{setting}": text})
    assert Settings.from_env({f"ASCEND_OVERLAY{setting}": ""}).only == ()


@pytest.mark.parametrize("text", ["1", "true", "on", "yes"])
def test_what_switches_on_is_no_empty_list_of_plugins(text: str) -> None:
    assert Settings.from_env({"ASCEND_OVERLAY_PLUGINS": text}).plugins == (text,), "a name, which does not exist"


@pytest.mark.parametrize(
    "name", ["ASCEND_OVERLAYS", "ASCEND_OVERLAYREQUIRE", "ASCEND_OVERLAY_STRIKT", "ASCEND_OVERLAY_"]
)
def test_a_variable_that_looks_like_ours_and_is_none(name: str) -> None:
    with pytest.raises(ConfigError, match=f"the environment has {name}, which is no setting.* Did you mean"):
        Settings.from_env({name: "0"})


def test_the_emergency_stop_needs_no_other_variable_to_be_right() -> None:
    off = {"ASCEND_OVERLAY": "0", "ASCEND_OVERLAY_REQUIRE": ","}
    assert required(off) == () and Settings.from_env(off).require == ()


@given(any_settings(), any_settings(), names)
def test_joined_settings_select_what_either_selects(one: Settings, two: Settings, name: str) -> None:
    def selects(settings: Settings, name: str) -> bool:
        return (not settings.only or name in settings.only) and name not in settings.exclude

    for probe in (name, *one.only, *one.exclude, *two.only, *two.exclude):
        assert selects(one.joined(two), probe) == (selects(one, probe) or selects(two, probe)), probe


def test_joined_settings_block_what_either_blocks() -> None:
    one, two = Settings(blocked=("b", "c")), Settings(blocked=("a", "b"))
    assert one.joined(two).blocked == ("a", "b", "c")


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        (("a",), None, ("a",)),
        (("a",), ("b",), ("a", "b")),
        ((), None, ()),
        ((), ("b",), ("b",)),
        (None, None, None),
        (None, ("b",), ("c", "b")),
        (None, (), ("c",)),
    ],
)
def test_an_allow_list_that_was_given_holds(first: Any, second: Any, both: Any) -> None:
    """What is enabled already, of the plugin c, stays."""
    assert Settings(plugins=second).joined(Settings(plugins=first), ["c"]).plugins == both


@given(any_settings(), several)
def test_settings_without_some(settings: Settings, gone: tuple[str, ...]) -> None:
    left = settings.without(gone)
    for name in gone:
        assert name in left.exclude or (left.only and name not in left.only)
    for name in set(settings.only) - set(gone):
        assert name in left.only


ENABLED = [
    ({"only": ["a"]}, {"ASCEND_OVERLAY": "a"}, {"a"}),
    ({"only": ["a", "c"]}, {"ASCEND_OVERLAY": "a, c"}, {"a", "c"}),
    ({"exclude": ["a"]}, {"ASCEND_OVERLAY": "-a"}, {"b"}),
    ({"only": ["a", "b"], "exclude": ["b"]}, {"ASCEND_OVERLAY": "a,b,-b"}, {"a"}),
    ({}, {"ASCEND_OVERLAY": "1"}, {"a", "b"}),
    ({"exclude": ["b"]}, {"ASCEND_OVERLAY": "1,-b"}, {"a"}),
]


@pytest.mark.parametrize("by", ["arguments", "environment"])
@pytest.mark.parametrize(("arguments", "environment", "expected"), ENABLED)
def test_selection(
    offer: Any, monkeypatch: pytest.MonkeyPatch, arguments: Any, environment: Any, expected: set[str], by: str
) -> None:
    overlays = [Overlay("a", reason="x"), Overlay("b", reason="x"), Overlay("c", reason="x", default=False)]
    for overlay in overlays:
        overlay.wrap("shlex:quote")(lambda wrapped, instance, args, kwargs: wrapped(*args, **kwargs))
    offer(*overlays)
    if by == "environment":
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
    ascend_overlay.enable(**(arguments if by == "arguments" else {}))
    assert {entry.overlay for entry in ascend_overlay.ledger()} == expected


def test_arguments_win_over_the_environment(offer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASCEND_OVERLAY", "a")
    monkeypatch.setenv("ASCEND_OVERLAY_STRICT", "0")
    settings = Settings.from_env().updated(only=["b"], strict=True)
    assert settings.only == ("b",) and settings.strict


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1", True),
        ("a,b", True),
        ("-a", True),
        ("TRUE", True),
        ("0", False),
        ("", False),
        ("off", False),
        ("No", False),
    ],
)
def test_requested(value: str, expected: bool) -> None:
    assert requested({"ASCEND_OVERLAY": value}) is expected
    assert not requested({})


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"ASCEND_OVERLAY_STRICT": "maybe"}, "ASCEND_OVERLAY_STRICT is 'maybe'; it takes 1 or 0"),
        ({"ASCEND_OVERLAY_TRACE": "2"}, "ASCEND_OVERLAY_TRACE is '2'; it takes 1 or 0"),
        (
            {"ASCEND_OVERLAY_PREFER": "lib:run"},
            "ASCEND_OVERLAY_PREFER has the entry 'lib:run'; each entry is TARGET=OVERLAY",
        ),
        ({"ASCEND_OVERLAY_PREFER": "=one"}, "each entry is TARGET=OVERLAY"),
    ],
)
def test_variable_that_means_nothing(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Settings.from_env(environment)


@pytest.mark.parametrize("argument", ["only", "exclude", "plugins", "load"])
def test_a_string_where_a_list_belongs(argument: str) -> None:
    with pytest.raises(ConfigError, match=rf"{argument}='abc' is a string; pass a list of names, {argument}=\['abc'\]"):
        ascend_overlay.enable(**{argument: "abc"})


def test_ledger_folder_follows_no_change_of_directory(
    offer: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, site: Any
) -> None:
    site.write({"lib.py": "def run(): pass\n"})
    overlay = Overlay("a", reason="x")
    overlay.wrap("lib:run")(lambda wrapped, instance, args, kwargs: None)
    offer(overlay)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    ascend_overlay.enable(ledger="ledgers")
    monkeypatch.chdir(tmp_path / "elsewhere")
    importlib.import_module("lib")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    (path,) = (tmp_path / "ledgers").glob("*.json")
    assert '"applied"' in path.read_text()


def test_a_nested_block_that_enables_nothing_new_gives_the_settings_back(engine: Any, offer: Any) -> None:
    overlay = Overlay("a", reason="a test")
    overlay.module_alias("no_such_lib", "json")
    offer(overlay)
    with ascend_overlay.enabled(only=["a"], propagate=False):
        before = in_force()
        with ascend_overlay.enabled(only=["a"], strict=False, propagate=False):
            assert in_force() != before
        assert in_force() == before
