"""Notes which blocks of the marked sources are entered, by a test and by the processes that it starts."""

from __future__ import annotations

import os

RECORDER = "MUTATION_RECORDER"
"""The variable that names the process of the tests, and the file in which all others note what they enter."""

blocks: set[str] = set()
_recorder, _, _file = os.environ.get(RECORDER, "").partition(":")


def begin(file: str) -> None:
    """Make this the process of the tests."""
    global _recorder, _file
    _recorder, _file = str(os.getpid()), file
    os.environ[RECORDER] = f"{_recorder}:{_file}"


def note(block: str) -> None:
    """Note that a block is entered."""
    if block in blocks:
        return
    blocks.add(block)
    if _file and str(os.getpid()) != _recorder:
        # At once: such a process may end in any way.
        with open(_file, "a", encoding="utf-8") as file:
            file.write(f"{block}\n")


def of_others() -> set[str]:
    """Return what other processes have entered since this was asked last."""
    try:
        with open(_file, "r+", encoding="utf-8") as file:
            found = set(file.read().split())
            file.truncate(0)
    except FileNotFoundError:
        return set()
    return found
