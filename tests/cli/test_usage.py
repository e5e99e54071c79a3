"""A command line that means nothing: status 2 and a sentence, whichever command and whichever option it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ascend_overlay.commands import unreached
from ascend_overlay.commands.cli import main

NEEDED = {"run": ["true"], "drift": ["installed", "installed"], "check": ["--vllm", "installed"], "lock": []}
NAMED = ("--only", "--exclude", "--require", "--prefer")
# What was in force in a run may be of overlays that are not installed here: there, a name is a finding.
COMMANDS = {name: command for name, command in main.commands.items() if name != "ledger"}
NAMING = [
    (name, option.opts[0])
    for name, command in COMMANDS.items()
    for option in command.params
    if isinstance(option, click.Option) and option.opts[0] in NAMED
]


@pytest.fixture(autouse=True)
def nothing_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A command may set variables for what it starts, and is run in this process here."""
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    for name in before:
        if name.startswith("ASCEND_OVERLAY"):
            del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


def test_the_table_has_them_all() -> None:
    assert {name for name, _ in NAMING} >= {"run", "list", "check", "drift", "lock", "verify"}


@pytest.mark.parametrize(("command", "option"), NAMING)
def test_a_misspelt_overlay(command: str, option: str) -> None:
    value = "vllm.config:VllmConfig=layernrom" if option == "--prefer" else "layernrom"
    done = CliRunner().invoke(main, [command, option, value, *NEEDED.get(command, [])])
    assert (done.exit_code, type(done.exception)) == (2, SystemExit), done.output
    assert "'layernrom'" in done.output and "Did you mean 'layernorm'?" in done.output


WRONG = [
    (["--plugins", "nobody"], "--plugins names 'nobody', but no installed plugin"),
    (["--lock", ""], "--lock is ''; it takes the path"),
    (["--vllm-release", "abc"], "--vllm-release is 'abc', which is no release"),
    (["--prefer", "abc"], "--prefer has the entry 'abc'"),
    (["--prefer", "vllm.config:Nothing=layernorm"], "'vllm.config:Nothing' (--prefer), which it does not decide"),
    (["--only", ""], "--only names no overlay"),
    (["--only", "1"], "--only has '1', which is no name"),
    (["--require", "roles", "--exclude", "roles"], "(--require) and left out (--exclude)"),
    (["--exclude", "a", "--exclude", ""], "--exclude is given more than once"),
]
ALONE = [
    (["--no-overlays", "--require", "roles"], "leave one of the two out"),
    (["--npu", "sotware"], "--npu is 'sotware'; it takes 'software'"),
    (["--npu-devices", "1"], "add --npu software"),
    (["--npu", "software", "--npu-devices", "x"], "--npu-devices is 'x'"),
    (["--npu", "software", "--npu-memory", "x"], "--npu-memory is 'x'"),
]


@pytest.mark.parametrize(
    ("command", "options", "said"),
    [(command, *case) for command in ("run", "list") for case in WRONG] + [("run", *case) for case in ALONE],
)
def test_an_option_that_means_nothing(command: str, options: list[str], said: str) -> None:
    done = CliRunner().invoke(main, [command, *options, *NEEDED.get(command, [])])
    assert (done.exit_code, type(done.exception)) == (2, SystemExit), done.output
    assert said in done.output


@pytest.mark.parametrize("name", ["ASCEND_OVERLAYS", "ASCEND_OVERLAY_STRIKT", "ASCEND_OVERLAY_STRICT"])
def test_a_variable_that_means_nothing(name: str) -> None:
    done = CliRunner().invoke(main, ["list"], env={name: "maybe"})
    assert done.exit_code == 2 and name in done.output


OPTIONS = [
    ("-I p.py", ["-I"], "-I"),
    ("-E -c pass", ["-E"], "-E"),
    ("-Ic pass", ["-I"], "-I"),
    ("-W ignore -sE p.py", ["-W", "ignore", "-sE"], "-E"),
    ("-X dev -S -m E", ["-X", "dev", "-S"], "-S"),
    ("p.py -I", None, None),
    ("-c -I", None, None),
    ("-m -I", None, None),
    ("-WIgnore -XISE p.py", None, None),
    ("-W -I p.py", None, None),
    ("-us - -I", None, None),
]


@pytest.mark.parametrize(("words", "options", "reason"), OPTIONS)
def test_what_keeps_an_interpreter_from_the_variables(
    words: str, options: list[str] | None, reason: str | None, tmp_path: Path
) -> None:
    found = unreached.isolated([sys.executable, *words.split()], os.environ)
    told = None if found is None else (list(found.options), found.reason)
    assert told == (None if options is None else (options, reason))


def test_a_script_says_how_its_interpreter_is_started(tmp_path: Path) -> None:
    script = tmp_path / "vllm"
    script.write_text(f"#!{sys.executable} -sE\nimport vllm\n")
    script.chmod(0o755)
    path = {"PATH": str(tmp_path)}
    assert unreached.isolated(["vllm", "serve"], path) == (sys.executable, ("-sE",), "-E")
    script.write_text("#!/bin/sh -E\n")
    assert unreached.isolated(["vllm"], path) is unreached.isolated(["nobody"], path) is None
    script.write_bytes(b"\xff\x00")
    assert unreached.isolated(["vllm"], path) is None
