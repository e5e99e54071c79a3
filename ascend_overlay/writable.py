"""Seeing that a file can be written before a long run that ends with writing it."""

from __future__ import annotations

from pathlib import Path

from ascend_overlay.errors import ConfigError


def see_writable(path: Path, option: str) -> None:
    """See that the file that the user named with `option` can be written; nothing is left behind.

    Raises:
        ConfigError: it cannot.
    """
    there = path.exists()
    try:
        with path.open("a", encoding="utf-8"):
            pass
    except OSError as error:
        raise ConfigError(f"{str(path)!r} cannot be written ({error.strerror}); pass {option} another file.") from error
    if not there:
        path.unlink()
