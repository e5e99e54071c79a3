"""`ascend-overlay lock`: what it writes, what stays, and what it answers to bad input."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from two_trees import OLD, Run, write

from ascend_overlay.commands.lock import command
from ascend_overlay.errors import ConfigError
from ascend_overlay.lockfile import Lock, Locked, LockedRelease
from ascend_overlay.settings import Settings

ONLY = ["--only", "steps,layers"]


def test_targets_and_what_is_leaned_on_are_locked(ask: Run, tmp_path: Path) -> None:
    file = tmp_path / "overlay.lock"
    done = ask(["lock", "--file", str(file), "--vllm", "old", *ONLY])
    assert done.returncode == 0, done.stderr
    assert "2 targets and 1 names that are leaned on in 1.0.0" in done.stdout
    release = Lock.read(file).releases["1.0.0"]
    assert release.targets["vllm.engine:Engine.step"].signature == "(self, x)"
    assert set(release.targets) == {"vllm.engine:Engine.step", "vllm.engine:Layer"}
    # What a method sets on `self` is there, if not in the class.
    assert release.leans_on["vllm.engine:Engine.size"] == Locked("", kind="attribute", by=("layers",))


def test_a_second_release_is_added_and_the_first_stays(ask: Run, tmp_path: Path) -> None:
    file = tmp_path / "overlay.lock"
    for tree in ("old", "new"):
        ask(["lock", "--file", str(file), "--vllm", tree, *ONLY])
    lock = Lock.read(file)
    assert list(lock.releases) == ["1.0.0", "1.1.0"]
    was, now = (lock.releases[name].targets["vllm.engine:Engine.step"] for name in lock.releases)
    assert was.fingerprint != now.fingerprint
    assert now.signature == "(self, x, more=False)"
    ask(["lock", "--file", str(file), "--vllm", "new", "--anew", *ONLY])
    assert list(Lock.read(file).releases) == ["1.1.0"]


_OTHER = """
from ascend_overlay import Overlay
from ascend_overlay.hooks import hookimpl

@hookimpl
def ascend_overlay_overlays():
    other = Overlay("other", reason="a test")
    other.wrap("vllm.engine:Engine.step", "my_layers:around")
    return [other]
"""


@pytest.mark.parametrize(
    ("asked", "plugins"),
    [
        (["--vllm", "old"], {"my-steps", "other-one"}),
        (["--vllm", "old", "--only", "steps"], {"my-steps"}),
        (["--vllm", "old", "--only", "other"], {"other-one"}),
        (["--vllm", "old", "--only", "other,steps"], {"my-steps", "other-one"}),
    ],
)
@pytest.mark.parametrize("before", [None, "old", "new"])
def test_only_plugins_that_it_is_about_are_in_it(
    ask: Run, trees: Path, tmp_path: Path, asked: list[str], plugins: set[str], before: str | None
) -> None:
    """What the file has of another release may be of other plugins, and they stay."""
    write(trees / "mine", {"other_plugin.py": _OTHER})
    made = []
    for name, module in (("my-steps", "my_plugin"), ("other-one", "other_plugin")):
        info = trees / "mine" / f"{name.replace('-', '_')}-2.0.dist-info"
        made.append(info)
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n")
        (info / "entry_points.txt").write_text(f"[ascend_overlay.plugins]\n{module} = {module}\n")
    file = tmp_path / "overlay.lock"
    try:
        if before is not None:
            ask(["lock", "--file", str(file), "--vllm", before], load=None)
        done = ask(["lock", "--file", str(file), *asked], load=None)
    finally:
        for info in made:
            shutil.rmtree(info)
    assert done.returncode == 0, done.stderr
    assert set(Lock.read(file).plugins) == (plugins if before != "new" else {"my-steps", "other-one"})


def test_the_same_again_writes_nothing(ask: Run, tmp_path: Path) -> None:
    file = tmp_path / "overlay.lock"
    ask(["lock", "--file", str(file), "--vllm", "old", *ONLY])
    stamp = file.stat().st_mtime_ns
    assert "is as it was" in ask(["lock", "--file", str(file), "--vllm", "old", *ONLY]).stdout
    assert file.stat().st_mtime_ns == stamp


def test_a_module_that_is_not_read_is_not_locked(ask: Run, trees: Path, tmp_path: Path) -> None:
    write(trees / "newer", {**OLD, "vllm/engine.py": "def plan(a) -> :\n"})
    done = ask(["lock", "--file", str(tmp_path / "overlay.lock"), "--vllm", "newer", *ONLY])
    said = " ".join(done.stderr.split())
    assert done.returncode == 2 and "vllm 1.0.0 cannot be locked: " in said and "engine.py is not read: this" in said
    assert not list(tmp_path.iterdir())


BAD = [
    pytest.param("format = 1\nnonsense = [", ["--vllm", "old"], "is no TOML", id="a corrupt lock"),
    pytest.param("format = 99\n", ["--vllm", "old"], "has the format 99", id="a lock of another format"),
    pytest.param(None, ["--vllm", "unnamed"], "does not say which release it is", id="a tree without a version"),
    pytest.param(
        None, ["--vllm", "old", "--only", "nobody"], "there is no overlay 'nobody' (in --only)", id="a wrong name"
    ),
]


@pytest.mark.parametrize(("text", "asked", "said"), BAD)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    ask: Run, trees: Path, tmp_path: Path, text: str | None, asked: list[str], said: str
) -> None:
    write(trees / "unnamed", {"vllm/__init__.py": "", "vllm/engine.py": "x = 1\n"})
    file = tmp_path / "overlay.lock"
    if text is not None:
        file.write_text(text)
    done = ask(["lock", "--file", str(file), *asked])
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert (file.read_text() if file.exists() else None) == text


def _folder(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


PLACES = [
    pytest.param(_folder, "Is a directory|it is no file", id="a folder"),
    pytest.param(_loop, "Too many levels of symbolic links", id="a link to itself"),
    pytest.param(os.mkfifo, "it is no file", id="a pipe"),
]


@pytest.mark.parametrize("anew", [[], ["--anew"]], ids=["added to", "anew"])
@pytest.mark.parametrize(("made", "said"), PLACES)
def test_what_is_no_file_is_refused_and_stays(
    ask: Run, tmp_path: Path, made: Callable[[Path], None], said: str, anew: list[str]
) -> None:
    file = tmp_path / "overlay.lock"
    made(file)
    before = file.lstat().st_mode
    done = ask(["lock", "--file", str(file), "--vllm", "old", *anew, *ONLY])
    assert done.returncode == 2
    assert re.search(said, done.stderr)
    assert "Traceback" not in done.stderr
    assert file.lstat().st_mode == before
    assert [each.name for each in tmp_path.iterdir()] == [file.name]


def test_what_another_process_wrote_meanwhile_stays(
    trees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "overlay.lock"
    theirs = Lock({"9.9.9": LockedRelease()})

    def meanwhile(*args: object) -> LockedRelease:
        theirs.write(file)
        return LockedRelease()

    monkeypatch.setattr(command, "locked_release", meanwhile)
    with pytest.raises(ConfigError, match="somebody else wrote the lock"):
        command.run([str(trees / "old")], file, Settings(), only=(), anew=False)
    assert list(Lock.read(file).releases) == ["9.9.9"]
