"""`ascend-overlay couplings`: what a package takes, and what became of it."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest
from two_trees import Run, write

PACKAGE = {
    "theirs/__init__.py": "",
    "theirs/run.py": """\
        from vllm.engine import Engine, plan

        class Mine(Engine):
            def step(self, x):
                return super().step(x)

        def go(engine: Engine):
            engine.stop()
            return plan(1, b=2)
        """,
    "theirs/plain.py": "import json\n",
}


@pytest.fixture(scope="session")
def package(trees: Path) -> Path:
    """Return the folder of a package that takes from vllm.engine."""
    return write(trees / "package", PACKAGE) / "theirs"


def test_what_a_package_takes(ask: Run, package: Path) -> None:
    done = ask(["couplings", str(package), "--vllm", "old", "--json"], load=None)
    document = json.loads(done.stdout)
    assert (done.returncode, document["modules"]) == (0, 1)
    assert {(use["kind"], use["target"]) for use in document["uses"]} == {
        ("import", "vllm.engine:Engine"),
        ("import", "vllm.engine:plan"),
        ("base", "vllm.engine:Engine"),
        ("override", "vllm.engine:Engine.step"),
        ("super call", "vllm.engine:Engine.step"),
        ("call", "vllm.engine:Engine.stop"),
        ("call", "vllm.engine:plan"),
    }


def test_what_another_release_does_to_it(ask: Run, package: Path) -> None:
    done = ask(["couplings", str(package), "--vllm", "old", "--vllm", "new", "--json"], load=None)
    assert done.returncode == 1
    (release,) = json.loads(done.stdout)["releases"]
    breaking = {(each["use"]["kind"], each["target"]) for each in release["findings"] if each["weight"] == "breaking"}
    assert breaking == {("override", "vllm.engine:Engine.step"), ("call", "vllm.engine:Engine.stop")}


def test_check_takes_a_package_as_well(ask: Run, package: Path) -> None:
    asked = [
        ask(words, load=None)
        for words in (
            ["check", str(package), "--base", "old", "--vllm", "new", "--json"],
            ["couplings", str(package), "--vllm", "old", "--vllm", "new", "--json"],
        )
    ]
    assert asked[0].stdout == asked[1].stdout != ""
    assert [done.returncode for done in asked] == [1, 1]
    refused = ask(["check", str(package), "--vllm", "old", "--diff"], load=None)
    assert (refused.returncode, "leave out --only, --load" in refused.stderr) == (2, True)


def test_the_table_has_places(ask: Run, package: Path) -> None:
    shown = ask(["couplings", str(package), "--vllm", "old", "--vllm", "new"], load=None).stdout
    assert "theirs/run.py:4" in shown
    assert "2 breaking" in shown


def test_a_wheel_is_read_without_being_installed(ask: Run, package: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "theirs-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in package.rglob("*.py"):
            archive.write(file, f"theirs/{file.relative_to(package)}")
    done = ask(["couplings", str(wheel), "--vllm", "old", "--json"], load=None)
    assert len(json.loads(done.stdout)["uses"]) == 7, done.stderr


BAD = [
    pytest.param("nothing_of_the_kind", "nothing_of_the_kind", id="a package that is not there"),
    pytest.param("empty", "no Python files", id="a folder without Python"),
    pytest.param("", "an empty text is no package", id="an empty text"),
    pytest.param("old", "is vLLM itself", id="vLLM"),
]


@pytest.mark.parametrize(("wanted", "said"), BAD)
def test_bad_input_is_one_sentence(ask: Run, trees: Path, wanted: str, said: str) -> None:
    (trees / "empty").mkdir(exist_ok=True)
    done = ask(["couplings", wanted, "--vllm", "old"], load=None)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_module_that_this_python_cannot_read_is_said(ask: Run, trees: Path) -> None:
    folder = write(trees / "broken", {"odd/__init__.py": "", "odd/new.py": "from vllm.engine import (\n"}) / "odd"
    done = ask(["couplings", str(folder), "--vllm", "old"], load=None)
    assert done.returncode == 0
    assert "odd/new.py" in done.stderr and "is not read" in done.stderr


def test_what_was_not_read_is_no_answer(ask: Run, trees: Path) -> None:
    folder = write(trees / "half", {"odd/__init__.py": "", "odd/new.py": "from vllm.engine import (\n"}) / "odd"
    for command in ("couplings", "check"):
        done = ask([command, str(folder), "--vllm", "old", "--vllm", "new"], load=None)
        assert (done.returncode, "odd/new.py:1 is not read: this" in " ".join(done.stderr.split())) == (2, True)
    listed = ask(["couplings", str(folder), "--vllm", "old", "--json"], load=None)
    assert len(json.loads(listed.stdout)["unread"]) == 1
    write(trees / "half", {"odd/old.py": "from vllm.engine import Engine\nEngine.stop\n"})
    assert ask(["couplings", str(folder), "--vllm", "old", "--vllm", "new"], load=None).returncode == 1


def test_a_module_that_is_nested_too_deep_is_named_and_the_others_are_read(ask: Run, trees: Path) -> None:
    folder = write(
        trees / "nested", {**PACKAGE, "theirs/deep.py": f"from vllm.engine import plan\nx = {'1 + ' * 700}1\n"}
    )
    done = ask(["couplings", str(folder / "theirs"), "--vllm", "old", "--json"], load=None)
    assert done.returncode == 0, done.stderr
    assert "theirs/deep.py is not read: it is nested deeper than can be followed." in done.stderr.replace("\n", " ")
    assert len(json.loads(done.stdout)["uses"]) == 7


def test_links_to_nothing_and_pipes_are_no_modules(ask: Run, trees: Path) -> None:
    folder = write(trees / "linked", PACKAGE) / "theirs"
    (folder / "gone.py").symlink_to("nowhere.py")
    (folder / "itself.py").symlink_to("itself.py")
    (folder / "around").symlink_to(folder)
    os.mkfifo(folder / "pipe.py")
    done = ask(["couplings", str(folder), "--vllm", "old", "--json"], load=None)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["uses"]) == 7
