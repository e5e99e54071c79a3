"""What an outsider can know of a process that runs: its line in /proc, and nothing of what it holds in memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ascend_overlay import redaction

PROC = Path("/proc")
_LIBRARIES = {
    "vllm": re.compile(r"/vllm/[\w./]*\.so"),
    "torch": re.compile(r"/torch/lib/libtorch"),
    "torch_npu": re.compile(r"/torch_npu/"),
    "CANN": re.compile(r"/libascendcl\.so"),
}
_DEAD = "ZX"


@dataclass(frozen=True)
class Live:
    """A process that is there.

    Attributes:
        pid: its number.
        parent: that of its parent.
        command: its command line, without secrets.
        started: when it started, in seconds since the epoch.
        ended: it has ended, and its parent has not asked for its status yet.
        environ: the variables that it was started with; None where this user may not read them.
        loaded: which of vllm, torch, torch_npu and CANN have compiled parts in its memory; None where that cannot be
            read.
    """

    pid: int
    parent: int
    command: tuple[str, ...]
    started: float
    ended: bool = False
    environ: Mapping[str, str] | None = None
    loaded: tuple[str, ...] | None = None

    @property
    def is_python(self) -> bool:
        """Whether its command line starts with a Python, as far as that tells."""
        return bool(self.command) and any("python" in os.path.basename(word) for word in self.command[:2])

    @property
    def is_helper(self) -> bool:
        """Whether it is one that multiprocessing keeps for itself, which runs nothing of the program."""
        return any(word.startswith("from multiprocessing.resource_tracker import main;") for word in self.command)


def look(pid: int, proc: Path = PROC) -> Live | None:
    """Return the process `pid`, or None where there is none."""
    found = _stat(pid, proc)
    if found is None:
        return None
    state, parent, started = found
    command = _bytes(proc / str(pid) / "cmdline") or b""
    environ = _bytes(proc / str(pid) / "environ")
    maps = _bytes(proc / str(pid) / "maps")
    return Live(
        pid=pid,
        parent=parent,
        command=tuple(redaction.arguments([os.fsdecode(part) for part in command.split(b"\0")[:-1]])),
        started=started,
        ended=state in _DEAD,
        environ=None if environ is None else _variables(environ),
        loaded=None if maps is None else _loaded(os.fsdecode(maps)),
    )


def below(pid: int, proc: Path = PROC) -> list[int]:
    """Return the processes that `pid` and its children started and that are there, in the order of their numbers."""
    parents = {child: found[1] for child in _numbers(proc) if (found := _stat(child, proc)) is not None}
    known = {pid}
    while news := {child for child, parent in parents.items() if parent in known} - known:
        known |= news
    return sorted(known - {pid})


def started(pid: int, proc: Path = PROC) -> float | None:
    """Return when a process started, in seconds since the epoch; None where it is not there or has ended."""
    found = _stat(pid, proc)
    return None if found is None or found[0] in _DEAD else found[2]


def asking(folder: Path, proc: Path = PROC) -> Iterator[Live]:
    """Yield the Python processes that were started to write a ledger into `folder`, as far as this user may see."""
    for pid in _numbers(proc):
        environ = _bytes(proc / str(pid) / "environ")
        if environ is None or b"ASCEND_OVERLAY_LEDGER=" not in environ:
            continue
        named = _variables(environ).get("ASCEND_OVERLAY_LEDGER")
        if not named or os.path.realpath(named) != os.path.realpath(folder):
            continue
        found = look(pid, proc)
        if found is not None and found.is_python and not found.ended and not found.is_helper:
            yield found


def _numbers(proc: Path) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(proc) if name.isdecimal())
    except OSError:
        return []


def _stat(pid: int, proc: Path) -> tuple[str, int, float] | None:
    """Return state, parent and start of a process."""
    text = _bytes(proc / str(pid) / "stat")
    if not text:
        return None
    # The name stands in parentheses and may hold anything.
    fields = text.rpartition(b")")[2].split()
    ticks = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return fields[0].decode(), int(fields[1]), _boot(proc) + ticks


def _boot(proc: Path) -> float:
    match = re.search(rb"^btime (\d+)", _bytes(proc / "stat") or b"", re.MULTILINE)
    return float(match[1]) if match else 0.0


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        # Gone meanwhile, or another user's.
        return None


def _variables(text: bytes) -> dict[str, str]:
    pairs = (os.fsdecode(part).partition("=") for part in text.split(b"\0") if b"=" in part)
    return {name: value for name, _, value in pairs}


def _loaded(maps: str) -> tuple[str, ...]:
    return tuple(name for name, pattern in _LIBRARIES.items() if pattern.search(maps))
