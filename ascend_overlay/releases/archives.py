"""The Python files of a package in a wheel or a source distribution, read one by one: nothing is extracted by a name
that an archive chose, no link is followed, nothing is run."""

from __future__ import annotations

import contextlib
import gzip
import io
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from packaging.version import InvalidVersion, Version

from ascend_overlay.errors import ReleaseError
from ascend_overlay.releases import limits

SUFFIXES = (".whl", ".tar.gz", ".tgz", ".zip")
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OSError,
    UnicodeError,
    ValueError,
    OverflowError,
)
"""What the standard library raises about an archive that is broken, encrypted or compressed in an unknown way."""
_METADATA = re.compile(r"[^/]+\.dist-info/METADATA|[^/]+/PKG-INFO")
_FIELD = re.compile(r"^(Name|Version):[ \t]*(\S+)", re.MULTILINE)
_LARGEST_METADATA = 4 * 1024**2
_LARGEST_READ = 2 * limits.FILE


@dataclass(frozen=True)
class Contents:
    """What is wanted of an archive.

    Attributes:
        name: the distribution, as its metadata say; "" where they say nothing.
        version: its version, likewise.
        files: the Python files by their paths inside the folder of the package.
    """

    name: str
    version: str
    files: dict[str, bytes]


@dataclass(frozen=True)
class _Entry:
    """A file of an archive. `kind` says what it is instead, if it is no plain one."""

    name: str
    size: int
    kind: str
    stream: IO[bytes] | None

    def read(self) -> bytes:
        """Return what is in it, and no more than it says."""
        data = self.stream.read(self.size + 1) if self.stream is not None else b""
        if len(data) != self.size:
            raise ReleaseError(f"its file {self.name!r} has another size than its list of contents says")
        return data


def is_archive(path: Path) -> bool:
    """Tell whether a path is called as a wheel or a source distribution is."""
    return path.name.lower().endswith(SUFFIXES)


def read(path: Path, package: str) -> Contents:
    """Return the Python files of `package` that are in a wheel or a source distribution.

    Raises:
        ReleaseError: it is no archive, a broken or a hostile one, or has no such package.
    """
    try:
        with _opened(path) as entries:
            return _contents(path, package, entries)
    except ReleaseError as error:
        raise ReleaseError(f"{str(path)!r} is not read: {error}.") from None
    except FileNotFoundError:
        raise ReleaseError(f"there is no file {str(path)!r}: correct the path.") from None
    except _BROKEN as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ReleaseError(
            f"{str(path)!r} is not read: it is broken, or no wheel and no source distribution ({reason}); get it again."
        ) from error


def _contents(path: Path, package: str, entries: Iterable[_Entry]) -> Contents:
    seen: set[str] = set()
    kept: dict[str, bytes] = {}
    told: dict[str, str] = {}
    size = 0
    wanted = re.compile(rf"(?P<folder>(?:[^/]+/){{0,2}}{re.escape(package)})/(?P<inside>.+\.py)")
    for entry in entries:
        _look(entry, seen)
        match = wanted.fullmatch(entry.name)
        if _METADATA.fullmatch(entry.name) and entry.size <= _LARGEST_METADATA and not entry.kind:
            told = {**dict(_FIELD.findall(entry.read().decode("utf-8", "replace"))), **told}
        if match is None:
            continue
        if entry.kind:
            raise ReleaseError(f"its file {entry.name!r} is {entry.kind}, which no package that is built has")
        if entry.size > limits.FILE:
            raise ReleaseError(_too_large(entry.name, entry.size))
        size += entry.size
        if size > limits.SOURCE or len(kept) >= limits.FILES:
            raise ReleaseError("it has more source than a package can have")
        kept[entry.name] = entry.read()
    return Contents(told.get("Name", ""), told.get("Version", "") or _version(path), _of_package(kept, package, told))


def _of_package(kept: dict[str, bytes], package: str, told: dict[str, str]) -> dict[str, bytes]:
    """Return the files below the outermost folder that is the package."""
    tops = [name.removesuffix("/__init__.py") for name in kept if f"/{name}".endswith(f"/{package}/__init__.py")]
    if not tops:
        what = f"is of {told['Name']} and " if "Name" in told else ""
        raise ReleaseError(f"it {what}has no package {package!r}")
    top = min(tops, key=lambda name: (name.count("/"), name)) + "/"
    return {name.removeprefix(top): data for name, data in kept.items() if name.startswith(top)}


def _look(entry: _Entry, seen: set[str]) -> None:
    """Refuse a name that leads out of a folder, or comes twice."""
    parts = entry.name.rstrip("/").split("/")
    if entry.name.startswith("/") or ".." in parts or "\\" in entry.name or "\0" in entry.name or ":" in parts[0]:
        raise ReleaseError(f"its file {entry.name!r} would lie outside of the folder that it is unpacked to")
    if entry.name in seen and entry.name.endswith(".py"):
        raise ReleaseError(f"its file {entry.name!r} is in it twice")
    seen.add(entry.name)
    if len(seen) > limits.ENTRIES:
        raise ReleaseError(f"it has more than {limits.ENTRIES:,} files")


def _too_large(name: str, size: int) -> str:
    return (
        f"its file {name!r} has {limits.megabytes(size)}, and a Python file of a package has at most "
        f"{limits.megabytes(limits.FILE)}"
    )


def _version(path: Path) -> str:
    """Return the version that the name of an archive has."""
    name = path.name
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    for part in name.split("-")[1:]:
        with contextlib.suppress(InvalidVersion):
            return str(Version(part))
    return ""


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Iterator[_Entry]]:
    if path.name.lower().endswith((".whl", ".zip")):
        with zipfile.ZipFile(path) as archive:
            yield _zipped(archive)
        return
    with path.open("rb") as file, gzip.GzipFile(fileobj=file) as unzipped:
        bounded = _Bounded(unzipped, min(limits.ARCHIVE, max(path.stat().st_size * limits.RATIO, 2**20)))
        with tarfile.open(fileobj=bounded, mode="r:") as tar:
            yield _tarred(tar, bounded)


def _zipped(archive: zipfile.ZipFile) -> Iterator[_Entry]:
    for info in archive.infolist():
        mode = info.external_attr >> 16
        kind = "a folder" if info.is_dir() else "a link" if stat.S_ISLNK(mode) else ""
        if kind == "a folder" or not info.filename.endswith((".py", "/METADATA", "/PKG-INFO")):
            yield _Entry(info.filename, 0, kind or "left out", None)
            continue
        if info.file_size > max(info.compress_size * limits.RATIO, 2**20):
            raise ReleaseError(f"its file {info.filename!r} decompresses to {limits.megabytes(info.file_size)}: a bomb")
        with archive.open(info) as stream:
            yield _Entry(info.filename, info.file_size, kind, stream)


def _tarred(tar: tarfile.TarFile, stream: _Bounded) -> Iterator[_Entry]:
    for member in tar:
        name = member.name.removeprefix("./")
        if member.isreg():
            yield _Entry(name, member.size, "", tar.extractfile(member))
        else:
            kind = "a folder" if member.isdir() else "a link" if member.issym() or member.islnk() else "a device"
            yield _Entry(name, 0, kind, None)
    # A header that is none ends the archive for tarfile as if it were complete.
    while data := stream.read(2**20):
        if data.strip(b"\0"):
            raise ReleaseError("it goes on behind its end, so it is broken")


class _Bounded(io.RawIOBase):
    """What an archive decompresses to, up to a limit."""

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        self._stream, self._limit = stream, limit

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        # The way there is decompressed, in one go.
        if whence != io.SEEK_SET or offset > self._limit:
            raise ReleaseError(f"it decompresses to more than {limits.megabytes(self._limit)}: a bomb")
        return self._stream.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        # Headers of a size of their own are read at once.
        if not 0 <= size <= _LARGEST_READ or self._stream.tell() > self._limit:
            raise ReleaseError(f"it decompresses to more than {limits.megabytes(self._limit)}: a bomb")
        return self._stream.read(size)
