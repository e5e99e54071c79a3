"""Folders that are made once: complete or not there, whoever else makes them at the same time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ascend_overlay.errors import ConfigError


def home() -> Path:
    """Return the folder of what is built for the software NPU."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ascend_overlay" / "software_npu"


def made(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return `folder`; where it is not there, `make` fills a scratch folder that then takes its name.

    Of several processes one makes it, and the others wait.

    Raises:
        ConfigError: the folder cannot be written to.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _turn(folder.with_name(f".{folder.name}.lock")):
            if not folder.is_dir():
                _make(folder, make)
    except OSError as error:
        raise ConfigError(
            f"the native parts of the software NPU cannot be kept in {str(folder.parent)!r} ({error.strerror}); let "
            f"XDG_CACHE_HOME name a folder that this user may write to."
        ) from error
    return folder


def _make(folder: Path, make: Callable[[Path], None]) -> None:
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".building-"))
    try:
        make(scratch)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _turn(path: Path) -> Iterator[None]:
    # Held by an open file, so that a process which is killed holds it no longer.
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
