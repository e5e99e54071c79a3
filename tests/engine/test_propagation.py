"""What enable() does to the environment, beside what the program itself does to it."""

from __future__ import annotations

import importlib
import itertools
import os
import sys
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay, api, settings
from ascend_overlay.engine.propagation import startup_folder
from ascend_overlay.errors import OverlayError

RAY = "VLLM_RAY_EXTRA_ENV_VAR_PREFIXES_TO_COPY"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, offer: Any, site: Any) -> None:
    for name in (*[name for name in os.environ if name.startswith("ASCEND_OVERLAY")], "PYTHONPATH", RAY):
        monkeypatch.delenv(name, raising=False)
    site.write({"lib.py": "def run(): return 'stock'\n"})
    overlays = []
    for name in ("one", "two"):
        overlay = Overlay(name, reason="a test")
        overlay.wrap("lib:run")(lambda wrapped, instance, args, kwargs: f"<{wrapped()}>")
        overlays.append(overlay)
    offer(*overlays)


def joined(*parts: str) -> str:
    return os.pathsep.join(parts)


# what was there -> what the program makes of it after enable() -> what is there with, and without us
SEARCH_PATHS = {
    "untouched": (None, None, "{ours}", None),
    "there before": ("/a", None, "{ours}:/a", "/a"),
    "an empty part at the end": ("/a:", None, "{ours}:/a:", "/a:"),
    "an empty part at the start": (":/a", None, "{ours}::/a", ":/a"),
    "an empty part in the middle": ("/a::/b", None, "{ours}:/a::/b", "/a::/b"),
    "put before ours": ("/a", "/new:{now}", "{ours}:/new:/a", "/new:/a"),
    "put after ours": ("/a", "{now}:/new", "{ours}:/a:/new", "/a:/new"),
    "put where nothing was": (None, "/new:{now}", "{ours}:/new", "/new"),
    "an empty part added": ("/a", "{now}:", "{ours}:/a:", "/a:"),
    "ours thrown out": ("/a", "/new", "{ours}:/new", "/new"),
    "all of it put back": ("/a", "/a", "{ours}:/a", "/a"),
    "removed": ("/a", "", "{ours}", None),
}


@pytest.mark.parametrize("case", SEARCH_PATHS)
@pytest.mark.parametrize("again", [0, 1, 3])
def test_the_search_path(case: str, again: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    before, made, with_ours, without = SEARCH_PATHS[case]
    if before is not None:
        monkeypatch.setenv("PYTHONPATH", before)
    ascend_overlay.enable(only=["one"])
    # when the program changes it
    if made == "":
        del os.environ["PYTHONPATH"]
    elif made is not None:
        os.environ["PYTHONPATH"] = made.format(now=os.environ["PYTHONPATH"])
    # then the next enable() goes on from there
    for _ in range(again):
        ascend_overlay.enable()
        assert os.environ["PYTHONPATH"] == with_ours.format(ours=startup_folder())
    # and disable() leaves what is the program's
    ascend_overlay.disable(only=["one"])
    ascend_overlay.disable()
    assert os.environ.get("PYTHONPATH") == without
    assert RAY not in os.environ


CHANGES = [
    ("ASCEND_OVERLAY", "-two"),
    ("ASCEND_OVERLAY_STRICT", "0"),
    ("ASCEND_OVERLAY_LEDGER", "/elsewhere"),
    ("ASCEND_OVERLAY_FOREIGN", "accept"),
    ("SOMETHING_ELSE", "1"),
]


@pytest.mark.parametrize(("name", "value"), CHANGES)
@pytest.mark.parametrize("again", [False, True])
def test_another_variable_that_the_program_sets_stays(
    name: str, value: str, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(name, raising=False)
    ascend_overlay.enable(only=["one"], strict=True)
    os.environ[name] = value
    if again and name != "ASCEND_OVERLAY_LEDGER":
        # Of what the variable leaves out an argument may not ask.
        ascend_overlay.enable(only=["one" if value == "-two" else "two"])
    ascend_overlay.disable()
    assert os.environ.pop(name) == value


@pytest.mark.parametrize("name", ["ASCEND_OVERLAY", RAY])
def test_a_variable_of_ours_that_the_program_removes_stays_removed(name: str) -> None:
    ascend_overlay.enable(only=["one"])
    del os.environ[name]
    ascend_overlay.disable()
    assert name not in os.environ


@pytest.mark.parametrize("before", ["", "MINE", "MINE,", "MINE,YOURS", "ASCEND_OVERLAY", "MINE,ASCEND_OVERLAY"])
@pytest.mark.parametrize("then", [None, "NEW,{now}", "{now},NEW"])
def test_the_prefixes_for_ray(before: str, then: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RAY, before)
    ascend_overlay.enable(only=["one"])
    assert "ASCEND_OVERLAY" in os.environ[RAY].split(",")
    if then is not None:
        os.environ[RAY] = then.format(now=os.environ[RAY])
    ascend_overlay.enable()
    ascend_overlay.disable()
    expected = set(before.split(",")) - {""} | ({"NEW"} if then else set())
    assert set(os.environ[RAY].split(",")) - {""} == expected


def test_a_failing_enable_leaves_the_programs_own_change(site: Any, offer: Any) -> None:
    bad = Overlay("bad", reason="a test")
    bad.wrap("lib:missing")(lambda wrapped, instance, args, kwargs: None)
    offer(bad)
    importlib.import_module("lib")
    ascend_overlay.enable(only=["one"])
    os.environ["PYTHONPATH"] = joined("/new", os.environ["PYTHONPATH"])
    with pytest.raises(OverlayError):
        ascend_overlay.enable(only=["bad"])
    assert os.environ["PYTHONPATH"] == joined(startup_folder(), "/new") or os.environ["PYTHONPATH"] == joined(
        "/new", startup_folder()
    )
    ascend_overlay.disable()
    assert os.environ["PYTHONPATH"] == "/new"


PLUGIN = """
from ascend_overlay import Overlay
from ascend_overlay.hooks import hookimpl
overlay = Overlay("{name}", reason="a test")
overlay.add("lib:{name}", 1)
@hookimpl
def ascend_overlay_overlays(): return [overlay]
"""


@pytest.mark.parametrize("limit", [{"plugins": ["alpha"]}, {"environment": "alpha"}, {"environment": "-beta"}])
def test_a_second_enable_does_not_lift_the_allow_list(
    site: Any, limit: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("alpha", "beta"):
        site.write({f"plugin_{name}.py": PLUGIN.format(name=name)})
        site.distribution(f"{name}-dist", "1.0", {name: f"plugin_{name}"})
    lib: Any = importlib.import_module("lib")
    if "environment" in limit:
        monkeypatch.setenv("ASCEND_OVERLAY_PLUGINS", limit["environment"])
    ascend_overlay.enable(only=["alpha"], **{k: v for k, v in limit.items() if k == "plugins"})
    if "environment" in limit:
        monkeypatch.delenv("ASCEND_OVERLAY_PLUGINS")
    for _ in range(2):
        ascend_overlay.enable(exclude=["one", "two"])
        assert hasattr(lib, "alpha") and not hasattr(lib, "beta")
        assert "plugin_beta" not in sys.modules
    child = settings.Settings.from_env()
    assert child.plugins == ("alpha",) or child.blocked == ("beta",)
    ascend_overlay.disable()


@pytest.mark.parametrize("order", list(itertools.permutations(["one", "two"])))
def test_the_environment_is_as_it_was_when_the_last_one_goes(order: tuple[str, str]) -> None:
    before = dict(os.environ)
    ascend_overlay.enable(only=["one"])
    ascend_overlay.enable(only=["two"])
    for name in order:
        assert api._engine._propagation.active
        ascend_overlay.disable(only=[name])
    assert dict(os.environ) == before


def test_ours_that_was_on_the_search_path_before_stays_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", joined(startup_folder(), "/a"))
    ascend_overlay.enable()
    os.environ["PYTHONPATH"] += f"{os.pathsep}/new"
    ascend_overlay.disable()
    assert os.environ["PYTHONPATH"] == joined(startup_folder(), "/a", "/new")
