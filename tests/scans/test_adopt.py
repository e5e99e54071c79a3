"""`ascend-overlay adopt`: a function is run in a process of its own, over a small package that is called vllm."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PATCH = """
    import vllm.scheduler as s
    from vllm.scheduler import Scheduler, pick

    _pick = pick

    def around(count):
        return _pick(count) + 1

    class Mine(Scheduler):
        pass

    def apply():
        print("noise")
        import vllm.engine
        from vllm.enums import Status
        s.pick = around
        Scheduler.add = lambda self, request: None
        Scheduler.mine = around
        s.LIMIT = 9
        s.TABLE["two"] = 2
        s.TABLE.pop("one")
        s.NAMES.append("two")
        vllm.engine.Engine.size = property(lambda self: 2)
        del s.scheduler
        s.registry.known["x"] = 1
        import sys
        sys.modules["vllm.old"] = s

    def nothing(): ...
    def raises(): raise ValueError("no such thing")
    def leaves(): raise SystemExit(0)
    def dies():
        import os
        os._exit(0)
    def hangs():
        import os, pathlib, subprocess, sys, time
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        part = pathlib.Path("pids.part")
        part.write_text(f"{os.getpid()} {other.pid}")
        part.rename("pids")
        while True:
            try:
                time.sleep(600)
            except KeyboardInterrupt:
                pass
    number = 3
    """


@pytest.fixture
def adopt(vllm: Any, python: Any, tmp_path: Path) -> Callable[..., Any]:
    folder = python.folder
    vllm().folder.rename(folder / "vllm")
    with (folder / "vllm" / "scheduler.py").open("a") as file:
        file.write("class Registry:\n    def __init__(self):\n        self.known = {}\nregistry = Registry()\n")
    (folder / "team.py").write_text(textwrap.dedent(PATCH))
    (folder / "leaving.py").write_text("import sys\nsys.exit(4)\n")
    (folder / "broken.py").write_text("import nothing_of_the_kind\n")
    return lambda *arguments: python.command("adopt", *arguments, check=False)


def test_what_it_changes(adopt: Any) -> None:
    done = adopt("team:apply", "--json")
    assert done.returncode == 1 and "noise" in done.stderr
    found = {(each["target"], each["key"]): each for each in json.loads(done.stdout)["changes"]}
    kinds = {" ".join(filter(None, key)): each["kind"] for key, each in found.items()}
    assert kinds == {
        "vllm.scheduler:pick": "wrap",
        "vllm.scheduler:Scheduler.add": "attribute",
        "vllm.scheduler:Scheduler.mine": "attribute",
        "vllm.scheduler:LIMIT": "attribute",
        "vllm.scheduler:scheduler": "remove",
        "vllm.scheduler:TABLE 'two'": "item",
        "vllm.scheduler:TABLE 'one'": "remove",
        "vllm.scheduler:NAMES": "entry",
        "vllm.engine:Engine.size": "attribute",
        "vllm.scheduler:registry.known 'x'": "item",
        "vllm.old": "module",
    }
    assert found["vllm.scheduler:pick", ""]["missed"] == ["vllm.engine:pick"]
    assert found["vllm.scheduler:pick", ""]["name"] == "team:around"
    assert found["vllm.scheduler:Scheduler.mine", ""]["adds"] is True


def test_the_table_says_what_is_missed(adopt: Any) -> None:
    done = adopt("team:apply")
    text = " ".join(done.stdout.split())
    assert "vllm.engine:pick" in text and "team:apply: 11 changes in" in text and "1 of them missed copies." in text


def test_what_is_written_declares_it(adopt: Any, python: Any) -> None:
    adopt("team:apply", "--write", "written.py")
    overlays = runpy.run_path(str(python.folder / "written.py"))["OVERLAYS"]
    assert sorted(f"{patch.kind} {patch.target}" for overlay in overlays for patch in overlay.patches) == [
        "add vllm.scheduler:Scheduler.mine",
        "attribute vllm.scheduler:LIMIT",
        "entry vllm.scheduler:NAMES",
        "item vllm.scheduler:TABLE",
        "item vllm.scheduler:registry.known",
        "module alias vllm.old",
        "remove vllm.scheduler:TABLE",
        "remove vllm.scheduler:scheduler",
        "replace vllm.scheduler:pick",
    ]
    again = adopt("team:apply", "--write", "written.py")
    assert again.returncode == 2 and "is there already" in again.stderr


REFUSED = """
    import vllm.scheduler as s

    async def late(count):
        return count

    def short():
        return 0

    def apply():
        s.pick = {}
    """


@pytest.mark.parametrize(
    ("what", "why"), [("late", "it is an async function"), ("short", "it takes no positional argument 'count'")]
)
def test_what_enable_would_refuse_is_not_declared(adopt: Any, python: Any, what: str, why: str) -> None:
    (python.folder / "refused.py").write_text(textwrap.dedent(REFUSED).format(what))
    done = adopt("refused:apply", "--write", "written.py")
    assert "Traceback" not in done.stderr, done.stderr
    text = (python.folder / "written.py").read_text()
    assert runpy.run_path(str(python.folder / "written.py"))["OVERLAYS"] == []
    (line,) = [line for line in text.splitlines() if line.startswith("# not declared: ")]
    assert "`ascend-overlay check` says" in line and why in line


@pytest.mark.parametrize(
    ("function", "sentence"),
    {
        "no function": ("team", "'team' names no function: write it as 'package.module:function'."),
        "no module": ("nobody:apply", "the module 'nobody' cannot be imported: ModuleNotFoundError: No module named"),
        "a module that fails": ("broken:apply", "No module named 'nothing_of_the_kind'."),
        "a module that leaves": ("leaving:apply", "the module 'leaving' calls sys.exit(4) when it is imported."),
        "no such function": ("team:aply", "there is no 'team:aply': team has no 'aply'."),
        "a number": ("team:number", "'team:number' is of type int: name a function without arguments."),
        "raises": ("team:raises", "'team:raises' raises ValueError: no such thing at "),
        "leaves": ("team:leaves", "'team:leaves' calls sys.exit(0) instead of returning."),
        "dies": ("team:dies", "the process in which 'team:dies' runs ended with status 0 before it returned."),
        "needs an argument": ("team:around", "raises TypeError: around() missing 1 required positional argument"),
        "changes nothing": ("team:nothing", "'team:nothing' changes nothing in the "),
    }.values(),
    ids=lambda value: None,
)
def test_what_cannot_be_run_is_one_sentence(adopt: Any, function: str, sentence: str) -> None:
    done = adopt(function)
    assert done.returncode == 2 and sentence in " ".join(done.stderr.split()) and "Traceback" not in done.stderr


def started(folder: Path) -> list[int]:
    """Return the processes that a function which does not return runs in, and has started."""
    ends = time.monotonic() + 60
    while not (folder / "pids").exists() and time.monotonic() < ends:
        time.sleep(0.05)
    return [int(pid) for pid in (folder / "pids").read_text().split()]


def gone(pid: int) -> bool:
    """Tell whether a process has ended, or is a dead one that nobody has asked for yet."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_function_that_does_not_return(adopt: Any, python: Any) -> None:
    done = adopt("team:hangs", "--timeout", "3")
    assert done.returncode == 2 and "did not return within 3 seconds" in done.stderr
    assert all(gone(pid) for pid in started(python.folder))


def test_an_interrupt_ends_all_that_was_started(adopt: Any, python: Any) -> None:
    """Also where what runs swallows it, as an import may."""
    command = [sys.executable, "-m", "ascend_overlay", "adopt", "team:hangs"]
    environment = os.environ | {"PYTHONPATH": str(python.folder)}
    process = subprocess.Popen(
        command,
        cwd=python.folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has them ignore it, and what they start as well.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    pids = started(python.folder)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and said.endswith("Interrupted before it had an answer.\n")
    assert all(gone(pid) for pid in pids)
