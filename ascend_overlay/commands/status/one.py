"""What can be said of one process that runs, and what to do where that is too little."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ascend_overlay.commands.status import live
from ascend_overlay.commands.status.records import record_of
from ascend_overlay.engine.propagation import startup_folder
from ascend_overlay.ledgers import Ledger, read_folder
from ascend_overlay.ledgers.table import summary
from ascend_overlay.settings import PREFIX, declined, requested

OK, NOTE, PROBLEM = "ok", "note", "problem"


@dataclass(frozen=True)
class Known:
    """What is known of a process.

    Attributes:
        process: its line in /proc.
        folder: where it leaves its ledger, as far as that can be known.
        record: its ledger.
        says: what that comes to, each as (one of OK, NOTE and PROBLEM, a sentence).
    """

    process: live.Live
    folder: str | None
    record: Ledger | None
    says: Sequence[tuple[str, str]]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; of the variables, those that are about overlays alone."""
        environ = self.process.environ
        ours = {name: value for name, value in (environ or {}).items() if name.startswith(PREFIX)}
        return {
            "pid": self.process.pid,
            "parent": self.process.parent,
            "command": list(self.process.command),
            "variables": None if environ is None else ours,
            "loaded": None if self.process.loaded is None else list(self.process.loaded),
            "ledger": self.folder,
            "record": None if self.record is None else self.record.to_dict(),
            "findings": [{"status": status, "text": text} for status, text in self.says],
        }


def known(process: live.Live, folder: Path | None) -> Known:
    """Return what is known of a process; `folder` is where its ledger is looked for, default: where it was told."""
    told = (process.environ or {}).get(f"{PREFIX}_LEDGER") or None
    where = str(folder) if folder is not None else told
    troubles: list[str] = []
    ledgers = read_folder(where, troubles) if where and os.path.isdir(where) else []
    record = record_of(process, ledgers)
    return Known(process, where, record, list(_says(process, where, record, troubles)))


def _says(
    process: live.Live, folder: str | None, record: Ledger | None, troubles: Sequence[str]
) -> Iterator[tuple[str, str]]:
    if process.ended:
        yield NOTE, "it has ended, and its parent has not asked for its status yet"
        return
    yield from ((NOTE, text) for text in troubles)
    if record is not None:
        yield OK, f"its ledger, of {record.process['role']}: {summary(record)}"
    if process.environ is None:
        yield NOTE, "the variables that it was started with can be read by its owner and root only: ask as one of them"
    else:
        yield from _asked(process.environ)
    if record is None:
        yield _without_record(process, folder)


_ITSELF = (
    "a process that calls enable() itself has overlays all the same, and so has vLLM beside an NPU; only its ledger "
    "tells"
)
_LEFT = "what is left are autoload and the entry points that torch and vLLM ask"
_UNTOLD = (
    f"it was not told where to leave a ledger ({PREFIX}_LEDGER), and from outside no one can see more: start it with "
    f"`ascend-overlay run --ledger DIR COMMAND`"
)


def _asked(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    value = environ.get(PREFIX)
    if declined(environ):
        yield NOTE, f"it was started with {PREFIX}={value}, which switches the overlays off"
    elif requested(environ):
        yield OK, f"it was started with {PREFIX}={value}: overlays are asked for"
        yield _way_in(environ)
    else:
        yield NOTE, f"it was started without {PREFIX}: {_ITSELF}"


def _way_in(environ: Mapping[str, str]) -> tuple[str, str]:
    ours = os.path.realpath(startup_folder())
    ahead = ""
    for part in environ.get("PYTHONPATH", "").split(os.pathsep):
        if part and os.path.realpath(part) == ours:
            if not ahead:
                return OK, "the start-up folder is on PYTHONPATH"
            text = f"the sitecustomize of {ahead} comes before the start-up folder on PYTHONPATH, and runs in its place"
            return NOTE, f"{text}: {_LEFT}"
        if part and _arms(part):
            return NOTE, f"the start-up folder on PYTHONPATH is that of another environment: {part}"
        if part and not ahead and os.path.isfile(os.path.join(part, "sitecustomize.py")):
            ahead = part
    return NOTE, f"the start-up folder is not on PYTHONPATH: {_LEFT}; `ascend-overlay run COMMAND` puts it there"


def _arms(folder: str) -> bool:
    try:
        text = Path(folder, "sitecustomize.py").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "arm_asked_for" in text


def _without_record(process: live.Live, folder: str | None) -> tuple[str, str]:
    """Return what it means that there is no ledger."""
    if folder is None:
        return NOTE, _UNTOLD
    asks = process.environ is not None and requested(process.environ)
    text = f"it has left no ledger in {folder}"
    if "vllm" in (process.loaded or ()):
        why = "the overlays have not reached it, or its ledger could not be written"
        return PROBLEM if asks else NOTE, f"vLLM's compiled parts are in its memory, and {text}: {why}"
    return NOTE, f"{text}: it does so when it first imports vLLM" if asks else text
