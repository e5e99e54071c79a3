"""JSON files as they come from somewhere else: whatever is in them, one sentence says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

INDEX = "model.safetensors.index.json"
_LEVELS = 64
_TOO_DEEP = "cannot be read as JSON: it is nested too deeply"


def read(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it cannot be read, or is not JSON; the text goes on after the file's name.
    """
    if path.exists() and not path.is_file():
        raise ValueError("is not a regular file")  # a pipe would be waited for
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from error


def parse(text: str | bytes) -> Any:
    """Return what a text in JSON says; bytes are UTF-8.

    Raises:
        ValueError: it is not JSON, is nested too deeply, or has a key twice.
    """
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8")
        found = json.loads(decoded, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except ValueError as error:
        raise ValueError(f"cannot be read as JSON: {error}") from error
    _see_shallow(found)
    return found


def weight_map(path: Path) -> dict[str, str]:
    """Return which file holds which tensor, as the index of a checkpoint says.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not one; the text goes on after the file's name.
    """
    data = read(path)
    found = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(found, dict) or not found:
        raise ValueError("has no weight_map")
    for name, file in found.items():
        if not isinstance(file, str) or file in ("", ".", "..") or "\0" in file:
            raise ValueError(f"says that {name!r} is in {file!r}, which is no name of a file")
        if Path(file).name != file:
            raise ValueError(f"names the file {file!r}, which is not in its own folder")
    return found


def _see_shallow(found: Any) -> None:
    """See that whoever goes through it level by level comes to an end."""
    level = [found] if isinstance(found, dict | list) else []
    for _ in range(_LEVELS):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has {twice!r} twice")
    return found
