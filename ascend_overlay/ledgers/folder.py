"""The folder where the processes of a run leave their ledgers: writing one, and reading all."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ascend_overlay.errors import ConfigError
from ascend_overlay.ledgers.ledger import Ledger


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
