"""The folder that is written to, and the file in it that says what is done, so that a run can go on where it ended."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ascend_overlay import __version__
from ascend_overlay.commands.quantize import files
from ascend_overlay.commands.quantize.checkpoint import Checkpoint
from ascend_overlay.commands.quantize.linears import Linears
from ascend_overlay.errors import QuantizeError
from ascend_overlay.quantization import json_file

NAME = "ascend_overlay_quantize.json"


@dataclass
class State:
    """What is known of a run.

    Attributes:
        options: all that decides what is written; a run goes on only with the same.
        observed: smallest and largest input of each layer in W8A8, by the name of its weight; None before calibration.
        calibration: what was calibrated with, in numbers.
        shards: what was written, by file name: sha256, size, largest relative error and the weight that has it.
    """

    options: dict[str, Any]
    observed: dict[str, tuple[float, float]] | None = None
    calibration: dict[str, int] = field(default_factory=dict)
    shards: dict[str, dict[str, Any]] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write it to `folder`."""
        files.write_json(folder / NAME, vars(self))

    def verified(self, folder: Path, shard: str) -> bool:
        """Whether the file `shard` is there as it was written."""
        record, path = self.shards.get(shard), folder / shard
        if record is None or not path.exists() or path.stat().st_size != record["size"]:
            return False
        return files.sha256(path) == str(record["sha256"])


def options(
    checkpoint: Checkpoint, scheme: str, keep: tuple[str, ...], calibration: Path | None, linears: Linears
) -> dict[str, Any]:
    """Return all that decides what is written, as plain data."""
    stats = {shard: (checkpoint.folder / shard).stat() for shard in checkpoint.shards}
    return {
        "ascend_overlay": __version__,
        "scheme": scheme,
        "keep": list(keep),
        "linear": [pattern.text for pattern in linears.patterns],
        "calibration file": files.sha256(calibration) if calibration else None,
        # Weights that were replaced since have another time, if not another size.
        "model": {shard: [stat.st_size, stat.st_mtime_ns] for shard, stat in stats.items()},
        "config.json": files.sha256(checkpoint.folder / "config.json"),
    }


@contextlib.contextmanager
def opened(folder: Path, wanted: dict[str, Any], model: Path) -> Iterator[State]:
    """Hold the folder for one run, new or begun earlier with the same options.

    Raises:
        QuantizeError: it holds something else, was begun with other options, or another run holds it.
    """
    _refuse_foreign(folder, model)
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise QuantizeError(f"{folder} cannot be made ({error.strerror}); pass another folder for OUT.") from error
    try:
        _lock(handle, folder)
        state = _read(folder, wanted) or State(wanted)
        for left in folder.glob(f"*{files.PARTIAL}"):
            left.unlink()
        yield state
    finally:
        os.close(handle)
        if made and not any(folder.iterdir()):
            folder.rmdir()


def check_space(folder: Path, needed: int) -> None:
    """See that the disk has room.

    Raises:
        QuantizeError: it has not.
    """
    place = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise QuantizeError(
            f"{folder} needs {needed / 1e9:.1f} GB, and its disk has {free / 1e9:.1f} GB left. Make room, or pass "
            f"another folder for OUT; what is there is not lost."
        )


def _refuse_foreign(folder: Path, model: Path) -> None:
    inside = folder.absolute().resolve()
    if inside == model.resolve() or model.resolve() in inside.parents:
        raise QuantizeError(f"{folder} is within the model itself. Pass a folder of its own for OUT.")
    if folder.exists() and not folder.is_dir():
        raise QuantizeError(f"{folder} is a file, and nothing is overwritten. Pass another folder for OUT.")
    if folder.is_dir() and any(folder.iterdir()) and not _has_state(folder):
        raise QuantizeError(
            f"{folder} is not empty and was not written by ascend-overlay quantize, and nothing is overwritten. "
            "Pass another folder for OUT."
        )


def _has_state(folder: Path) -> bool:
    return (folder / NAME).exists() or (folder / (NAME + files.PARTIAL)).exists()


def _read(folder: Path, wanted: dict[str, Any]) -> State | None:
    path = folder / NAME
    if not path.exists():
        return None
    try:
        state = State(**json_file.read(path))
        begun = dict(state.options)
        _see_plain(state)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise QuantizeError(f"{path} is damaged: {error}. Remove {folder} and begin anew.") from error
    changed = [name for name in wanted if begun.get(name) != wanted[name]]
    if changed:
        what = ", ".join(_change(name, begun.get(name), wanted[name]) for name in changed)
        raise QuantizeError(
            f"{folder} was begun differently: {what}. Run it with what it was begun with, pass another folder for OUT, "
            f"or remove this one."
        )
    return state


def _see_plain(state: State) -> None:
    """See that all is of the type that is written."""
    for name, record in state.shards.items():
        float(record["error"])
        if not all(isinstance(value, str) for value in (name, record["sha256"], record["worst"])):
            raise TypeError(f"what it says of {name!r} is not what is written")
        if type(record["size"]) is not int:
            raise TypeError(f"the size of {name!r} is {record['size']!r}")
    for name, (low, high) in ({} if state.observed is None else state.observed).items():
        if not float(low) <= float(high):
            raise ValueError(f"the range of {name!r} is from {low} to {high}")
    dict(state.calibration)


def _change(name: str, before: object, now: object) -> str:
    if name in ("scheme", "keep", "linear", "ascend_overlay"):
        return f"{name} was {before!r} and is {now!r} now"
    return f"the {name} is another one now"


def _lock(handle: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise QuantizeError(f"{folder} is being written by another run of ascend-overlay quantize.") from error
