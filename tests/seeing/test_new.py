"""`ascend-overlay new`: names that will not do, nothing half written, and a plugin whose tests pass at once."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from scratch import Scratch

from ascend_overlay import Overlay
from ascend_overlay.commands.new import files, locking
from ascend_overlay.errors import ConfigError
from ascend_overlay.lockfile import Lock

Command = Callable[..., Result]
QUEUE = "vllm.v1.core.sched.request_queue"
QUEUES = (
    "class FCFSRequestQueue:\n    def add_request(self, request): ...\ndef create_request_queue(policy, more): ...\n"
)


@pytest.fixture(autouse=True)
def _somewhere(offer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    taken = Overlay("taken_overlay", reason="a test")
    taken.attribute("os:sep", "/")
    offer(taken)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("My-Plugin", "Did you mean 'my_plugin'?"),
        ("1st", "cannot name a plugin"),
        ("a b", "Did you mean 'a_b'?"),
        ("", "cannot name a plugin"),
        ("../up", "Did you mean 'up'?"),
        ("pläne", "cannot name a plugin"),
        ("x" * 61, "60 at most"),
        ("class", "is a word of Python's"),
        ("match", "is a word of Python's"),
        ("yes", "or of the setting ASCEND_OVERLAY"),
        ("json", "there is a module 'json' here"),
        ("tests", "there is a module 'tests' here"),
        ("pytest", "there is a module 'pytest' here"),
        ("installed_one", "a distribution installed-one 3.0 is installed here"),
        ("taken_overlay", "there is an overlay 'taken_overlay' here"),
    ],
)
def test_names_that_will_not_do(command: Command, site: Any, name: str, part: str) -> None:
    site.distribution("installed-one", "3.0")
    done = command("new", name)
    assert done.exit_code == 1 and part in " ".join(done.stderr.split()) and "Traceback" not in done.stderr
    assert os.listdir() == []


def test_what_is_there_stays(command: Command, tmp_path: Path) -> None:
    (tmp_path / "here" / "mine").mkdir()
    (tmp_path / "here" / "mine" / "notes.txt").write_text("mine")
    done = command("new", "mine")
    assert done.exit_code == 1 and "has 'notes.txt' in it" in " ".join(done.stderr.split())
    (tmp_path / "here" / "other").write_text("a file")
    assert "is no folder" in command("new", "other").stderr
    (tmp_path / "here" / "link").symlink_to(tmp_path / "nowhere")
    assert "is no folder" in command("new", "linked", "--into", "link").stderr
    assert sorted(os.listdir()) == ["link", "mine", "other"] and os.listdir("mine") == ["notes.txt"]


def test_a_folder_that_cannot_be_written(command: Command, tmp_path: Path) -> None:
    (tmp_path / "here" / "file").write_text("")
    done = command("new", "mine", "--into", "file/mine")
    assert done.exit_code == 1 and "nothing of it is left" in " ".join(done.stderr.split())
    assert os.listdir() == ["file"]


def test_an_interruption_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    genuine = Path.write_text

    def fail(self: Path, *arguments: Any, **named: Any) -> int:
        written.append(self)
        if len(written) == 4:
            raise KeyboardInterrupt
        return genuine(self, *arguments, **named)

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(KeyboardInterrupt):
        files.write("mine", Path("mine"))
    assert os.listdir() == [] and len(written) == 4


def test_something_that_appears_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = os.rename

    def late(source: Any, target: Any) -> None:
        Path("mine").mkdir()
        Path("mine/late.txt").touch()
        genuine(source, target)

    monkeypatch.setattr(os, "rename", late)
    with pytest.raises(ConfigError, match="nothing of it is left"):
        files.write("mine", Path("mine"))
    assert os.listdir() == ["mine"] and os.listdir("mine") == ["late.txt"]


def test_what_is_written(command: Command, document: Any, tmp_path: Path) -> None:
    (tmp_path / "here" / "empty").mkdir()
    found = document("new", "my_queues", "--into", "empty")
    assert found["folder"] == str(tmp_path / "here" / "empty") and "src/my_queues/plugin.py" in found["files"]
    assert (
        sorted(str(path.relative_to("empty")) for path in Path("empty").rglob("*") if path.is_file()) == found["files"]
    )
    assert oct(Path("empty").stat().st_mode & 0o777) == oct(0o777 & ~files._umask())
    for path in Path("empty").rglob("*.py"):
        compile(path.read_text(encoding="utf-8"), str(path), "exec")
    assert "Next: cd other" in command("new", "other").stdout


def test_no_placeholder_is_left() -> None:
    for path, text in files.texts("my_queues").items():
        left = re.findall(r"\$(?!\{\{)\w*", text)
        assert "$" not in path and left == [], (path, left)
        assert path.endswith((".md", ".lock")) or all(len(line) <= 120 for line in text.splitlines()), path


@pytest.mark.parametrize("number", ["0.31.0", "0.32.0", "0.33.0+cpu", None])
def test_the_lock_is_of_what_is_here_and_of_what_its_workflow_installs(
    command: Command, site: Any, number: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if number is None:
        monkeypatch.setattr(locking, "installed", lambda: None)
    else:
        site.vllm(number, {"vllm/v1/core/sched/request_queue.py": QUEUES})
    assert command("new", "mine").exit_code == 0
    lock = Lock.read("mine/overlay.lock")
    known = Lock.read("mine/overlay.lock").releases
    assert set(known) == {files.CPU, *([number.partition("+")[0]] if number is not None else [])}
    assert lock.plugins == {"mine": "0.1.0"}
    made = f"{QUEUE}:create_request_queue"
    here = {found.targets[made].signature for name, found in known.items() if number and number.startswith(name)}
    assert here == ({"(policy, more)"} if number is not None else set())
    for found in known.values():
        assert set(found.targets) == {made, f"{QUEUE}:FCFSRequestQueue"}
        assert found.leans_on[f"{QUEUE}:FCFSRequestQueue.add_request"].by == ("mine",)
    # What was read of the plugin is not left in this process.
    assert not [name for name in sys.modules if name.partition(".")[0] == "mine"]


@pytest.mark.vllm
def test_the_lock_that_is_known_is_that_of_the_release(tmp_path: Path) -> None:
    release = locking.installed()
    if release is None or release.version != files.CPU:
        pytest.skip(f"vllm {files.CPU} is not installed here")
    files.write("my_queues", tmp_path / "mine")
    file = tmp_path / "known.lock"
    file.write_text(files.texts("my_queues")["overlay.lock"])
    assert Lock.read(file).text() == file.read_text()
    assert Lock.read(file).releases[files.CPU] == locking.of("my_queues", tmp_path / "mine", release)


@pytest.mark.grid
def test_its_tests_pass_at_once(tmp_path: Path) -> None:
    """Written, built, installed, listed and tested as its README says, in an environment of its own.

    docs/seeing_what_runs.md does so in each run of the tests; this one also checks its style.
    """
    environment = Scratch(tmp_path / "scratch")
    environment.run("ascend-overlay", "new", "my_queues")
    project = environment.folder / "my_queues"
    environment.install(project)
    listed = json.loads(environment.run("ascend-overlay", "list", "--only", "my_queues", "--json").stdout)["entries"]
    theirs = [entry for entry in listed if entry["overlay"] == "my_queues"]
    assert [(entry["kind"], entry["state"]) for entry in theirs] == [("subclass", "pending"), ("wrap", "pending")]
    assert {entry["distribution"] for entry in theirs} == {"my-queues"}
    tests = environment.run(environment.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=project)
    assert "4 passed" in tests.stdout and "skipped" not in tests.stdout
    _see_lock(environment, project)
    tools = Path(sys.executable).parent / "ruff"
    if tools.exists():
        environment.run(tools, "check", ".", cwd=project)
        environment.run(tools, "format", "--check", ".", cwd=project)


def _see_lock(environment: Scratch, project: Path) -> None:
    """The lock fits what is here, is what `lock` would write, and its line of the workflow fails where it does not."""
    steps = [line.partition("run: ")[2] for line in (project / ".github/workflows/tests.yml").read_text().splitlines()]
    (check,) = (step for step in steps if step.startswith("ascend-overlay check"))
    assert environment.run(*check.split(), cwd=project).stdout == ""
    again = environment.run("ascend-overlay", "lock", "--only", "my_queues", cwd=project)
    assert "overlay.lock is as it was." in again.stdout
    lock = project / "overlay.lock"
    lock.write_text(lock.read_text().replace("(policy)", "(policy, other)"))
    failed = environment.run(*check.split(), cwd=project, check=False)
    assert failed.returncode == 1 and "was as (policy, other)" in failed.stdout
