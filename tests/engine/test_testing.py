"""What the tests of overlays are given: enabled(), assert_effective(), the fixture."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay, process, testing
from ascend_overlay.conditions import env, role
from ascend_overlay.errors import ConfigError

LIBRARY = {
    "lib.py": "def run(): return 'stock'\ndef walk(): return 'stock'\n",
    "more.py": "def run(): return 'stock'\n",
}


@pytest.fixture
def overlay(site: Any) -> Overlay:
    site.write(LIBRARY)
    made = Overlay("one", reason="a test")
    made.replace("lib:run")(lambda: "one")
    return made


def test_enabled_for_a_block_in_this_process_alone(overlay: Overlay) -> None:
    before = dict(os.environ)
    with testing.enabled(overlay):
        assert importlib.import_module("lib").run() == "one"
        assert dict(os.environ) == before
    assert importlib.import_module("lib").run() == "stock" and len(ascend_overlay.ledger().of("one")) == 1


@pytest.mark.parametrize("name", process.ROLES)
def test_a_role_for_a_block(overlay: Overlay, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_entered", set())
    overlay.replace("lib:walk", when=role(name))(lambda: "one")
    with testing.enabled(overlay, role=name):
        testing.assert_effective(overlay)
        assert importlib.import_module("lib").walk() == "one"
    assert importlib.import_module("lib").walk() == "stock" and process.roles() == {"main"}


def test_a_role_that_is_none(overlay: Overlay) -> None:
    sentence = r"'wroker' is not the role of a process; .* Did you mean 'worker'"
    with pytest.raises(ConfigError, match=sentence), testing.enabled(overlay, role="wroker"):
        pass


def test_all_is_effective(overlay: Overlay) -> None:
    overlay.replace("more:run")(lambda: "one")
    overlay.replace("gone:run", vllm="<0.1")(lambda: "one")
    overlay.replace("gone:walk", when=env("NOBODY_SETS_THIS"))(lambda: "one")
    with testing.enabled(overlay):
        testing.assert_effective()
        testing.assert_effective("one")
        assert {entry.state for entry in ascend_overlay.ledger().of("one")} == {"applied", "skipped"}


def _of_another_release(overlay: Overlay) -> None:
    overlay.ranges["sys"] = ">=5"


def _covered(overlay: Overlay) -> None:
    importlib.import_module("lib").run = lambda: "theirs"


WRONG: dict[str, tuple[Callable[[Overlay], Any], str]] = {
    "a target that is gone": (lambda one: one.replace("more:gone")(lambda: 1), r"more:gone .*has no 'gone'"),
    "a patch for another role": (
        lambda one: one.replace("more:run", when=role("worker"))(lambda: 1),
        r"more:run is skipped: not so that the process role is worker; pass role= to testing.enabled\(\)",
    ),
    "another release": (
        _of_another_release,
        "one: replace of lib:run is skipped: sys is not installed; the ",
    ),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("kind", "strict"),
    # Given as an object, an overlay that stays off is an error at once.
    [(kind, strict) for kind in WRONG for strict in (True, False) if not (strict and kind == "another release")],
)
def test_what_is_not_in_force_is_said(overlay: Overlay, kind: str, strict: bool) -> None:
    change, sentence = WRONG[kind]
    change(overlay)
    said = pytest.raises(AssertionError, match=f"(?s)not in force:.*{sentence}")
    with testing.enabled(overlay, strict=strict), said:
        testing.assert_effective()


def test_what_somebody_else_covers_is_said(overlay: Overlay) -> None:
    with testing.enabled(overlay, foreign="accept"):
        testing.assert_effective()
        _covered(overlay)
        with pytest.raises(AssertionError, match=r"one: replace of lib:run is displaced: .*_covered"):
            testing.assert_effective()


def test_a_module_that_cannot_be_imported_is_said(overlay: Overlay, site: Any) -> None:
    site.write({"broken.py": "import no_such_module\n"})
    overlay.replace("broken:run")(lambda: 1)
    with (
        testing.enabled(overlay),
        pytest.raises(AssertionError, match="one: broken cannot be imported: ModuleNotFoundError: No module named"),
    ):
        testing.assert_effective()


def test_what_was_enabled_before_does_not_count(overlay: Overlay) -> None:
    with testing.enabled(overlay):
        pass
    with pytest.raises(ConfigError, match="no overlay is enabled, so there is nothing to look at"):
        testing.assert_effective()
    other = Overlay("other", reason="a test")
    other.replace("more:run")(lambda: "other")
    with testing.enabled(other):
        testing.assert_effective()


def test_an_overlay_that_is_not_enabled(overlay: Overlay) -> None:
    with testing.enabled(overlay), pytest.raises(ConfigError, match=r"'onee' is not enabled; .* Did you mean 'one'"):
        testing.assert_effective("onee")


USES_THE_FIXTURE = """
import pytest
from ascend_overlay import Overlay, ledger, testing

pytest_plugins = ["ascend_overlay.pytest_plugin"]
one, two = Overlay("one", reason="a test"), Overlay("two", reason="a test")
one.replace("lib:run")(lambda: "one")
two.replace("lib:walk")(lambda: "two")

def test_it(overlays):
    import lib
    overlays(one)
    overlays(two, role="worker")
    testing.assert_effective()
    assert (lib.run(), lib.walk()) == ("one", "two")

def test_nothing_is_left():
    import lib
    assert (lib.run(), lib.walk()) == ("stock", "stock")
"""


def test_the_fixture(site: Any, tmp_path: Path) -> None:
    site.write({**LIBRARY, "test_uses.py": USES_THE_FIXTURE})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(site.folder / "test_uses.py")],
        cwd=site.folder,
        env={**os.environ, "PYTHONPATH": str(site.folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout
