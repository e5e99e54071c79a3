"""The plugin for pytest: its fixtures, what it costs those who do not use it, and the assertions on targets."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ascend_overlay import Overlay, releases, testing
from ascend_overlay.errors import ReleaseError, TargetError
from ascend_overlay.releases import index

LIBRARY = {
    "lib.py": """
        import functools

        def run():
            return 1

        def decorated(function):
            @functools.wraps(function)
            def inner():
                return function()
            return inner

        @decorated
        def walk():
            return 1

        class Layer:
            LIMIT = 1

            def forward(self):
                return 1

            @staticmethod
            def make():
                return 1

            @property
            def size(self):
                return 1

        class Derived(Layer):
            pass
        """,
    "user.py": "from lib import Layer, run\n",
}


@pytest.fixture
def overlay(site: Any, engine: Any) -> Overlay:
    site.write(LIBRARY)
    made = Overlay("one", reason="a test")
    made.replace("lib:run")(lambda: 2)
    made.wrap("lib:Layer.forward")(lambda wrapped, instance, args, kwargs: wrapped())
    return made


ALL = ["lib:run", "lib:walk", "lib:Layer", "lib:Layer.forward", "lib:Layer.make", "lib:Layer.size", "lib:Layer.LIMIT"]


@pytest.mark.parametrize("target", [*ALL, "user:run", "user:Layer", "lib:Derived.forward"])
def test_nobody_has_touched_it(overlay: Overlay, target: str) -> None:
    testing.assert_untouched(target)
    with testing.enabled(overlay):
        pass
    testing.assert_untouched(target)


@pytest.mark.parametrize("target", ["lib:run", "user:run", "lib:Layer.forward"])
def test_a_patch_is_in_force(overlay: Overlay, target: str) -> None:
    with pytest.raises(AssertionError, match="is not patched: no overlay has a patch on it"):
        testing.assert_patched(target)
    with testing.enabled(overlay):
        testing.assert_patched(target)
        testing.assert_patched(target, by="one")
        testing.assert_patched(target, by=overlay)
        with pytest.raises(AssertionError, match=r"is not patched by two:\n.*one: .* is applied"):
            testing.assert_patched(target, by="two")
        with pytest.raises(AssertionError, match="is not untouched: one: "):
            testing.assert_untouched(target)


def test_a_class_counts_with_its_methods(overlay: Overlay) -> None:
    with (
        testing.enabled(overlay),
        pytest.raises(AssertionError, match=r"is not untouched: one: wrap of lib:Layer\.forward"),
    ):
        testing.assert_untouched("lib:Layer")


def test_a_patch_that_is_displaced_is_not_in_force(overlay: Overlay) -> None:
    with testing.enabled(overlay, foreign="accept"):
        lib = importlib.import_module("lib")
        lib.run = lambda: 3  # type: ignore[attr-defined]
        with pytest.raises(AssertionError, match=r"is displaced: .*stands in place of this patch"):
            testing.assert_patched("lib:run")


@pytest.mark.parametrize(
    ("target", "code", "part"),
    [
        ("lib:run", "lib.run = lambda: 3", "its code comes from .*theirs:1"),
        ("lib:run", "\n\n\nlib.run = lambda: 3", "its code comes from .*theirs:4"),
        ("lib:walk", "lib.walk = lambda: 3", "its code comes from .*theirs:1"),
        ("lib:run", "lib.run = print", "and the source defines a function"),
        ("lib:Layer.forward", "lib.Layer.forward = lambda self: 3", "its code comes from .*theirs:1"),
        ("lib:Layer.make", "lib.Layer.make = staticmethod(lambda: 3)", "its code comes from .*theirs:1"),
        ("lib:Layer.size", "lib.Layer.size = property(lambda self: 3)", "its code comes from .*theirs:1"),
        ("lib:Layer", "lib.Layer = type('Mine', (lib.Layer,), {'__module__': 'x'})", "it is the class x:Mine"),
        ("lib:Layer", "lib.Layer = 3", "and the source defines a class"),
        ("lib:run", "lib.run.__code__ = (lambda: 3).__code__", "its code comes from .*theirs:1"),
        (
            "lib:run",
            "import functools; lib.run = functools.wraps(lib.run)(lambda: 3)",
            "its code comes from .*theirs:1",
        ),
    ],
)
def test_what_others_did_is_seen(overlay: Overlay, target: str, code: str, part: str) -> None:
    lib = importlib.import_module("lib")
    exec(compile(code, "theirs", "exec"), {"lib": lib})
    with pytest.raises(AssertionError, match=f"{target} is not untouched: .*{part}"):
        testing.assert_untouched(target)


@pytest.mark.parametrize("check", [testing.assert_patched, testing.assert_untouched])
def test_what_is_no_target(overlay: Overlay, check: Callable[[str], None]) -> None:
    with pytest.raises(TargetError, match="is not a target"):
        check("lib")
    with pytest.raises(ModuleNotFoundError):
        check("nolib:run")
    with pytest.raises(TargetError, match="lib:nope does not exist"):
        testing.assert_untouched("lib:nope")


# --- the fixtures -----------------------------------------------------------------------------------------------------

USES = """
import pytest
from ascend_overlay import testing

def test_release(vllm_tree):
    release = vllm_tree({release!r})
    assert release.version == "0.29.5" and release.sources.text("vllm.a") == "x = 1\\n"
"""


def pytest_in(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=kept | (env or {}),
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_tree_of_vllm(tmp_path: Path) -> None:
    package = tmp_path / "tree" / "vllm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')\n")
    (package / "a.py").write_text("x = 1\n")
    (package / "_version.py").write_text("version = '0.29.5'\n")
    (tmp_path / "test_it.py").write_text(USES.format(release=str(package)))
    done = pytest_in(tmp_path)
    assert "1 passed" in done.stdout, done.stdout


OFFLINE = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null"}


@pytest.mark.parametrize(
    ("release", "env", "part"),
    [
        ("0.29.5", {}, "1 skipped"),
        ("newest", {}, "1 skipped"),
        ("0.29.5", {"CI": "1"}, "1 failed"),
        ("nope", {}, "1 failed"),
        ("/no/such/folder", {}, "1 failed"),
    ],
)
def test_a_tree_that_cannot_be_had(tmp_path: Path, release: str, env: dict[str, str], part: str) -> None:
    (tmp_path / "test_it.py").write_text(USES.format(release=release))
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = pytest_in(tmp_path, env={**OFFLINE, **cache, **env})
    assert part in done.stdout and "Traceback" not in done.stdout, done.stdout
    assert part == "1 failed" or ": no network: " in done.stdout


def test_an_index_that_answers_is_no_reason_to_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    from ascend_overlay import pytest_plugin

    def find(wanted: list[str]) -> list[Any]:
        raise ReleaseError("no release of that number")

    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(releases, "find", find)
    monkeypatch.setattr(index.Index, "releases", lambda self, package: {"0.33.0": None})
    tree = pytest_plugin.vllm_tree.__wrapped__()  # type: ignore[attr-defined]
    with pytest.raises(pytest.fail.Exception, match="no release of that number"):
        tree("0.99.0")
    monkeypatch.setattr(index.Index, "releases", lambda self, package: {})
    with pytest.raises(pytest.skip.Exception, match="no network: no release of that number"):
        tree("0.99.0")


COUNT = """
import json, sys
def test_it():
    ours = ("ascend_overlay", "torch", "vllm")
    print("LOADED", json.dumps(sorted(name for name in sys.modules if name.split(".")[0] in ours)))
"""


def test_it_costs_nothing_where_it_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(COUNT)
    done = pytest_in(tmp_path, "-s")
    (line,) = [line for line in done.stdout.splitlines() if "LOADED" in line]
    assert json.loads(line.partition("LOADED ")[2]) == ["ascend_overlay", "ascend_overlay.pytest_plugin"]


def test_it_can_be_named_twice_and_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["ascend_overlay.pytest_plugin"]\n')
    (tmp_path / "test_it.py").write_text("def test_it(overlays): pass\n")
    assert "1 passed" in pytest_in(tmp_path, "-W", "error").stdout
    (tmp_path / "conftest.py").unlink()
    assert "1 passed" in pytest_in(tmp_path).stdout
    assert "fixture 'overlays' not found" in pytest_in(tmp_path, "-p", "no:ascend_overlay.pytest_plugin").stdout


def test_its_entry_point_has_the_name_of_its_module() -> None:
    """By another name, a conftest.py that names the module would register it a second time, which is an error."""
    import configparser

    found = configparser.ConfigParser()
    found.read(Path(__file__).parents[2] / "setup.cfg", encoding="utf-8")
    line = found["options.entry_points"]["pytest11"].strip()
    assert line == "ascend_overlay.pytest_plugin = ascend_overlay.pytest_plugin"


def test_a_process_that_has_it_before_pytest_is_not_warned(tmp_path: Path) -> None:
    """As where autoload or a parent process has armed the overlays; pytest wants to rewrite what brings a plugin."""
    info = tmp_path / "probe-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: probe\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pytest11]\nprobe = probe\n")
    (info / "RECORD").write_text("ascend_overlay/__init__.py,,\nprobe.py,,\n")
    (tmp_path / "probe.py").write_text("")
    (tmp_path / "test_it.py").write_text("def test_it(): pass\n")
    code = "import sys, ascend_overlay, pytest; sys.exit(pytest.main(['-q', '-W', 'error', '-p', 'no:cacheprovider']))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr
