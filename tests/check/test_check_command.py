"""`ascend-overlay check`: what it says of each kind of patch, how it says it, and what it answers to bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from two_trees import Run, write

from ascend_overlay import versions
from ascend_overlay.commands.check import page
from ascend_overlay.lockfile import Lock, Locked, LockedRelease, public

ONLY = ["--only", "steps,quiet,stopping,layers,adding"]

SAID = {
    "steps": ("breaks", "our replacement does not take every call: it takes no positional argument 'more'"),
    "quiet": ("fits", "comments, docstring, annotations or formatting only"),
    "stopping": ("breaks", "gone; perhaps vllm.engine:Engine.halt"),
    "layers": ("breaks", "was a class, is a function"),
    "adding": ("breaks", "is there now, and the patch is to bring it"),
}


@pytest.mark.parametrize("overlay", SAID)
def test_what_is_said_of_an_overlay(found: dict[str, Any], overlay: str) -> None:
    state, why = SAID[overlay]
    assert found[overlay]["state"] == state
    assert any(each["why"].startswith(why) for each in found[overlay]["patches"]), found[overlay]["patches"]


def test_what_implementations_lean_on_is_looked_at(found: dict[str, Any]) -> None:
    leans = {(each["use"]["kind"], each["target"]): each for each in found["layers"]["leans_on"]}
    assert leans["base", "vllm.engine:Layer"]["weight"] == "breaking"
    assert leans["attribute", "vllm.engine:Engine.size"]["weight"] == "none"
    assert leans["attribute", "vllm.engine:Engine.size"]["confidence"] == "likely"


def test_a_range_that_leaves_an_overlay_out_is_said(found: dict[str, Any]) -> None:
    assert found["quiet"]["left_out"] == "it is for vllm >=1.0,<1.1"
    assert found["steps"]["left_out"] is None


def test_what_is_overdue_and_what_is_redundant_is_said(found: dict[str, Any]) -> None:
    assert found["steps"]["remarks"] == ["overdue: it was to be retired with vllm>=1.1"]
    assert found["stopping"]["remarks"][0].startswith("redundant: vllm.engine:extra is there")


def test_a_marker_that_cannot_be_told_is_said(ask: Run, tmp_path: Path) -> None:
    asked = ["--base", "old", "--vllm", "new", "--only", "doubtful"]
    page = tmp_path / "page.html"
    done = ask(["check", *asked, "--json", "--html", str(page)])
    (found,) = json.loads(done.stdout)["releases"][0]["overlays"]
    (said,) = found["doubts"]
    assert (done.returncode, found["state"], found["remarks"]) == (0, "review", [])
    assert said.startswith("perhaps redundant: whether vllm.engine:LIMIT.real is there")
    assert "perhaps redundant" in page.read_text()
    assert "perhaps redundant" in " ".join(ask(["check", *asked]).stdout.split())
    assert "::notice file=mine/my_plugin.py" in ask(["check", *asked, "--format", "github"]).stdout
    items = json.loads(ask(["drift", "old", "new", "--only", "doubtful", "--json"]).stdout)["items"]
    assert [item["todo"] for item in items if item["target"] == "overlay doubtful"] == ["review"]


@pytest.mark.parametrize(
    ("overlay", "weight", "why"),
    [
        ("waiting", "unknown", "'something runs' of overlay 'waiting' cannot be evaluated: RuntimeError: nothing runs"),
        ("elsewhere", "none", "its condition leaves it out: elsewhere: not so that it is elsewhere"),
    ],
)
def test_what_is_not_installed_here_is_judged_by_the_condition(ask: Run, overlay: str, weight: str, why: str) -> None:
    done = ask(["check", "--base", "old", "--vllm", "old", "--only", overlay, "--json"])
    (found,) = json.loads(done.stdout)["releases"][0]["overlays"]
    assert found["patches"][0]["weight"] == weight and why in found["patches"][0]["why"], done.stderr
    assert done.returncode == 0


def test_the_plugin_is_named(found: dict[str, Any]) -> None:
    assert "my_plugin" in found["steps"]["plugin"]


def test_nothing_changed_is_status_0(ask: Run) -> None:
    done = ask(["check", "--base", "old", "--vllm", "old", *ONLY])
    assert (done.returncode, done.stderr) == (0, "")
    assert "5 fit" in done.stdout


def test_ranges_can_be_left_aside(ask: Run) -> None:
    asked = ["check", "--base", "old", "--vllm", "new", "--only", "quiet"]
    assert [ask([*asked, *more]).returncode for more in ([], ["--ignore-ranges"])] == [1, 0]


def test_the_table_says_what_to_look_at(ask: Run) -> None:
    shown = ask(["check", "--base", "old", "--vllm", "new", *ONLY]).stdout
    assert "vllm 1.1.0, compared with 1.0.0" in shown
    for text in (
        "it takes no positional argument 'more'",
        "perhaps vllm.engine:Engine.halt",
        "left out: it is for vllm",
    ):
        assert text in " ".join(shown.split()), text
    assert "in my_layers:MyLayer, line 3" in shown


def test_a_diff_is_shown_on_request(ask: Run) -> None:
    shown = ask(["check", "--base", "old", "--vllm", "new", "--only", "steps", "--diff"]).stdout
    assert "-    def step(self, x):" not in shown
    assert "+def step(self, x, more=False):" in shown


def test_several_releases_are_a_grid(ask: Run) -> None:
    done = ask(["check", "--base", "old", "--vllm", "old", "--vllm", "new", *ONLY])
    assert "overlays by releases" in done.stdout
    row = next(line for line in done.stdout.splitlines() if "quiet" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["quiet", "fits", "(fits)"]


def test_github_shows_it_beside_the_lines(ask: Run) -> None:
    lines = ask(["check", "--base", "old", "--vllm", "new", *ONLY, "--format", "github"]).stdout.splitlines()
    assert all(line.startswith(("::error file=", "::warning file=", "::notice file=")) for line in lines)
    assert any(
        line.startswith("::error file=mine/my_layers.py,line=1::overlay layers on vllm 1.1.0: ") for line in lines
    )


BAD = [
    pytest.param({}, ["--vllm", "nothing_here"], "nothing_here", id="a release that means nothing"),
    pytest.param({"tree/readme.txt": ""}, ["--vllm", "tree"], "has no package 'vllm'", id="a tree that is not vLLM"),
    pytest.param(
        {},
        ["--base", "old", "--vllm", "new", "--only", "nobody"],
        "there is no overlay 'nobody' (in --only)",
        id="a wrong name",
    ),
    pytest.param({"vllm.tar.gz": "no archive"}, ["--vllm", "vllm.tar.gz"], "vllm.tar.gz", id="a broken archive"),
    pytest.param({}, ["--vllm", ">=1,,<2"], ">=1,,<2", id="no range"),
]


@pytest.mark.parametrize(("files", "asked", "said"), BAD)
def test_bad_input_is_one_sentence(ask: Run, trees: Path, files: dict[str, str], asked: list[str], said: str) -> None:
    write(trees, files)
    done = ask(["check", *asked])
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_module_that_this_python_cannot_read_is_unknown_and_not_gone(ask: Run, trees: Path) -> None:
    write(trees / "odd", {"vllm/__init__.py": "", "vllm/engine.py": "def plan(a, b=1:\n"})
    done = ask(["check", "--base", "old", "--vllm", "odd", "--only", "quiet", "--json"])
    (release,) = json.loads(done.stdout)["releases"]
    assert release["overlays"][0]["patches"][0]["weight"] == "unknown"
    assert release["overlays"][0]["state"] == "review"


def test_the_built_in_overlays_fit_the_release_that_is_installed() -> None:
    command = [sys.executable, "-m", "ascend_overlay", "check", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    (found,) = json.loads(done.stdout)["releases"]
    assert {each["overlay"]: each["state"] for each in found["overlays"] if each["state"] != "fits"} == {}
    assert done.returncode == 0 and len(found["overlays"]) > 10


def test_a_lock_of_others_is_not_asked_for_the_built_in_overlays(tmp_path: Path) -> None:
    number = public(str(versions.installed("vllm")))
    lock = tmp_path / "overlay.lock"
    Lock({number: LockedRelease({"vllm.envs:VLLM_PORT": Locked("0123456789abcdef")})}).write(lock)
    command = [sys.executable, "-m", "ascend_overlay", "check", "--only", "layernorm", "--lock", str(lock), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["releases"][0]
    assert done.returncode == 0, done.stdout
    assert "does not have all targets of layernorm, which ascend_overlay answers for" in json.dumps(found)


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ("fits", "1 fits"),
        ("fits fits", "2 fit"),
        ("breaks fits", "1 breaks, 1 fits"),
        ("(breaks) fits", "1 breaks (it is left out by its range), 1 fits"),
        ("(breaks) breaks", "2 break (1 of them left out by its range)"),
        ("(breaks) (breaks) fits", "2 break (all left out by their ranges), 1 fits"),
        ("review (review)", "2 to review; 1 that does not break is left out by its range"),
        (
            "(breaks) (review) (fits)",
            (
                "1 breaks (it is left out by its range), 1 to review, 1 fits; "
                "2 that do not break are left out by their ranges"
            ),
        ),
    ],
)
def test_the_sum(states: str, said: str) -> None:
    weights = {"breaks": "breaking", "review": "behavioural", "fits": "none"}
    overlays = [
        SimpleNamespace(weight=weights[state.strip("()")], ruled_out="a range" if "(" in state else None)
        for state in states.split()
    ]
    judged: Any = SimpleNamespace(overlays=overlays)
    assert page.summary(judged) == said
