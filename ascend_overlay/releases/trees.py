"""A package in a folder: of its own, of a checkout, or of a source distribution that somebody unpacked."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from ascend_overlay.errors import ReleaseError
from ascend_overlay.releases import limits
from ascend_overlay.versions import VERSION_LINE

_METADATA = re.compile(r"^Version:[ \t]*(\S+)", re.MULTILINE)
_UNKNOWN = ("", "dev", "0.0.0")


def package_folder(folder: Path, package: str) -> Path:
    """Return the folder of `package`, which is `folder` or lies in it.

    Raises:
        ReleaseError: there is none.
    """
    here = Path(os.path.abspath(folder))
    for candidate in (here / package, here / "src" / package, here):
        if candidate.name == package and (candidate / "__init__.py").is_file():
            return candidate
    if not any(here.iterdir()):
        raise ReleaseError(f"the folder {str(folder)!r} is empty: name one that has the package {package!r}.")
    raise ReleaseError(
        f"the folder {str(folder)!r} has no package {package!r}, and is none: name the folder of the package, of a "
        f"checkout, or of an unpacked source distribution."
    )


def version(package_folder: Path) -> str:
    """Return the version that the files of a package tell, or its metadata beside it; "" where none does."""
    for name in ("_version.py", "version.py"):
        found = VERSION_LINE.search(_text(package_folder / name))
        if found and found[1] not in _UNKNOWN:
            return found[1]
    for above in (package_folder.parent, package_folder.parent.parent):
        # Of a checkout whose package is in src/, that is one folder further up.
        found = _METADATA.search(_text(above / "PKG-INFO"))
        if found:
            return found[1]
        if above.name != "src":
            break
    return ""


def check(package_folder: Path) -> None:
    """See that the Python files of a package are such as can be read.

    Raises:
        ReleaseError: one is too large, or they are too many.
    """
    for count, (path, size) in enumerate(python_files(package_folder), 1):
        if size > limits.FILE:
            raise ReleaseError(
                f"{path!r} has {limits.megabytes(size)}, and a Python file of a package has at most "
                f"{limits.megabytes(limits.FILE)}: take it out of the folder, or name another."
            )
        if count > limits.FILES:
            raise ReleaseError(
                f"{str(package_folder)!r} has more than {limits.FILES:,} Python files, which no package has: name the "
                f"folder of the package alone."
            )


def python_files(folder: Path | str) -> Iterator[tuple[str, int]]:
    """Yield the path and size of each Python file in a folder and below; links to folders are not followed."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from python_files(entry.path)
                elif entry.name.endswith(".py"):
                    if entry.is_symlink() and not os.path.exists(entry.path):
                        # A link to nothing, as editors leave them: Python finds no module there either.
                        continue
                    status = entry.stat()
                    if stat.S_ISREG(status.st_mode):
                        yield entry.path, status.st_size
    except OSError as error:
        raise ReleaseError(
            f"{str(error.filename or folder)!r} cannot be read ({error.strerror}): see to its permissions, or name "
            f"another folder."
        ) from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace") if path.stat().st_size < limits.FILE else ""
    except OSError:
        return ""
