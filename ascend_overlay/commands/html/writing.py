"""Where a page is written: looked at before anything takes long, and written as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ascend_overlay.errors import ConfigError


def see(path: Path | None) -> None:
    """See that a page can be written to `path`; None is none.

    Raises:
        ConfigError: it cannot.
    """
    if path is None:
        return
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise ConfigError(f"--html {str(path)!r} is no file; name one, such as page.html.")
    if not target.parent.is_dir():
        raise ConfigError(f"--html {str(path)!r} is in a folder that does not exist; make it, or name another file.")
    if not os.access(target.parent, os.W_OK):
        raise ConfigError(f"--html {str(path)!r} is in a folder that you may not write to; name another file.")


def save(path: Path, text: str) -> None:
    """Write a page, in place of what was there.

    Raises:
        ConfigError: it cannot be written; what was there is as it was.
    """
    # A link stays one.
    target = Path(os.path.realpath(path))
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".page-") as folder:
            page = Path(folder, "page.html")
            page.write_text(text, encoding="utf-8")
            os.replace(page, target)
    except OSError as error:
        raise ConfigError(
            f"--html {str(path)!r} cannot be written ({error.strerror}); see to its folder, or name another file."
        ) from error
