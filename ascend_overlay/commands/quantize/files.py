"""Files that are there as a whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

PARTIAL = ".partial"
"""Ending of the name of a file that is being written."""

_AT_ONCE = 1 << 24


def write(path: Path, fill: Callable[[IO[bytes]], None]) -> None:
    """Write a file by calling `fill` with it; it gets its name when it is complete and on the disk."""
    partial = path.with_name(path.name + PARTIAL)
    with partial.open("wb") as file:
        fill(file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write a JSON file."""
    write(path, lambda file: _write_all(file, (json.dumps(data, indent=2) + "\n").encode()))


def copy(source: Path, path: Path) -> None:
    """Copy a file; a link becomes what it points to."""

    def fill(file: IO[bytes]) -> None:
        with source.open("rb") as original:
            copy_bytes(original, file, source.stat().st_size)

    write(path, fill)


def copy_bytes(source: IO[bytes], target: IO[bytes], count: int) -> None:
    """Copy `count` bytes from where `source` stands to where `target` stands.

    Raises:
        EOFError: `source` has fewer.
    """
    while count:
        data = source.read(min(count, _AT_ONCE))
        if not data:
            raise EOFError
        target.write(data)
        count -= len(data)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_AT_ONCE):
            digest.update(data)
    return digest.hexdigest()


def _write_all(file: IO[bytes], data: bytes) -> None:
    file.write(data)
