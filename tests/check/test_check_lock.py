"""`ascend-overlay check --lock`: what is not as it was when the lock was written, by each way of saying it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from two_trees import NEW, OLD, Run, write

from ascend_overlay.lockfile import Lock

ONLY = ["--only", "steps,layers,quiet"]
STEP, LAYER, SIZE = "vllm.engine:Engine.step", "vllm.engine:Layer", "vllm.engine:Engine.size"


@pytest.fixture(scope="module")
def lock(ask: Run, trees: Path) -> Path:
    """Return a lock of the old tree, and beside it trees with the same number, or none, and other contents."""
    file = trees / "overlay.lock"
    done = ask(["lock", "--file", str(file), "--vllm", "old", *ONLY])
    assert done.returncode == 0, done.stderr
    write(trees / "patched", NEW | {"vllm/version.py": "__version__ = '1.0.0+cpu'\n"})
    write(trees / "older", NEW | {"vllm/version.py": "__version__ = '0.9.0'\n"})
    write(trees / "nameless", {name: text for name, text in NEW.items() if "version" not in name})
    return file


def asked(ask: Run, lock: Path, *options: str, tree: str = "patched") -> subprocess.CompletedProcess[str]:
    return ask(["check", "--base", tree, "--vllm", tree, "--lock", str(lock), *ONLY, *options])


def document(ask: Run, lock: Path, tree: str) -> tuple[int, dict[str, Any]]:
    done = asked(ask, lock, "--json", tree=tree)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["releases"][0]


def test_what_is_as_locked_is_status_0(ask: Run, lock: Path) -> None:
    status, found = document(ask, lock, "old")
    assert status == 0 and found["lock"] == {
        "file": str(lock),
        "compared_with": "1.0.0",
        "troubles": [],
        "notes": [],
    }
    assert [each["not_as_locked"] for each in found["overlays"]] == [[], [], []]
    assert "as it" not in asked(ask, lock, tree="old").stderr
    assert "is as " in asked(ask, lock, tree="old").stdout


def test_what_changed_under_the_same_number_is_found(ask: Run, lock: Path) -> None:
    status, found = document(ask, lock, "patched")
    said = {each["overlay"]: each["not_as_locked"] for each in found["overlays"]}
    assert status == 1 and found["lock"]["notes"] == []
    assert said == {
        "steps": [{"target": STEP, "why": "is called as (self, x, more=False), and was as (self, x)"}],
        "quiet": [],
        "layers": [{"target": LAYER, "why": "is of the kind 'function', and was 'class'"}],
    }


def test_the_table_and_github_say_it(ask: Run, lock: Path) -> None:
    shown = " ".join(asked(ask, lock).stdout.split())
    assert f"{STEP}: is called as (self, x, more=False), and was as (self, x), by the lock" in shown
    assert "drifted" in shown
    lines = asked(ask, lock, "--format", "github").stdout.splitlines()
    (line,) = (each for each in lines if STEP in each and "not as locked" in each)
    assert line.startswith("::error file=mine/my_plugin.py,line=1::overlay steps on vllm 1.0.0+cpu: not as locked")


def test_the_grid_and_the_page_say_it(ask: Run, lock: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = asked(ask, lock, "--vllm", "old", "--html", str(page))
    row = next(line for line in done.stdout.splitlines() if "layers" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["layers", "breaks", "breaks, drifted"]
    text = " ".join(page.read_text().split())
    assert f"not as locked: <code>{STEP}</code> is called as (self, x, more=False), and was as (self, x)" in text
    assert "breaks, drifted" in text


def test_a_release_that_the_lock_lacks(ask: Run, lock: Path) -> None:
    status, found = document(ask, lock, "new")
    assert status == 1 and found["lock"]["notes"] == ["it does not have vllm 1.1.0: compared with 1.0.0"]
    assert [each["overlay"] for each in found["overlays"] if each["not_as_locked"]] == ["steps", "layers"]
    status, found = document(ask, lock, "older")
    assert status == 1 and found["lock"]["compared_with"] is None
    assert found["lock"]["troubles"] == [
        "it has neither vllm 0.9.0 nor an earlier one: lock it (`ascend-overlay lock`)"
    ]
    line = asked(ask, lock, "--format", "github", tree="older").stdout.splitlines()[0]
    assert line.startswith("::error file=overlay.lock,line=1::the lock: it has neither vllm 0.9.0")


def test_an_overlay_that_the_lock_lacks(ask: Run, lock: Path) -> None:
    done = ask(["check", "--base", "old", "--vllm", "old", "--lock", str(lock), "--only", "stopping", "--json"])
    (found,) = json.loads(done.stdout)["releases"][0]["overlays"]
    assert done.returncode == 1
    assert {"target": "vllm.engine:Engine.stop", "why": "is not in the lock"} in found["not_as_locked"]


def test_what_is_leaned_on_counts(ask: Run, lock: Path, trees: Path) -> None:
    engine = NEW["vllm/engine.py"].replace("self.size = size", "self.length = size")
    write(trees / "renamed", NEW | {"vllm/version.py": "__version__ = '1.0.0'\n", "vllm/engine.py": engine})
    _, found = document(ask, lock, "renamed")
    assert {each["overlay"]: each["not_as_locked"] for each in found["overlays"]}["layers"][1] == {
        "target": SIZE,
        "why": "is gone",
    }


def test_the_settings_name_the_lock_and_say_what_a_difference_is(ask: Run, lock: Path, trees: Path) -> None:
    engine = OLD["vllm/engine.py"].replace("return x", "return -x")
    write(trees / "patched_body", OLD | {"vllm/engine.py": engine})

    def status(**variables: str) -> int:
        words = [sys.executable, "-m", "ascend_overlay", "check", "--base", "old", "--vllm", "patched_body"]
        environment = os.environ | {"PYTHONPATH": str(trees / "mine"), **variables}
        more = ["--only", "steps", "--load", "my_plugin"]
        return subprocess.run([*words, *more], capture_output=True, cwd=trees, env=environment, check=False).returncode

    assert status() == 0
    assert status(ASCEND_OVERLAY_LOCK=str(lock)) == 1
    assert status(ASCEND_OVERLAY_LOCK=str(lock), ASCEND_OVERLAY_DRIFT="warn") == 0


def test_a_plugin_that_the_lock_lacks(ask: Run, lock: Path, trees: Path, tmp_path: Path) -> None:
    """The plugin comes from a distribution, at the version in the lock, at another, and at none."""
    info = trees / "mine" / "my_steps-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-steps\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[ascend_overlay.plugins]\nmy_steps = my_plugin\n")
    try:
        said = []
        for plugins in ({"my_steps": "2.0"}, {"my-steps": "1.0"}, {}):
            file = tmp_path / "overlay.lock"
            Lock(Lock.read(lock).releases, plugins).write(file)
            done = ask(["check", "--base", "old", "--vllm", "old", "--lock", str(file), *ONLY, "--json"], load=None)
            said.append((done.returncode, json.loads(done.stdout)["releases"][0]["lock"]["troubles"]))
    finally:
        for each in info.iterdir():
            each.unlink()
        info.rmdir()
    again = ": lock it anew (`ascend-overlay lock`)"
    assert said == [
        (0, []),
        (1, [f"the lock has my-steps 1.0, and 2.0 is installed{again}"]),
        (1, [f"the lock has no plugin of my-steps{again}"]),
    ]


BAD = [
    pytest.param("format = 1\nnonsense = [", "old", "is no TOML", id="a corrupt lock"),
    pytest.param("format = 2\n", "old", "has the format 2", id="another format"),
    pytest.param(None, "old", "there is no lock", id="no lock"),
    pytest.param("format = 1\n", "nameless", "does not say which release it is", id="a tree without a number"),
]


@pytest.mark.parametrize(("text", "tree", "said"), BAD)
def test_bad_input_is_one_sentence(
    ask: Run, lock: Path, tmp_path: Path, text: str | None, tree: str, said: str
) -> None:
    file = tmp_path / "overlay.lock"
    if text is not None:
        file.write_text(text)
    page = tmp_path / "page.html"
    done = asked(ask, file, "--html", str(page), tree=tree)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.split()) and "Traceback" not in done.stderr and done.stderr.count("\n") <= 3
    assert not page.exists()


def test_a_package_is_not_held_against_a_lock(ask: Run, lock: Path) -> None:
    done = ask(["check", "my_plugin", "--lock", str(lock)], load=None)
    assert done.returncode == 2 and "--lock" in done.stderr
