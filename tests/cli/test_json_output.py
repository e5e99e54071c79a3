"""`--json`: one document on standard output, and nothing else there, whoever writes and however the reader ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WRITERS = """
import atexit, ctypes, logging, os, subprocess, sys
libc = ctypes.CDLL(None)
logging.basicConfig(stream=sys.stdout, level="INFO")
print("from Python")
sys.__stdout__.write("from the first stdout")
os.write(1, b"from the descriptor")
libc.printf(b"from C")
subprocess.run(["echo", "from a child"])
logging.info("from a log")
atexit.register(print, "at the end")
"""
SAYS = ("from Python", "from the first", "from the descr", "from C", "from a child", "from a log", "at the end")
EARLIER = "from ascend_overlay.commands import json_output\nwrite = json_output.reserve()\n"
PLUGIN = (
    WRITERS
    + """
from ascend_overlay import Overlay
from ascend_overlay.hooks import hookimpl
one = Overlay("one", reason="a test")
one.wrap("lib:run")(lambda wrapped, instance, args, kwargs: wrapped())
@hookimpl
def ascend_overlay_overlays(): return [one]
"""
)

LIST = "$run -m ascend_overlay list --load plug --only one --json"

Shell = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def shell(python: Any, site: Any) -> Shell:
    """Run a line of bash, in which $run is the interpreter."""
    site.vllm("0.26.0")
    site.write({"lib.py": "def run(): pass\n", "plug.py": PLUGIN})

    def run(line: str) -> subprocess.CompletedProcess[str]:
        found = {"PYTHONPATH": os.pathsep.join(python.search), "run": sys.executable}
        return subprocess.run(
            ["bash", "-c", line],
            env=python.environment | found,
            cwd=site.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_whatever_else_is_written_goes_to_standard_error(python: Any) -> None:
    done = python.script(f"{EARLIER}{WRITERS}write({{'a': 1}})\nprint('afterwards')\nlibc.printf(b'C afterwards')\n")
    assert done.stdout == '{\n  "a": 1\n}\n'
    for text in (*SAYS, "afterwards", "C afterwards"):
        assert text in done.stderr


def test_what_json_has_no_word_for_is_a_text(python: Any) -> None:
    done = python.script(f"{EARLIER}inf = float('inf')\nwrite([{{'a': (inf, -inf, 1.5)}}, inf - inf])\n")
    assert json.loads(done.stdout) == [{"a": ["inf", "-inf", 1.5]}, "nan"]


def test_a_reader_that_leaves_early_is_no_error(shell: Shell, site: Any) -> None:
    # More than a pipe holds, so that the writer is still at it.
    (site.folder / "long.py").write_text(f"{EARLIER}write(list(range(100_000)))\nraise SystemExit(3)\n")
    done = shell("$run long.py | head -1; echo ${PIPESTATUS[0]}")
    assert (done.stdout, done.stderr) == ("[\n3\n", "")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (f"{LIST} >&-", "--json prints on standard output, which is closed; leave it open."),
        pytest.param(
            f"{LIST} >/dev/full",
            "the JSON cannot be written to standard output: No space left on device.",
            marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it"),
        ),
    ],
)
def test_a_standard_output_that_takes_nothing_is_a_sentence(shell: Shell, line: str, says: str) -> None:
    done = shell(line)
    assert done.returncode == 1 and done.stdout == ""
    assert f"Error: {says}\n" in done.stderr and "Traceback" not in done.stderr


def test_what_a_plugin_prints_is_not_in_the_list(shell: Shell) -> None:
    done = shell(LIST)
    assert done.returncode == 0, done.stderr
    entries = json.loads(done.stdout)["entries"]
    assert [entry["overlay"] for entry in entries if not entry["machinery"]] == ["one"]
    assert all(text in done.stderr for text in SAYS)


def test_an_error_leaves_standard_output_empty(shell: Shell) -> None:
    done = shell("$run -m ascend_overlay list --load plug --only two --json")
    assert done.returncode == 2 and done.stdout == ""
    assert "Error: there is no overlay 'two'" in done.stderr
