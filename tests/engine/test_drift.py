"""Overlays against locks: that of the settings, and that which a plugin comes with."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.conditions import role
from ascend_overlay.engine import plan
from ascend_overlay.errors import ConfigError, LockError, RuledOutError, VersionError
from ascend_overlay.lock_comparison import locked
from ascend_overlay.lockfile import Lock, Locked, LockedRelease
from ascend_overlay.releases import Release
from ascend_overlay.settings import Settings
from ascend_overlay.versions import in_range

FILES = {
    "vllm/layers.py": "class Base:\n    def lean(self, x): return x\n"
    "class Layer(Base):\n    def run(self): return 'stock'\n",
    "vllm/tools.py": "def helper(a, b=1): return 'stock'\n",
}
LAYER, TOOL, LEAN = "vllm.layers:Layer.run", "vllm.tools:helper", "vllm.layers:Base.lean"


def run(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> str:
    return f"ours {wrapped(*args, **kwargs)}"


def made(name: str, *targets: str, **options: Any) -> Overlay:
    """Return an overlay that wraps `targets`."""
    overlay = Overlay(name, reason="a test.", **options)
    for target in targets:
        overlay.wrap(target, run)
    return overlay


@pytest.fixture
def lock(site: Any, tmp_path: Path) -> Callable[..., Path]:
    """Write a lock of the two targets as they are, and of what is given; the installed vLLM is 0.32.0+cpu."""
    site.vllm("0.32.0+cpu", FILES)

    def write(number: str = "0.32.0", *, targets: tuple[str, ...] = (LAYER, TOOL), **contents: Any) -> Path:
        found = locked([SimpleNamespace(target=each) for each in targets], Release("", "", site.folder / "vllm"))
        leans = contents.pop("leans_on", {})
        lock = Lock({number: LockedRelease(found, leans)}, **contents)
        lock.write(tmp_path / "overlay.lock")
        return tmp_path / "overlay.lock"

    return write


def notes() -> str:
    return "; ".join(
        f"{overlay}: {text}" for overlay, text in ascend_overlay.ledger().notes if "registered by hand" not in text
    )


def change(site: Any, file: str, before: str, after: str) -> None:
    path = site.folder / "vllm" / file
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))


# --- the lock of the settings -----------------------------------------------------------------------------------------


def test_what_is_as_it_was_locked_applies_without_a_word(lock: Any, offer: Any, caplog: Any) -> None:
    offer(made("one", LAYER, TOOL))
    ascend_overlay.enable(lock=lock())
    assert "vllm.layers" not in sys.modules
    assert importlib.import_module("vllm.layers").Layer().run() == "ours stock"
    assert notes() == "" and caplog.text == ""


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ("return 'stock'", "return 'other'", "vllm.tools:helper has another body"),
        ("a, b=1", "a", "is called as (a), and was as (a, b=1)"),
        ("def helper(a, b=1): return 'stock'", "class helper: pass", "is of the kind 'class', and was 'function'"),
        ("def helper", "def other", "vllm.tools:helper is gone"),
    ],
)
def test_a_target_that_differs_is_refused(lock: Any, offer: Any, site: Any, before: str, after: str, why: str) -> None:
    path = lock()
    change(site, "tools.py", before, after)
    offer(made("one", LAYER, TOOL), made("two", LAYER))
    with pytest.raises(LockError) as raised:
        ascend_overlay.enable(lock=path)
    assert why in str(raised.value) and str(path) in str(raised.value) and "overlay 'one'" in str(raised.value)
    assert {entry.state for entry in ascend_overlay.ledger()} == {"reverted"} and "vllm.tools" not in sys.modules


@pytest.mark.parametrize(("before", "after"), [("stock'\n", "stock'  # a comment\n"), ("a, b=1", "a: int, b: int = 1")])
def test_comments_and_annotations_may_differ(lock: Any, offer: Any, site: Any, before: str, after: str) -> None:
    path = lock()
    change(site, "tools.py", before, after)
    offer(made("one", TOOL))
    ascend_overlay.enable(lock=path)


def test_a_target_that_is_not_locked(lock: Any, offer: Any) -> None:
    offer(made("one", LAYER, TOOL))
    with pytest.raises(LockError, match=r"vllm.tools:helper is not in the lock"):
        ascend_overlay.enable(lock=lock(targets=(LAYER,)))


def test_who_locks_his_own_alone_is_not_asked_for_the_librarys(
    lock: Any, offer: Any, site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is registered by hand comes from no distribution.
    monkeypatch.setattr(plan, "OWN", "")
    offer(made("one", LAYER, TOOL))
    path = lock(targets=(LAYER,), plugins={"ascend_overlay": ascend_overlay.__version__})
    ascend_overlay.enable(lock=path)
    assert "does not have all of its targets: ascend_overlay says for which releases it is" in notes()
    assert importlib.import_module("vllm.tools").helper(1) == "ours stock"
    ascend_overlay.disable()
    change(site, "layers.py", "return 'stock'", "return 'other'")
    with pytest.raises(LockError, match=r"vllm.layers:Layer.run has another body"):
        ascend_overlay.enable(lock=path)


def test_what_an_overlay_leans_on(lock: Any, offer: Any, site: Any) -> None:
    before = locked([SimpleNamespace(target=LEAN)], Release("", "", site.folder / "vllm"))[LEAN]
    path = lock(leans_on={LEAN: Locked(before.fingerprint, before.signature, before.kind, ("one",))})
    offer(made("one", TOOL), made("two", LAYER))
    ascend_overlay.enable(lock=path)
    ascend_overlay.disable()
    change(site, "layers.py", "lean(self, x)", "lean(self, x, skip_scale)")
    with pytest.raises(LockError, match=r"overlay 'one'.*vllm.layers:Base.lean is called as \(self, x, skip_scale\)"):
        ascend_overlay.enable(lock=path)
    ascend_overlay.enable(only=["two"], lock=path)


def test_a_warning_and_no_more(lock: Any, offer: Any, site: Any, caplog: Any) -> None:
    path = lock()
    change(site, "tools.py", "stock", "other")
    offer(made("one", TOOL))
    ascend_overlay.enable(lock=path, drift="warn")
    assert "vllm.tools:helper has another body" in caplog.text
    assert importlib.import_module("vllm.tools").helper(1) == "ours other"
    assert "one: it rests on what is not as in the lock" in notes()


def test_accepted_is_a_note(lock: Any, offer: Any, site: Any, caplog: Any) -> None:
    path = lock()
    change(site, "tools.py", "stock", "other")
    offer(made("one", TOOL))
    ascend_overlay.enable(lock=path, drift="accept")
    assert caplog.text == "" and "vllm.tools:helper has another body" in notes()


def test_who_is_not_strict_does_without_the_overlay(lock: Any, offer: Any, site: Any) -> None:
    path = lock()
    change(site, "tools.py", "stock", "other")
    offer(made("one", TOOL, LAYER), made("two", LAYER))
    with pytest.warns(RuntimeWarning, match="vllm.tools:helper has another body"):
        ascend_overlay.enable(lock=path, strict=False)
    assert {(entry.state, entry.cause) for entry in ascend_overlay.ledger().of("one")} == {("skipped", "drift")}
    assert importlib.import_module("vllm.layers").Layer().run() == "ours stock"


def test_what_is_skipped_is_not_revived_by_a_role(lock: Any, offer: Any, site: Any) -> None:
    path = lock()
    change(site, "tools.py", "stock", "other")
    offer(made("one", TOOL, when=role("main")), made("two", LAYER))
    with pytest.warns(RuntimeWarning):
        ascend_overlay.enable(lock=path, strict=False)
    ascend_overlay.api._engine._reconsider_roles()
    assert [entry.cause for entry in ascend_overlay.ledger().of("one")] == ["drift"]


def test_what_is_required_is_an_error_in_any_case(lock: Any, offer: Any, site: Any) -> None:
    path = lock()
    change(site, "tools.py", "stock", "other")
    offer(made("one", TOOL))
    with pytest.raises((LockError, RuledOutError), match="has another body"):
        ascend_overlay.enable(lock=path, strict=False, require=["one"])


def test_a_release_that_is_not_locked_is_compared_with_the_nearest_before(lock: Any, offer: Any, site: Any) -> None:
    path = lock("0.31.0")
    offer(made("one", TOOL))
    ascend_overlay.enable(lock=path)
    assert "one: the lock does not have vllm 0.32.0+cpu; what the overlay rests on is as in 0.31.0" in notes()
    ascend_overlay.disable()
    change(site, "tools.py", "stock", "other")
    with pytest.raises(LockError, match=r"vllm.tools:helper has another body since 0.31.0"):
        ascend_overlay.enable(lock=path)


def test_a_release_before_all_that_are_locked(lock: Any, offer: Any) -> None:
    offer(made("one", TOOL))
    with pytest.raises(LockError, match=r"vllm 0.32.0\+cpu is here, and the lock has neither it nor an earlier one"):
        ascend_overlay.enable(lock=lock("0.33.0"))


def test_targets_of_others_are_none_of_the_locks_business(lock: Any, offer: Any, site: Any) -> None:
    site.write({"other/__init__.py": "", "other/tools.py": "def helper(): return 'stock'\n"})
    offer(made("one", "other.tools:helper"))
    ascend_overlay.enable(lock=lock())
    assert importlib.import_module("other.tools").helper() == "ours stock"


@pytest.mark.parametrize("text", ["", "format = 2", "<<<<<<< HEAD"])
def test_a_lock_that_is_none_stops_in_any_case(lock: Any, offer: Any, text: str) -> None:
    path = lock()
    path.write_text(text)
    offer(made("one", TOOL))
    with pytest.raises(LockError, match="write it anew"):
        ascend_overlay.enable(lock=path, strict=False)
    path.unlink()
    with pytest.raises(LockError, match="there is no lock"):
        ascend_overlay.enable(lock=path, drift="accept")
    ascend_overlay.enable()


PLUGIN = """
from ascend_overlay import Overlay
from ascend_overlay.hooks import hookimpl
overlay = Overlay("theirs", reason="a test.")
@overlay.wrap("vllm.tools:helper")
def wrapper(wrapped, instance, args, kwargs):
    return "theirs"
@hookimpl
def ascend_overlay_overlays():
    return [overlay]
"""


@pytest.mark.parametrize(
    ("plugins", "why"),
    [
        ({}, "the lock has no plugin of their-plugin"),
        ({"their-plugin": "1.1"}, "the lock has their-plugin 1.1, and 1.2 is installed"),
        ({"Their.Plugin": "1.2"}, None),
    ],
)
def test_plugins(lock: Any, engine: Any, site: Any, plugins: dict[str, str], why: str | None, caplog: Any) -> None:
    site.write({"theirs_plugin.py": PLUGIN})
    site.distribution("their-plugin", "1.2", {"theirs": "theirs_plugin"})
    path = lock(plugins=plugins)
    if why is None:
        ascend_overlay.enable(lock=path)
        return
    with pytest.raises(LockError, match=why):
        ascend_overlay.enable(lock=path)
    with pytest.warns(RuntimeWarning, match=why):
        ascend_overlay.enable(lock=path, strict=False)
    assert [(entry.state, entry.cause) for entry in ascend_overlay.ledger().of("theirs")] == [("skipped", "drift")]
    ascend_overlay.disable()
    ascend_overlay.enable(lock=path, drift="warn")
    assert why in caplog.text and importlib.import_module("vllm.tools").helper(1) == "theirs"
    ascend_overlay.disable()
    ascend_overlay.enable(lock=path, drift="accept")
    assert why in notes()


def test_a_plugin_that_is_not_locked_and_required(lock: Any, engine: Any, site: Any) -> None:
    site.write({"theirs_plugin.py": PLUGIN})
    site.distribution("Their_Plugin", "1.2", {"theirs": "theirs_plugin"})
    ascend_overlay.enable(lock=lock(plugins={"their-plugin": "1.2"}))
    ascend_overlay.disable()
    with (
        pytest.warns(RuntimeWarning, match="the lock has no plugin of Their_Plugin"),
        pytest.raises(RuledOutError, match=r"overlay 'theirs' .* is required by require="),
    ):
        ascend_overlay.enable(lock=lock(), strict=False, require=["theirs"])


def test_nothing_is_read_without_a_lock() -> None:
    """The built-in overlays, on the release of vLLM that is installed."""
    code = """
import sys
import ascend_overlay
ascend_overlay.enable()
unwanted = ["lockfile", "releases", "source.definitions", "source.fingerprints"]
unwanted = [f"ascend_overlay.{name}" for name in unwanted] + ["tomllib", "tomlkit", "unearth", "platformdirs"]
print([name for name in unwanted if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings().updated(lock=Path("x.lock"), drift="warn")
    assert settings.to_env()["ASCEND_OVERLAY_LOCK"] == str(tmp_path / "x.lock")
    again = Settings.from_env(settings.to_env())
    assert (again.lock, again.drift) == (str(tmp_path / "x.lock"), "warn")
    assert (Settings().joined(settings).lock, Settings().joined(settings).drift) == ("x.lock", "error")
    assert "ASCEND_OVERLAY_LOCK" not in Settings().to_env()
    for bad in ({"lock": ""}, {"lock": 1}, {"lock": "a\0"}, {"drift": "perhaps"}):
        with pytest.raises(ConfigError):
            Settings().updated(**bad)
    with pytest.raises(ConfigError, match="ASCEND_OVERLAY_DRIFT is 'perhaps'"):
        Settings.from_env({"ASCEND_OVERLAY_DRIFT": "perhaps"})


# --- the lock that a plugin comes with, on a release that is newer ----------------------------------------------------


@pytest.fixture
def shipped(lock: Any, site: Any, offer: Any) -> Callable[..., None]:
    """Offer overlays for 0.32 together with a lock of it, and have a newer vLLM installed."""

    def ship(*overlays: Overlay, installed: str = "0.33.0", **contents: Any) -> None:
        path = lock(**contents)
        site.vllm(installed)
        offer(*overlays, lock=lambda: str(path))

    return ship


RANGE = {"vllm": ">=0.31,<0.33"}


def test_what_is_unchanged_applies_to_a_newer_release(shipped: Any, caplog: Any) -> None:
    shipped(made("one", LAYER, TOOL, **RANGE))
    ascend_overlay.enable()
    assert importlib.import_module("vllm.tools").helper(1) == "ours stock"
    assert "vllm 0.33.0 is newer than the releases that it is declared for; what it rests on is as in 0.32.0" in notes()
    assert caplog.text == ""
    ascend_overlay.api._engine._reconsider_roles()
    assert {entry.state for entry in ascend_overlay.ledger().of("one")} == {"applied", "pending"}


def test_what_changed_is_skipped_and_told(shipped: Any, site: Any, caplog: Any) -> None:
    shipped(made("one", TOOL, **RANGE), made("two", LAYER, **RANGE))
    change(site, "tools.py", "a, b=1", "a, b, c")
    ascend_overlay.enable()
    (entry,) = ascend_overlay.ledger().of("one")
    assert (entry.state, entry.cause) == ("skipped", "release")
    assert entry.reason == (
        "vllm 0.33.0 is installed; the overlay is for vllm >=0.31,<0.33, and vllm.tools:helper is called as (a, b, c), "
        "and was as (a, b=1) since vllm 0.32.0"
    )
    assert importlib.import_module("vllm.layers").Layer().run() == "ours stock"
    assert "overlay one (plugin 'plugin1') is for other releases and stays off" in caplog.text
    ascend_overlay.disable()
    with pytest.raises(VersionError, match=r"vllm.tools:helper is called as \(a, b, c\)"):
        ascend_overlay.enable(only=["one"])


@pytest.mark.parametrize("installed", ["0.30.0", "0.31.0"])
def test_other_releases_than_newer_ones_are_not_looked_at(shipped: Any, installed: str) -> None:
    shipped(made("one", TOOL, vllm="==0.32.*"), installed=installed)
    ascend_overlay.enable()
    (entry,) = ascend_overlay.ledger().of("one")
    assert (entry.state, entry.cause) == ("skipped", "release") and "helper" not in entry.reason


def test_a_release_that_is_locked_and_not_admitted_is_known_not_to_do(shipped: Any) -> None:
    shipped(made("one", TOOL, vllm="<0.33"), number="0.33.0")
    ascend_overlay.enable()
    assert [entry.cause for entry in ascend_overlay.ledger().of("one")] == ["release"]


def test_an_overlay_that_the_newest_locked_release_rules_out(shipped: Any) -> None:
    shipped(made("one", TOOL, vllm="<0.32"))
    ascend_overlay.enable()
    assert [entry.cause for entry in ascend_overlay.ledger().of("one")] == ["release"]


def test_other_packages_still_count(shipped: Any) -> None:
    shipped(made("one", TOOL, requires={"a_package_that_is_not_there": ">=1"}, **RANGE))
    ascend_overlay.enable()
    (entry,) = ascend_overlay.ledger().of("one")
    assert "a_package_that_is_not_there is not installed" in entry.reason and notes() == ""


def test_patches_of_ranges_apply_as_to_the_newest_that_is_locked(shipped: Any, site: Any) -> None:
    one = Overlay("one", reason="a test.", vllm=">=0.31")
    one.wrap(TOOL, run, vllm="<0.32")
    one.wrap(LAYER, run, vllm=">=0.32,<0.33")
    shipped(one)
    # The target of a patch that is for older releases alone does not count.
    change(site, "tools.py", "stock", "other")
    ascend_overlay.enable()
    states = {entry.target: (entry.state, entry.cause) for entry in ascend_overlay.ledger().of("one")}
    assert states == {TOOL: ("skipped", "release"), LAYER: ("pending", "")}


def test_patches_of_ranges_whose_target_changed(shipped: Any, site: Any) -> None:
    one = Overlay("one", reason="a test.", vllm=">=0.31")
    one.wrap(TOOL, run)
    one.wrap(LAYER, run, vllm=">=0.32,<0.33")
    shipped(one)
    change(site, "layers.py", "'stock'", "'other'")
    ascend_overlay.enable()
    found = {entry.target: (entry.cause, entry.reason) for entry in ascend_overlay.ledger().of("one")}
    assert found[TOOL][0] == "" and found[LAYER][0] == "release"
    assert "vllm.layers:Layer.run has another body since vllm 0.32.0" in found[LAYER][1]


def test_what_a_registration_leans_on_has_to_be_locked(shipped: Any, site: Any) -> None:
    one = Overlay("one", reason="a test.", **RANGE)
    site.write({"models.py": "class Model: pass\n", "vllm/model_executor/models/registry.py": ""})
    one.model("MyForCausalLM", "models:Model")
    two = Overlay("two", reason="a test.", **RANGE)
    two.model("AnotherForCausalLM", "models:Model")
    leans = locked([SimpleNamespace(target=LEAN)], Release("", "", site.folder / "vllm"))[LEAN]
    shipped(one, two, leans_on={LEAN: Locked(leans.fingerprint, leans.signature, leans.kind, ("two",))})
    ascend_overlay.enable()
    assert {entry.cause for entry in ascend_overlay.ledger().of("two")} == {""}
    (entry,) = ascend_overlay.ledger().of("one")
    assert entry.cause == "release" and "the lock has nothing of what MyForCausalLM leans on" in entry.reason


def test_a_lock_that_is_no_path(lock: Any, offer: Any, site: Any) -> None:
    site.vllm("0.33.0", FILES)
    offer(made("one", TOOL, **RANGE), lock=lambda: 7)
    with pytest.raises(ascend_overlay.errors.PluginError, match=r"returns 7 from its hook ascend_overlay_lock"):
        ascend_overlay.enable()


def test_a_plugin_without_a_lock(lock: Any, offer: Any, site: Any) -> None:
    path = lock()
    site.vllm("0.33.0")
    offer(made("one", TOOL, **RANGE))
    # What another plugin comes with is about its own.
    offer(made("two", LAYER, **RANGE), lock=lambda: path)
    ascend_overlay.enable()
    assert [entry.cause for entry in ascend_overlay.ledger().of("one")] == ["release"]
    assert [entry.state for entry in ascend_overlay.ledger().of("two")] == ["pending"]


def test_the_built_in_overlays_come_with_a_lock() -> None:
    from ascend_overlay import overlays

    lock = Lock.read(overlays.ascend_overlay_lock())
    assert lock.newest is not None
    for overlay in overlays.ascend_overlay_overlays():
        assert in_range(overlay.ranges.get("vllm"), lock.newest, whose=overlay.name), overlay.name
        here = [patch.target for patch in overlay.patches if in_range(patch.vllm, lock.newest, whose=patch.target)]
        assert here, f"{overlay.name} is not for {lock.newest}, the newest release that is locked"
        targets = {target for target in here if target.startswith("vllm.")}
        assert targets - set(lock.releases[lock.newest].targets) == set(), overlay.name
    named = lock.releases[lock.newest].targets.values()
    assert all(each.fingerprint for each in named if each.kind not in ("absent", "module"))


@pytest.mark.vllm
def test_the_lock_of_the_built_in_overlays_is_of_the_installed_release() -> None:
    """`python -m ascend_overlay.overlays.locking` writes it anew."""
    from ascend_overlay import overlays
    from ascend_overlay.overlays import locking
    from ascend_overlay.releases import find

    (here,) = find(["installed"])
    shipped = Lock.read(overlays.ascend_overlay_lock())
    version = here.version.partition("+")[0]
    made_here = locking.lock(list(overlays.ascend_overlay_overlays()), [Release("", version, here.folder)])
    assert shipped.releases[version] == made_here.releases[version]
