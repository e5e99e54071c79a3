"""`ascend-overlay ledger`: its checks, filters and exit status, over files of any kind."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from ascend_overlay.commands import json_output
from ascend_overlay.commands.cli import main
from ascend_overlay.ledgers import Entry, Ledger, LedgerFolder

Command = Callable[..., Result]


def entry(overlay: str, state: str, **more: Any) -> Entry:
    return Entry(overlay, "plug", "dist", "1.0", f"lib:{overlay}", "wrap", state=state, **more)


def ledger(role: str, *entries: Entry, pid: int = 1, run: str = "aa", **process: Any) -> Ledger:
    what = {"pid": pid, "role": role, "roles": [role], "run": run, "started": f"2026-01-01T00:00:0{pid}", **process}
    return Ledger(what, entries)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    # The real one takes the file descriptor of this process.
    monkeypatch.setattr(json_output, "reserve", lambda: lambda document: click.echo(json.dumps(document)))

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["ledger", str(tmp_path), *arguments], env={"COLUMNS": "160"})

    return invoke


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., None]:
    def write(*ledgers: Ledger) -> None:
        for each in ledgers:
            LedgerFolder(str(tmp_path)).write(each)

    return write


WELL = (
    ledger("main", entry("one", "applied"), entry("two", "pending"), pid=1),
    ledger("engine_core", entry("one", "skipped", cause="role", reason="x"), entry("two", "applied"), pid=2),
)


def test_all_is_well(command: Command, written: Any) -> None:
    written(*WELL)
    assert command().exit_code == 0
    done = command("--check", "--expect", "main,engine_core=1", "--require", "one,two")
    assert done.exit_code == 0 and done.output.endswith("All as demanded, in 2 processes.\n")
    found = json.loads(command("--check", "--json").output)
    assert found["ok"] is True and found["unmet"] == [] and len(found["processes"]) == 2
    assert isinstance(json.loads(command("--json").output), list)


@pytest.mark.parametrize(
    ("ledgers", "options", "unmet"),
    {
        "failed": (
            [ledger("main", entry("one", "failed", reason="no such"))],
            ["--check"],
            "failed: one: lib:one: no such",
        ),
        "a role that nobody plays": (
            [ledger("main", entry("one", "applied"))],
            ["--check", "--role", "worker"],
            "no process plays the role worker, which --role chooses",
        ),
        "displaced": ([ledger("main", entry("one", "displaced"))], ["--check"], "displaced: one: lib:one"),
        "without effect": ([ledger("main", entry("one", "without effect"))], ["--check"], "without effect: one"),
        "a plugin": ([ledger("main", entry("", "failed", reason="it raises"))], ["--check"], "failed: lib:: it raises"),
        "no such process": (
            WELL,
            ["--expect", "worker"],
            "1 worker expected, 0 found; there are: 1 engine_core, 1 main",
        ),
        "too few": (WELL, ["--expect", "main=2"], "2 main expected, 1 found"),
        "not enabled there": (
            [WELL[0], ledger("worker", pid=3)],
            ["--require", "one"],
            "worker (pid 3): the overlay one",
        ),
        "its plugin was not asked": (
            [ledger("main", Entry("", "plug", "d", "1", "plug", "plugin", state="skipped", reason="blocked by X"))],
            ["--require", "one"],
            "main (pid 1): the overlay one is not enabled there; not asked for overlays there: plug (blocked by X)",
        ),
        "applied nowhere": (WELL[:1], ["--require", "two"], "the overlay two is applied in none of 1 processes"),
        "known to nobody": (WELL, ["--require", "three"], "the overlay three is applied in none of 2 processes"),
        **{
            f"out by {cause}": (
                [*WELL, ledger("worker", entry("one", "skipped", cause=cause, reason="so it is"), pid=3)],
                ["--require", "one"],
                "worker (pid 3): one: lib:one: skipped: so it is",
            )
            for cause in ("release", "condition", "veto", "conflict", "not asked")
        },
        "taken back": ([*WELL, ledger("worker", entry("one", "reverted"), pid=3)], ["--require", "one"], "reverted"),
    }.values(),
    ids=lambda value: None,
)
def test_what_is_demanded_is_not_so(command: Command, written: Any, ledgers: Any, options: Any, unmet: str) -> None:
    written(*ledgers)
    assert command().exit_code == 0
    done = command(*options)
    assert done.exit_code == 1
    assert "NOT as demanded: " in done.output and unmet in " ".join(done.output.split())
    found = json.loads(command(*options, "--json").output)
    assert found["ok"] is False and any(unmet in text for text in found["unmet"])


def test_a_role_that_was_entered_counts(command: Command, written: Any) -> None:
    written(ledger("main", roles=["main", "engine_core", "worker"]))
    assert command("--expect", "worker,engine_core,main").exit_code == 0


def test_a_half_written_file_does_not_hide_the_rest(command: Command, written: Any, tmp_path: Path) -> None:
    written(*WELL)
    (tmp_path / "half.json").write_text('{"process": {"pid": 7, ')
    shown = command()
    assert shown.exit_code == 0 and "2 processes" in shown.output and "half.json' is not a ledger" in shown.output
    assert command("--check").exit_code == 1


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (
            ["--expect", "wroker"],
            "--expect has 'wroker'; it takes main, api_server, engine_core, worker, inspection, child.",
        ),
        (["--expect", "wroker"], "Did you mean 'worker'?"),
        (["--state", "aplied", "--json"], "Did you mean 'applied'"),
        (["--run", "ltest"], "Did you mean 'latest'?"),
        (["--expect", "worker=none"], "--expect has 'worker=none'; write ROLE or ROLE=NUMBER, such as worker=2."),
        (["--expect", "worker=0"], "write ROLE or ROLE=NUMBER"),
        (["--expect", ""], "--expect names nothing; leave the option out."),
        (["--require", " , "], "--require names nothing; leave the option out."),
        (["--role", "mian"], "--role has 'mian'"),
        (["--state", "aplied"], "Did you mean 'applied'"),
        (["--overlay", "onee"], "--overlay has 'onee'; it takes one, two. Did you mean 'one'"),
        (["--run", "zz"], "--run has 'zz'; it takes aa, latest."),
    ],
)
def test_a_name_that_means_nothing(command: Command, written: Any, options: list[str], part: str) -> None:
    written(*WELL)
    done = command(*options)
    assert done.exit_code == 2 and part in " ".join(done.output.split())


def test_filters(command: Command, written: Any) -> None:
    written(*WELL)

    def shown(*options: str) -> list[tuple[str, list[str]]]:
        found = json.loads(command(*options, "--json").output)
        return [(one["process"]["role"], [each["overlay"] for each in one["entries"]]) for one in found]

    assert shown("--overlay", "two") == [("main", ["two"]), ("engine_core", ["two"])]
    assert shown("--role", "engine_core") == [("engine_core", ["one", "two"])]
    assert shown("--state", "applied,pending") == [("main", ["one", "two"]), ("engine_core", ["two"])]


def test_one_run_of_several(command: Command, written: Any) -> None:
    written(
        ledger("main", entry("one", "failed", reason="x"), pid=1),
        ledger("main", entry("one", "applied"), pid=2, run="bb"),
    )
    assert command("--check").exit_code == 1
    assert command("--check", "--run", "latest").exit_code == 0
    assert command("--check", "--run", "aa").exit_code == 1


def test_the_latest_run_is_that_which_started_last(command: Command, written: Any) -> None:
    """Machines, and containers, may be in several zones of time."""
    earlier = ledger("main", entry("one", "applied"), started="2026-01-02T01:00:00+0900")
    later = ledger("main", entry("one", "failed", reason="x"), pid=2, run="bb", started="2026-01-01T17:00:00+0000")
    written(earlier, later)
    assert command("--check", "--run", "latest").exit_code == 1
    assert command("--check", "--run", "aa").exit_code == 0


def test_patches_for_other_settings_do_not_count_where_the_overlay_is_in_force(command: Command, written: Any) -> None:
    other = [entry("one", "skipped", cause=cause, reason="so it is") for cause in ("condition", "release")]
    written(ledger("main", entry("one", "applied"), *other))
    assert command("--require", "one").exit_code == 0


def test_what_asks_for_attention_comes_first(command: Command, written: Any) -> None:
    written(ledger("main", entry("fine", "applied"), entry("bad", "applied"), entry("bad", "failed", reason="x")))
    for options in ((), ("--each",)):
        text = command(*options).output
        assert text.index("bad") < text.index("fine") and text.index("failed") < text.index("applied")


def test_width_is_that_of_the_variable(written: Any, tmp_path: Path) -> None:
    written(ledger("main", entry("one", "applied", detail="long " * 50)))
    widths = {}
    for columns in ("60", "90"):
        done = CliRunner().invoke(main, ["ledger", str(tmp_path), "--each"], env={"COLUMNS": columns})
        widths[columns] = max(map(len, done.output.splitlines()))
    assert widths == {"60": 60, "90": 90}


HOSTILE: dict[str, str | bytes] = {
    "nothing": "",
    "half": '{"process": ',
    "a list": "[]",
    "no process": '{"entries": []}',
    "a process of another kind": '{"process": [], "entries": []}',
    "no pid": '{"process": {"role": "main", "started": "x"}, "entries": []}',
    "a role that is a list": '{"process": {"pid": 1, "role": [], "started": "x"}, "entries": []}',
    "not text": b"\xff\xfe{}",
    "nested": "[" * 100_000,
    "entries that are none": '{"process": {"pid": 1, "role": "main", "started": "x"}, "entries": [1]}',
    "an entry without a target": json.dumps({**WELL[0].to_dict(), "entries": [{"overlay": "one"}]}),
    "an unknown state": json.dumps(
        {**WELL[0].to_dict(), "entries": [{**WELL[0].to_dict()["entries"][0], "state": "[b]"}]}
    ),
    "stale that is a number": json.dumps(
        {**WELL[0].to_dict(), "entries": [{**WELL[0].to_dict()["entries"][0], "stale": 5}]}
    ),
    "seconds that are text": json.dumps(
        {**WELL[0].to_dict(), "entries": [{**WELL[0].to_dict()["entries"][0], "seconds": "x"}]}
    ),
    "notes that are none": json.dumps({**WELL[0].to_dict(), "notes": [5]}),
    "operators that are none": json.dumps({**WELL[0].to_dict(), "operators": {"a": "b"}}),
    "a run that is a number": json.dumps({**WELL[0].to_dict(), "process": {**WELL[0].process, "run": 5}}),
    "versions that are a list": json.dumps({**WELL[0].to_dict(), "process": {**WELL[0].process, "versions": ["x"]}}),
    "settings that are text": json.dumps({**WELL[0].to_dict(), "process": {**WELL[0].process, "settings": "x"}}),
    "a role that is a number": json.dumps({**WELL[0].to_dict(), "process": {**WELL[0].process, "roles": [5]}}),
    "a huge number": '{"process": {"pid": 1' + "0" * 5000 + ', "role": "main", "started": "x"}, "entries": []}',
}


@pytest.mark.parametrize("value", [None, 5, [5], {"vllm": []}], ids=str)
@pytest.mark.parametrize("name", ["pid", "role", "roles", "host", "started", "run", "versions", "settings", "argv"])
def test_a_process_of_another_form_breaks_no_command(tmp_path: Path, name: str, value: object) -> None:
    told = {"host": "here", "roles": ["main"], "versions": {"vllm": "0.32.0"}, "settings": {}}
    (tmp_path / "good.json").write_text(json.dumps({**WELL[0].to_dict(), "process": {**WELL[0].process, **told}}))
    told = {**WELL[0].process, **told, name: value}
    (tmp_path / "odd.json").write_text(json.dumps({**WELL[0].to_dict(), "process": told}))
    commands = [["ledger", str(tmp_path)], ["status", "--ledger", str(tmp_path), "--run", "all"]]
    if name in ("role", "versions"):
        # It reads no more of a process, and takes longer.
        commands.append(["explain", "vllm.config:VllmConfig", "--ledger", str(tmp_path)])
    for arguments in commands:
        done = CliRunner().invoke(main, arguments)
        assert done.exception is None or isinstance(done.exception, SystemExit), (arguments, done.exception)


@pytest.mark.parametrize("kind", list(HOSTILE))
@pytest.mark.parametrize("options", [(), ("--each",), ("--json",), ("--check",)])
def test_a_file_that_is_no_ledger_is_one_sentence(command: Command, tmp_path: Path, kind: str, options: Any) -> None:
    content = HOSTILE[kind]
    (tmp_path / "bad.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    done = command(*options)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    assert len(done.output.splitlines()) == 1 and "bad.json' is not a ledger: " in done.output


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_what_is_no_file_is_not_opened(command: Command, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bad.json"
    if kind == "link":
        (tmp_path / "secret").write_text("SECRET")
        path.symlink_to(tmp_path / "secret")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    done = command()
    assert done.exit_code == 1 and "is not a ledger" in done.output and "SECRET" not in done.output


@pytest.mark.parametrize("options", [(), ("--each",), ("--check", "--require", "one")])
def test_nothing_in_a_file_reaches_the_terminal_as_more_than_text(
    command: Command, tmp_path: Path, options: Any
) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07\u202e[bold red]x[/]:smile:\r\x9b"
    data = ledger(
        "main", entry("one", "failed", reason=evil, detail=evil), entry("two", "applied", detail=evil)
    ).to_dict()
    for each in data["entries"]:
        for name in ("overlay", "plugin", "distribution", "version", "target", "kind", "seam"):
            each[name] += evil
        for name in ("copies", "stale", "notes"):
            each[name] = [evil, f"{evil} stands in place of this patch at {evil}"]
    data["process"]["role"] += evil
    data["notes"] = [{"overlay": evil, "text": evil}]
    data["operators"] = {evil: 3}
    (tmp_path / "evil.json").write_text(json.dumps(data))
    text = command(*options).output
    assert not {letter for letter in text if not (letter.isprintable() or letter == "\n")}
    assert "[bold red]" in text and ":smile:" in text


def test_fields_of_a_later_version_are_left_out(command: Command, tmp_path: Path) -> None:
    data = WELL[0].to_dict()
    data["entries"][0]["colour"] = {"what": 1}
    data["more"] = 5
    (tmp_path / "new.json").write_text(json.dumps(data))
    assert command("--check").exit_code == 0
