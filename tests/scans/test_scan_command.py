"""`ascend-overlay scan`: what it prints, its status, and bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from ascend_overlay.commands import json_output
from ascend_overlay.commands.cli import main
from ascend_overlay.commands.scan.command import save

PATCH = "import vllm.scheduler as s\ndef pick(count): ...\ns.pick = pick\ns.LIMIT = 9\n"


@pytest.fixture
def scan(vllm: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setattr(json_output, "reserve", lambda: lambda document: click.echo(json.dumps(document)))
    folder = vllm().folder

    def invoke(*arguments: object) -> Result:
        given = ["scan", *map(str, arguments), "--vllm", str(folder)]
        return CliRunner().invoke(main, given, env={"COLUMNS": "160"})

    return invoke


def test_the_table_and_the_status(scan: Any, package: Any) -> None:
    done = scan(package(PATCH))
    text = " ".join(done.output.split())
    assert done.exit_code == 1, done.output
    assert "acme/patch.py" in text and "vllm.scheduler:pick" in text and "copies missed" in text
    assert "wrong acme/patch.py:3: vllm.engine:pick imports it and keeps what was there" in text
    assert text.endswith("1 of them is wrong.") and "2 patches" in text


def test_nothing_wrong(scan: Any, package: Any) -> None:
    done = scan(package("import vllm.scheduler as s\ns.LIMIT = 9\n"))
    assert done.exit_code == 0 and "1 patch, held against" in done.output and "nothing is wrong" in done.output


def test_no_patch(scan: Any, package: Any) -> None:
    done = scan(package("x = 1"))
    assert done.exit_code == 0 and "patches nothing of vLLM, as far as its source tells" in done.output


def test_json(scan: Any, package: Any) -> None:
    done = scan(package(PATCH), "--json")
    found = json.loads(done.output)
    assert done.exit_code == 1 and found["wrong"] == 1 and found["not_read"] == []
    first = found["patches"][0]
    assert (first["file"], first["line"], first["kind"], first["target"]) == (
        "acme/patch.py",
        3,
        "attribute",
        "vllm.scheduler:pick",
    )
    assert first["copies_missed"] == ["vllm.engine:pick"] and first["replacement"] == "acme.patch:pick"
    assert first["faults"][0]["level"] == "wrong"


def test_only_what_is_wrong(scan: Any, package: Any) -> None:
    done = scan(package(PATCH), "--wrong")
    assert "LIMIT" not in done.output and "pick" in done.output


def test_what_is_written_passes_check(scan: Any, package: Any, vllm: Any, tmp_path: Path) -> None:
    """A replacement that does not fit would be refused: it is a comment that says so, and the rest stands."""
    into = tmp_path / "written.py"
    text = "import vllm.scheduler as s\ndef pick(count, more): ...\ns.pick = pick\ns.LIMIT = 9\n"
    scan(package(text), "--write", into)
    lines = into.read_text().splitlines()
    assert "# acme/patch.py:3: vllm.scheduler:pick" in lines
    (said,) = (line for line in lines if line.startswith("# not declared"))
    assert "check` says: vllm.scheduler:pick our replacement does not take every call" in said
    assert sum(line.startswith("OVERLAYS.append") for line in lines) == 1
    release = vllm().folder
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [
        "-m",
        "ascend_overlay",
        "check",
        "--base",
        str(release),
        "--vllm",
        str(release),
        "--load",
        "written",
        "--json",
    ]
    done = subprocess.run(
        [sys.executable, *words, "--json"], capture_output=True, text=True, env=environment, check=False
    )
    found = {each["overlay"]: each for each in json.loads(done.stdout)["releases"][0]["overlays"]}
    assert [found[name]["state"] for name in found if "written" in found[name]["plugin"]] == ["fits"]


def test_write(scan: Any, package: Any, tmp_path: Path) -> None:
    into = tmp_path / "written.py"
    assert scan(package(PATCH), "--write", into).exit_code == 1
    text = into.read_text()
    compile(text, "written", "exec")
    again = scan(package(PATCH), "--write", into)
    assert again.exit_code == 2 and "is there already: name another file" in again.output and into.read_text() == text
    wrong = scan(package(PATCH), "--write", tmp_path / "no-module.py")
    assert wrong.exit_code == 2 and "takes the name of a module" in wrong.output


@pytest.mark.parametrize(
    ("into", "said"),
    [("there.py", "is there already"), ("no/where.py", "is in a folder that does not exist"), ("link.py", "is there")],
)
def test_where_it_cannot_be_written_nothing_is_read(scan: Any, tmp_path: Path, into: str, said: str) -> None:
    (tmp_path / "there.py").touch()
    (tmp_path / "link.py").symlink_to("nowhere.py")
    done = scan("nobody_has_this", "--write", tmp_path / into)
    assert done.exit_code == 2 and said in done.output and "nobody_has_this" not in done.output


def test_what_is_not_written_to_its_end_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        save(tmp_path / "half.py", "x = 1\n\udcff")
    assert not list(tmp_path.iterdir())


def test_a_wheel_and_a_source_distribution(scan: Any, package: Any, tmp_path: Path) -> None:
    folder = package(PATCH)
    for name, top in (("acme-1.0-py3-none-any.whl", ""), ("acme-1.0.zip", "acme-1.0/src/")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for file in folder.glob("*.py"):
                archive.write(file, f"{top}acme/{file.name}")
        assert "2 patches" in scan(tmp_path / name).output


def test_an_installed_package(scan: Any, package: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(package({"__init__": "raise SystemExit('imported')", "patch": PATCH}).parent))
    done = scan("acme")
    assert "2 patches" in done.output and "acme" not in sys.modules


BAD: dict[str, tuple[str, str]] = {
    "nobody": ("nobody_has_this", "'nobody_has_this' is no package that is installed here, no folder and no archive"),
    "a path": ("/nowhere/at/all", "there is no '/nowhere/at/all': correct the path."),
    "an archive that is not there": ("gone-1.0.tar.gz", "there is no 'gone-1.0.tar.gz': correct the path."),
    "an empty text": ("", "an empty text is no package: name a folder, an archive, or an installed package."),
    "no Python": ("empty", "has no Python files: name a package, or a folder that has one."),
    "a text file": ("notes.txt", "is neither a folder, an archive nor a Python file"),
    "a broken archive": ("broken-1.0.whl", "is not read: "),
    "a large file": ("large", "large.py' has 105 MB, and a Python file of a package has at most"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_is_one_sentence(scan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    wanted, sentence = BAD[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "broken-1.0.whl").write_bytes(b"PK no")
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "__init__.py").write_text("")
    with (tmp_path / "large" / "large.py").open("wb") as file:
        file.truncate(105_000_000)
    done = scan(wanted)
    assert done.exit_code == 2 and sentence in " ".join(done.output.split()), done.output
    assert isinstance(done.exception, SystemExit) and len(done.output.splitlines()) == 1


def test_a_release_that_is_none(package: Any) -> None:
    done = CliRunner().invoke(main, ["scan", str(package(PATCH)), "--vllm", "/nowhere"])
    assert done.exit_code == 2 and "'/nowhere' is no release of vllm" in done.output


def test_a_file_of_a_newer_python_is_told(scan: Any, package: Any) -> None:
    done = scan(package({"patch": PATCH, "newer": "import vllm\nmatch x -> y:\n"}))
    assert "acme/newer.py:2 is not read: this Python, 3." in " ".join(done.output.split())
    assert "2 patches" in done.output and done.exit_code == 1


@pytest.mark.parametrize(("text", "status"), [("import vllm\nmatch x -> y:\n", 2), ("match x -> y:\n", 0)])
def test_a_file_that_is_not_read_is_no_answer(scan: Any, package: Any, text: str, status: int) -> None:
    done = scan(package({"patch": "import vllm.scheduler as s\ns.LIMIT = 9\n", "newer": text}))
    assert (done.exit_code, "1 patch" in done.output) == (status, True), done.output


def test_a_file_of_vllm_that_is_not_read_is_told(vllm: Any, package: Any) -> None:
    folder = vllm(scheduler="def pick(count) -> :\n").folder
    done = CliRunner().invoke(main, ["scan", str(package(PATCH)), "--vllm", str(folder)], env={"COLUMNS": "160"})
    assert "scheduler.py is not read: this Python, 3." in " ".join(done.output.split()), done.output
    assert "not read" in done.output


def test_nothing_of_a_package_reaches_the_terminal_as_more_than_text(scan: Any, package: Any) -> None:
    done = scan(package("import vllm.scheduler as s\ns.LIMIT = '[bold red]\\x1b[2J'\n"))
    assert "\x1b" not in done.output and "[bold red]" in done.output
