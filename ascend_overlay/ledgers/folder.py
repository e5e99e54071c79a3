"""The folder where the processes of a run leave their ledgers: writing one, and reading all."""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from ascend_overlay.errors import ConfigError
from ascend_overlay.ledgers.ledger import Ledger

_LARGEST = 64 * 1024 * 1024
"""Bytes of a file that may be a ledger; one has some hundred thousand."""


class LedgerFolder:
    """Where the processes write their ledgers, one file each, replaced as a whole at every change.

    The name of a file has the role, the host, the pid and the start: containers that share a folder share pids, too.
    Nobody but its owner may read it.
    """

    def __init__(self, folder: str) -> None:
        # The process may change its directory later.
        self.folder = Path(folder).absolute()

    def check(self, whose: str = "ASCEND_OVERLAY_LEDGER") -> None:
        """Make the folder and see that a file can be written there; `whose` is what names it, for the error.

        Raises:
            ConfigError: it cannot.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise ConfigError(
                f"the ledger folder {str(self.folder)!r} cannot be written to ({error.strerror}); "
                f"give {whose} a folder that this process may write to, or leave it out."
            ) from error

    def write(self, ledger: Ledger) -> None:
        """Write `ledger` to the file of its process.

        Raises:
            OSError: it cannot be written.
        """
        text = ledger.to_json()
        self.folder.mkdir(parents=True, exist_ok=True)
        # Of a name that nobody can have prepared a link for, and readable for its owner alone.
        handle, scratch = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=self.folder)
        try:
            with open(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(scratch, self.folder / file_name(ledger))
        except BaseException:
            with suppress(OSError):
                os.unlink(scratch)
            raise


def file_name(ledger: Ledger) -> str:
    """Return the name of the file of a process: "engine_core-node3-4711-20261130T182642.json"."""
    process = ledger.process
    started = re.sub(r"[-:]|[+].*", "", str(process["started"]))
    parts = (process["role"], process.get("host", ""), process["pid"], started)
    return "-".join(re.sub(r"[^\w.]", "_", str(part)) for part in parts if part != "") + ".json"


def read_folder(folder: str | os.PathLike[str], troubles: list[str] | None = None) -> list[Ledger]:
    """Read the ledgers of all processes that wrote to `folder`, in the order of their start.

    Args:
        folder: the folder.
        troubles: is given a sentence for each JSON file that is no ledger; without it such a file is an error.

    Raises:
        ConfigError: a JSON file there is not a ledger.
    """
    ledgers: list[Ledger] = []
    for path in sorted(Path(folder).glob("*.json")):
        try:
            ledgers.append(_read(path))
        except ConfigError as error:
            if troubles is None:
                raise
            troubles.append(str(error))
    return sorted(ledgers, key=lambda ledger: (*_started(ledger), ledger.process["pid"]))


def _started(ledger: Ledger) -> tuple[float, str]:
    """Return when a process started: machines may be in several zones of time."""
    text = ledger.process["started"]
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").timestamp(), text
    except ValueError:
        return 0.0, text


def _read(path: Path) -> Ledger:
    try:
        return Ledger.from_dict(json.loads(_text(path)))
    except RecursionError:
        why = "it is nested too deeply"
    except OSError as error:
        why = error.strerror or str(error)
    except ValueError as error:
        why = str(error)
    raise ConfigError(
        f"{str(path)!r} is not a ledger: {why}. Name a folder that holds the files of ASCEND_OVERLAY_LEDGER alone."
    )


def _text(path: Path) -> str:
    # Neither a link to somewhere else nor what never ends is opened as a file.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is no file")
        if found.st_size > _LARGEST:
            raise ValueError(f"it has {found.st_size} bytes")
        return file.read().decode("utf-8")
