"""The ledger: what happened in this process, patch by patch, as data."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ascend_overlay import process
from ascend_overlay.errors import ConfigError

STATES = ("pending", "applied", "skipped", "failed", "reverted")


@dataclass
class Entry:
    """What became of one patch.

    Attributes:
        overlay: name of the overlay.
        plugin: name of the plugin that brought it.
        distribution: the distribution that the plugin was installed with; empty for one registered by hand.
        version: the version of that distribution.
        target: what the patch changes.
        kind: the kind of patch, or "overlay" or "plugin" for an entry about a whole one.
        seam: the way it was changed.
        state: one of STATES.
        detail: what the patch puts in place.
        reason: why the patch exists, or why it was skipped or failed.
        seconds: time that loading and applying took.
        copies: other places that now hold the new object.
        stale: places that keep the old one and could not be changed.
        notes: further remarks.
    """

    overlay: str
    plugin: str
    distribution: str
    version: str
    target: str
    kind: str
    seam: str = ""
    state: str = "pending"
    detail: str = ""
    reason: str = ""
    seconds: float = 0.0
    copies: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Ledger:
    """A snapshot of what happened in one process; prints as a table.

    Attributes:
        process: pid, role, command line and start time.
        entries: one a patch, in the order in which they were enabled.
        notes: remarks that overlays made, as (overlay, text).
        operators: how often each NPU operator ran, where counting is on.
    """

    process: dict[str, Any]
    entries: tuple[Entry, ...]
    notes: tuple[tuple[str, str], ...] = ()
    operators: dict[str, int] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __str__(self) -> str:
        from ascend_overlay.ledgers.table import as_text

        return as_text(self)

    def of(self, overlay: str) -> list[Entry]:
        """Return the entries of one overlay."""
        return [entry for entry in self.entries if entry.overlay == overlay]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as it is in a ledger file."""
        return {
            "process": self.process,
            "entries": [asdict(entry) for entry in self.entries],
            "notes": [{"overlay": overlay, "text": text} for overlay, text in self.notes],
            "operators": self.operators,
        }

    def to_json(self, *, indent: int | None = 2) -> str:
        """Return the ledger as JSON."""
        return json.dumps(self.to_dict(), indent=indent, default=str)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Ledger:
        """Rebuild a ledger from what `to_dict` gave."""
        return cls(
            process=data["process"],
            entries=tuple(Entry(**entry) for entry in data["entries"]),
            notes=tuple((note["overlay"], note["text"]) for note in data.get("notes", ())),
            operators=dict(data.get("operators", {})),
        )


def describe_process() -> dict[str, Any]:
    """Return what identifies this process in a ledger."""
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "role": process.role(),
        "roles": sorted(process.roles()),
        "argv": list(sys.argv),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


class LedgerFolder:
    """Where the processes write their ledgers, one file each, replaced as a whole at every change."""

    def __init__(self, folder: str) -> None:
        # The process may change its directory later.
        self.folder = Path(folder).absolute()

    def check(self) -> None:
        """Make the folder and see that a file can be written there.

        Raises:
            ConfigError: it cannot.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = self.folder / f".writable-{os.getpid()}"
            probe.write_text("")
            probe.unlink()
        except OSError as error:
            raise ConfigError(
                f"the ledger folder {str(self.folder)!r} cannot be written to ({error.strerror}); "
                f"set ASCEND_OVERLAY_LEDGER to a folder that this process may write to, or unset it."
            ) from error

    def write(self, ledger: Ledger) -> None:
        """Write `ledger` to the file of its process."""
        path = self.folder / f"{ledger.process['role']}-{ledger.process['pid']}.json"
        scratch = path.with_suffix(".tmp")
        scratch.write_text(ledger.to_json(), encoding="utf-8")
        scratch.replace(path)


def read_folder(folder: str | os.PathLike[str]) -> list[Ledger]:
    """Read the ledgers of all processes that wrote to `folder`, in the order of their start.

    Raises:
        ConfigError: a JSON file there is not a ledger.
    """
    ledgers = [_read(path) for path in sorted(Path(folder).glob("*.json"))]
    return sorted(ledgers, key=lambda ledger: (str(ledger.process["started"]), int(ledger.process["pid"])))


def _read(path: Path) -> Ledger:
    try:
        return Ledger.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ConfigError(
            f"{str(path)!r} is not a ledger ({type(error).__name__}: {error}); name a folder that holds the files of "
            f"ASCEND_OVERLAY_LEDGER alone."
        ) from error
