"""What is seen of a process tree: memory while it runs, and who is left."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from ascend_overlay.commands.demo.processes import ProcessTree

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

# Holds 50 MB, starts a child in a session of its own, and says when both are there.
_PARENT = """
import subprocess, sys, time
held = bytearray(50_000_000)
child = subprocess.Popen([sys.executable, '-c', 'import time; print(1, flush=True); time.sleep(60)'],
                         start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
if sys.argv[1] == 'leave':
    sys.stdin.readline()
else:
    time.sleep(60)
"""


@pytest.fixture
def parent(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process with one child; the parameter "leave" lets it exit before the child."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PARENT, getattr(request, "param", "stay")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    yield process, child
    subprocess.run(["kill", "-9", str(child)], stderr=subprocess.DEVNULL, check=False)
    process.kill()
    process.communicate()


def test_the_tree_and_its_memory_are_seen(parent: tuple[subprocess.Popen[str], int]) -> None:
    process, child = parent
    tree = ProcessTree(process.pid)
    tree.sample()
    assert set(tree.seen) == {process.pid, child}
    assert tree.seen[process.pid].peak > 50_000_000
    assert tree.peak > tree.seen[process.pid].peak * 0.9
    assert "time.sleep" in tree.seen[child].name


@pytest.mark.parametrize("parent", ["leave"], indirect=True)
def test_a_child_that_outlives_its_parent_is_found_and_ended(parent: tuple[subprocess.Popen[str], int]) -> None:
    process, child = parent
    tree = ProcessTree(process.pid)
    tree.sample()
    process.communicate("go\n")
    assert [seen.pid for seen in tree.survivors(patience=0.2)] == [child]
    tree.end()
    assert tree.alive() == []


def test_waiting_for_the_end_stops_when_all_are_gone(parent: tuple[subprocess.Popen[str], int]) -> None:
    process, _ = parent
    tree = ProcessTree(process.pid)
    tree.sample()
    tree.end()
    started = time.monotonic()
    assert tree.survivors(patience=30) == []
    assert time.monotonic() - started < 10
