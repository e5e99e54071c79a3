"""What was fetched: in the user's cache, a folder a release, either complete or not there."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version
from platformdirs import user_cache_path

from ascend_overlay.errors import ReleaseError
from ascend_overlay.releases.trees import python_files

_FORMAT = 1
_MARKER = "complete.json"
_SCRATCH = ".scratch-"
_STALE_S = 24 * 3600


def home() -> Path:
    """Return the folder of everything that is kept."""
    return user_cache_path("ascend_overlay") / "releases"


def of_release(package: str, version: str) -> Path:
    """Return the folder for a release that an index has."""
    return home() / package / version


def of_archive(package: str, digest: str) -> Path:
    """Return the folder for an archive of the user's, by the digest of its contents."""
    return home() / package / "archives" / digest


def versions(package: str) -> list[str]:
    """Return the releases that are kept whole, sorted."""
    whole = [name for name in names(package) if marker(of_release(package, name), package) is not None]
    return sorted(whole, key=Version)


def names(package: str) -> list[str]:
    """Return the numbers of the releases that are kept, be they whole or not."""
    found = []
    with contextlib.suppress(OSError):
        for folder in (home() / package).iterdir():
            with contextlib.suppress(InvalidVersion):
                Version(folder.name)
                found.append(folder.name)
    return found


def marker(folder: Path, package: str) -> dict[str, Any] | None:
    """Return what is noted about what a folder keeps; None where it is not there, or no longer whole.

    Who cleans up a cache may take single files out of it.
    """
    try:
        noted = json.loads((folder / _MARKER).read_text(encoding="utf-8"))
        if noted["format"] != _FORMAT:
            return None
        sizes = [size for _, size in python_files(folder / package)]
        return noted if [len(sizes), sum(sizes)] == [noted["files"], noted["bytes"]] else None
    except (OSError, ValueError, KeyError, TypeError, ReleaseError):
        return None


def keep(folder: Path, package: str, files: Mapping[str, bytes], **noted: str) -> None:
    """Put the files of a package into a folder of the cache, as a whole or not at all; who comes second leaves it.

    Args:
        folder: the folder, by `of_release` or `of_archive`.
        package: the package.
        files: the contents by paths inside the package.
        noted: what else to note about them.

    Raises:
        ReleaseError: the cache cannot be written.
    """
    try:
        with scratch(folder.parent) as new:
            for name, data in files.items():
                path = new / package / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            sizes = {"files": len(files), "bytes": sum(len(data) for data in files.values())}
            (new / _MARKER).write_text(json.dumps({"format": _FORMAT, **sizes, **noted}), encoding="utf-8")
            _put(new, folder, package)
    except OSError as error:
        raise unwritable(error) from error


@contextlib.contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """Yield a new folder on the file system of the cache, which is gone afterwards."""
    parent.mkdir(parents=True, exist_ok=True)
    for old in parent.glob(f"{_SCRATCH}*"):
        # Of a process that was killed.
        with contextlib.suppress(OSError):
            if old.stat().st_mtime < time.time() - _STALE_S:
                shutil.rmtree(old, ignore_errors=True)
    new = Path(tempfile.mkdtemp(dir=parent, prefix=_SCRATCH))
    try:
        yield new
    finally:
        shutil.rmtree(new, ignore_errors=True)


def unwritable(error: OSError) -> ReleaseError:
    """Return the sentence that the cache cannot be written."""
    return ReleaseError(
        f"releases cannot be kept in {str(home())!r} ({error.strerror or error}): let XDG_CACHE_HOME name a folder "
        f"that can be written and has 100 MB of free space."
    )


def _put(new: Path, folder: Path, package: str) -> None:
    """Give a complete folder its name, in which there may be one that is not whole."""
    for _ in range(3):
        if marker(folder, package) is not None:
            return
        with contextlib.suppress(OSError):
            # Aside first: a rename does not replace a folder that has something in it.
            os.rename(folder, new / "broken")
        try:
            os.rename(new, folder)
            shutil.rmtree(folder / "broken", ignore_errors=True)
            return
        except OSError as error:
            last = error
    raise last
