"""`ascend-overlay status`: the processes of a run, one that runs, and what is said where nothing is known."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from ascend_overlay import Overlay
from ascend_overlay.commands.status import live, one, records
from ascend_overlay.engine.propagation import startup_folder
from ascend_overlay.ledgers import Entry, Ledger, LedgerFolder

Command = Callable[..., Result]


@pytest.fixture(autouse=True)
def _overlays(site: Any, offer: Any) -> None:
    site.write({"lib.py": "def run(): return 1\n"})
    here, away = Overlay("here", reason="a test"), Overlay("away", reason="a test", requires={"lib": "<0"})
    for overlay in (here, away):
        overlay.wrap("lib:run")(lambda wrapped, instance, args, kwargs: wrapped())
    offer(here, away, name="plug")


def entry(overlay: str, state: str, **more: Any) -> Entry:
    return Entry(overlay, "plug", "dist", more.pop("version", "1.0"), f"lib:{overlay}", "wrap", state=state, **more)


def ledger(pid: int, *entries: Entry, role: str = "worker", run: str = "aa", **process: Any) -> Ledger:
    what = {"pid": pid, "role": role, "run": run, "host": "elsewhere", "started": f"2026-01-01T00:00:{pid:02}+0000"}
    return Ledger({**what, **process}, entries)


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    def write(*ledgers: Ledger) -> str:
        folder = tmp_path / "ledgers"
        for each in ledgers:
            LedgerFolder(str(folder)).write(each)
        return str(folder)

    return write


ALIKE = (
    ledger(1, entry("a", "applied"), entry("b", "pending"), versions={"vllm": "0.32.0"}, settings={"A": "1"}),
    ledger(2, entry("a", "applied"), entry("b", "pending"), versions={"vllm": "0.32.0"}, settings={"A": "1"}),
    ledger(
        3, entry("a", "pending"), entry("b", "applied"), role="main", versions={"vllm": "0.32.0"}, settings={"A": "1"}
    ),
)


def test_processes_that_are_alike(command: Command, document: Any, written: Any) -> None:
    folder = written(*ALIKE)
    found = document("status", "--ledger", folder)
    assert found["differences"] == [] and found["without_ledger"] == []
    assert found["total"] == {"applied": 3, "pending": 3}
    assert [process["life"] for process in found["processes"]] == ["on another machine"] * 3
    shown = command("status", "--ledger", folder).stdout
    assert "worker x2" in shown and "in all" in shown and "The processes are alike" in shown


@pytest.mark.parametrize(
    ("odd", "part"),
    {
        "version": (
            ledger(9, *ALIKE[0].entries, versions={"vllm": "0.31.0"}, settings={"A": "1"}),
            "vllm has version 0.32.0 in worker (pid 1), worker (pid 2), main (pid 3), 0.31.0 in worker (pid 9)",
        ),
        "setting": (ledger(9, *ALIKE[0].entries, versions={"vllm": "0.32.0"}), "A is 1 in worker (pid 1)"),
        "overlay": (ledger(9, ALIKE[0].entries[0]), "the overlay b is not known in worker (pid 9)"),
        "plugin": (
            ledger(9, entry("a", "applied", version="2.0"), ALIKE[0].entries[1]),
            "the overlay a comes from dist 1.0 in worker (pid 1), worker (pid 2), main (pid 3), dist 2.0 in worker",
        ),
        "state": (
            ledger(9, entry("a", "reverted"), ALIKE[0].entries[1]),
            "a: 1 patch is applied in worker (pid 1), worker (pid 2), reverted in worker (pid 9): wrap of lib:a",
        ),
        "failed": (
            ledger(9, entry("a", "failed", reason="no such"), ALIKE[0].entries[1]),
            "failed: a: lib:a: no such [worker (pid 9)]",
        ),
    }.values(),
    ids=lambda value: None,
)
def test_what_is_not_alike_stands_out(command: Command, document: Any, written: Any, odd: Ledger, part: str) -> None:
    folder = written(*ALIKE, odd)
    found = document("status", "--ledger", folder)["differences"]
    assert any(text.startswith(part) for text in found), found
    assert part[:30] in command("status", "--ledger", folder).stdout


def test_other_runs_are_left_out_and_told(command: Command, document: Any, written: Any) -> None:
    folder = written(*ALIKE, ledger(20, entry("a", "failed"), run="bb"))
    assert [process["process"]["pid"] for process in document("status", "--ledger", folder)["processes"]] == [20]
    assert "3 processes of other runs" in command("status", "--ledger", folder).stdout
    assert len(document("status", "--ledger", folder, "--run", "all")["processes"]) == 4
    assert len(document("status", "--ledger", folder, "--run", "aa")["processes"]) == 3
    assert "--run has 'cc'" in command("status", "--ledger", folder, "--run", "cc").stderr


def test_without_a_folder_it_says_what_would_be(command: Command, document: Any) -> None:
    shown = command("status").stdout
    assert "1 overlay would be enabled here: here" in shown and "not away: lib" in shown
    assert "ascend-overlay run --ledger ledgers COMMAND" in shown
    assert document("status")["switched_off"] is False
    assert "switches the overlays off" in command("status", ASCEND_OVERLAY="0").stdout


def test_the_folder_of_the_settings(document: Any, command: Command, written: Any) -> None:
    folder = written(*ALIKE)
    assert document("status", ASCEND_OVERLAY_LEDGER=folder)["folder"] == folder
    missing = command("status", ASCEND_OVERLAY_LEDGER=f"{folder}/none").stdout
    assert "of the settings is not there yet" in missing


def test_bad_input(command: Command, tmp_path: Path) -> None:
    assert command("status", "--pid", "0").exit_code == 2
    assert command("status", "--pid", "x").exit_code == 2
    gone = command("status", "--pid", "4194304")
    assert gone.exit_code == 1 and "there is no process 4194304 here" in gone.stderr
    assert "there is no ledger in" in command("status", "--ledger", str(tmp_path)).stderr


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a Python that sleeps, with variables of its own."""
    started: list[subprocess.Popen[bytes]] = []

    def start(code: str = "", **variables: str) -> subprocess.Popen[bytes]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("ASCEND", "PYTHON"))}
        command = [sys.executable, "-c", f"{code}\nprint(flush=True)\nimport time; time.sleep(100)"]
        started.append(subprocess.Popen(command, env=environ | variables, stdout=subprocess.PIPE))
        assert started[-1].stdout is not None
        started[-1].stdout.readline()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("variables", "status", "part"),
    [
        ({}, "note", "it was started without ASCEND_OVERLAY"),
        ({"ASCEND_OVERLAY": "0"}, "note", "which switches the overlays off"),
        ({"ASCEND_OVERLAY": "1"}, "note", "the start-up folder is not on PYTHONPATH"),
        ({"ASCEND_OVERLAY": "1", "PYTHONPATH": "{startup}"}, "ok", "the start-up folder is on PYTHONPATH"),
        ({"ASCEND_OVERLAY": "1", "PYTHONPATH": "{theirs}:{startup}"}, "note", "comes before the start-up folder"),
        ({"ASCEND_OVERLAY": "1", "PYTHONPATH": "{other}"}, "note", "is that of another environment"),
        ({"ASCEND_OVERLAY": "1", "PYTHONPATH": "{empty}:{startup}"}, "ok", "the start-up folder is on PYTHONPATH"),
        ({"ASCEND_OVERLAY": "1"}, "note", "it was not told where to leave a ledger (ASCEND_OVERLAY_LEDGER)"),
        ({"ASCEND_OVERLAY": "1", "ASCEND_OVERLAY_LEDGER": "{empty}"}, "note", "it does so when it first imports vLLM"),
    ],
)
def test_what_an_outsider_can_know(
    document: Any, child: Any, tmp_path: Path, variables: dict[str, str], status: str, part: str
) -> None:
    folders = {name: tmp_path / name for name in ("theirs", "other", "empty")}
    for folder in folders.values():
        folder.mkdir()
    (folders["theirs"] / "sitecustomize.py").write_text("")
    (folders["other"] / "sitecustomize.py").write_text("def arm_asked_for(): pass\n")
    names = {**folders, "startup": startup_folder()}
    process = child(**{name: value.format(**names) for name, value in variables.items()})
    (found,) = document("status", "--pid", str(process.pid))["processes"]
    assert [each for each in found["findings"] if each["status"] == status and part in each["text"]], found["findings"]


def test_a_process_with_a_ledger_and_one_that_had_its_number(document: Any, child: Any, written: Any) -> None:
    process = child(ASCEND_OVERLAY="1")
    now, host = time.strftime("%Y-%m-%dT%H:%M:%S%z"), os.uname().nodename
    old = ledger(process.pid, entry("a", "failed"), host=host, started="2020-01-01T00:00:00+0000")
    folder = written(old)
    (found,) = document("status", "--pid", str(process.pid), "--ledger", folder)["processes"]
    assert found["record"] is None
    written(ledger(process.pid, entry("a", "applied"), host=host, started=now))
    (found,) = document("status", "--pid", str(process.pid), "--ledger", folder)["processes"]
    assert found["record"]["entries"][0]["state"] == "applied"
    lives = {each["process"]["started"]: each["life"] for each in document("status", "--ledger", folder)["processes"]}
    assert lives == {now: "runs", old.process["started"]: "ended"}


def test_a_process_that_was_to_leave_a_ledger_and_has_not(
    command: Command, document: Any, child: Any, written: Any
) -> None:
    folder = written(*ALIKE)
    process = child(ASCEND_OVERLAY_LEDGER=folder)
    assert [each["pid"] for each in document("status", "--ledger", folder)["without_ledger"]] == [process.pid]
    assert f"NO LEDGER: pid {process.pid}" in command("status", "--ledger", folder).stdout


def test_what_multiprocessing_keeps_for_itself_leaves_no_ledger(document: Any, written: Any) -> None:
    folder = written(*ALIKE)
    start = (
        "import multiprocessing.resource_tracker as tracker; tracker.ensure_running(); "
        "print(tracker._resource_tracker._pid, flush=True); input()"
    )
    environ = {**os.environ, "ASCEND_OVERLAY_LEDGER": str(folder)}
    with subprocess.Popen(
        [sys.executable, "-c", start], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        kept = int(process.stdout.readline())
        without = [each["pid"] for each in document("status", "--ledger", folder)["without_ledger"]]
        process.communicate("\n")
    assert kept not in without and process.pid in without


def test_the_processes_that_it_started(document: Any, child: Any) -> None:
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(5)'])"
    process = child(code)
    found = document("status", "--pid", str(process.pid))["processes"]
    assert [each["parent"] for each in found][1:] == [process.pid]


def test_no_secret_of_a_command_line(document: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print(flush=True); import time; time.sleep(60)", "--api-key", "hush"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        assert "hush" not in str(document("status", "--pid", str(process.pid)))
    finally:
        process.kill()
        process.wait()


def made_up(
    proc: Path, pid: int, *, state: str = "S", name: str = "a) b", environ: bytes | None = b"", maps: str = ""
) -> None:
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (proc / "stat").write_text("cpu 1\nbtime 1000\n")
    rest = " ".join(["1", *["0"] * 17, "500"])
    (folder / "stat").write_text(f"{pid} ({name}) {state} {rest} 0\n")
    (folder / "cmdline").write_bytes(b"/usr/bin/python3\0-m\0vllm\0")
    (folder / "maps").write_text(maps)
    if environ is not None:
        (folder / "environ").write_bytes(environ)


def test_a_process_whose_variables_may_not_be_read(tmp_path: Path) -> None:
    made_up(
        tmp_path, 7, environ=None, maps="7f 00:00 /site-packages/vllm/_C.abi3.so\n7f /x/torch/lib/libtorch_cpu.so\n"
    )
    found = live.look(7, tmp_path)
    assert found is not None and found.environ is None and found.loaded == ("vllm", "torch")
    assert found.parent == 1 and found.started == 1000 + 500 / os.sysconf("SC_CLK_TCK")
    says = one.known(found, None).says
    assert any("can be read by its owner and root only" in text for _, text in says)


def test_vllm_without_a_ledger_is_a_problem(tmp_path: Path) -> None:
    environ = f"ASCEND_OVERLAY=1\0ASCEND_OVERLAY_LEDGER={tmp_path}\0".encode()
    made_up(tmp_path / "proc", 7, environ=environ, maps="7f /vllm/_C.abi3.so\n")
    found = live.look(7, tmp_path / "proc")
    assert found is not None
    assert ("problem", True) in {(status, "has left no ledger" in text) for status, text in one.known(found, None).says}


def test_a_process_that_has_ended(tmp_path: Path) -> None:
    made_up(tmp_path, 7, state="Z")
    found = live.look(7, tmp_path)
    assert found is not None and found.ended and live.started(7, tmp_path) is None
    assert "it has ended" in one.known(found, None).says[0][1]
    assert not records.is_of(ALIKE[0], None)
