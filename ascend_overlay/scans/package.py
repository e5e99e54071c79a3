"""The package that is read: a folder, a wheel, a source distribution, or the name of an installed one."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from ascend_overlay.errors import TargetError
from ascend_overlay.releases import archives, limits, trees
from ascend_overlay.source.folders import Found
from ascend_overlay.source.module import Module
from ascend_overlay.source.modules import HERE
from ascend_overlay.source.sources import unparsed

_ASIDE = {"tests", "test", "docs", "examples", "benchmarks", "tools", "build", "dist"}
"""Folders of a checkout that are no packages that anybody installs."""


class Package:
    """The modules of a package, each parsed when it is asked for.

    Attributes:
        label: what the user called it.
        unread: why some of its files were not read, a sentence each.
        lost: the names of modules that were not read.
    """

    def __init__(self, label: str, files: dict[str, tuple[str, bytes]]) -> None:
        self.label = label
        self.unread: list[str] = []
        self.lost: set[str] = set()
        self._files = files
        self._modules: dict[str, Module | None] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its modules."""
        return tuple(self._files)

    @property
    def tops(self) -> frozenset[str]:
        """The names by which it is imported."""
        return frozenset(name.partition(".")[0] for name in self._files)

    def mentions(self, name: str, word: str) -> bool:
        """Tell whether a module has a word anywhere; nothing is parsed."""
        return word.encode() in self._files[name][1]

    def speaks_of(self, name: str, package: str) -> bool:
        """Tell whether a module names a package, and not only one whose name begins with it; nothing is parsed."""
        return self.mentions(name, package) and bool(re.search(rb"\b%b\b" % package.encode(), self._files[name][1]))

    def file(self, name: str) -> str:
        """Return the path of a module, from the folder that the package is in."""
        return self._files[name][0]

    def text(self, name: str) -> str:
        """Return the source of a module; what is no UTF-8 in it is replaced."""
        return self._files[name][1].decode("utf-8", "replace")

    def module(self, name: str) -> Module | None:
        """Return a module; None where there is none, or it cannot be read."""
        if name not in self._modules:
            self._modules[name] = self._read(name) if name in self._files else None
        return self._modules[name]

    def _read(self, name: str) -> Module | None:
        file, data = self._files[name]
        try:
            return _parsed(name, file, data)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
            self.unread.append(f"{file}{line} is not read: {unparsed(error)}.")
            self.lost.add(name)
            return None


def opened(wanted: str) -> Package:
    """Return the package that `wanted` names: a folder, an archive, or the name of an installed one.

    Raises:
        TargetError: there is none, or it has no Python.
    """
    if not wanted.strip():
        raise TargetError("an empty text is no package: name a folder, an archive, or an installed package.")
    path = Path(os.path.expanduser(wanted))
    if path.is_dir():
        files: Iterable[tuple[str, str, bytes]] = _in_folder(path)
    elif path.is_file():
        files = _in_archive(path) if archives.is_archive(path) else _single(path)
    elif os.sep in wanted or archives.is_archive(path):
        raise TargetError(f"there is no {wanted!r}: correct the path.")
    else:
        files = _installed(wanted)
    found = {name: (file, data) for name, file, data in files}
    if not found:
        raise TargetError(f"{wanted!r} has no Python files: name a package, or a folder that has one.")
    return Package(wanted, found)


def _parsed(name: str, file: str, data: bytes) -> Module:
    text = importlib.util.decode_source(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(text)
    return Module(name, file, text, tree, is_package=os.path.basename(file) == "__init__.py")


def _installed(wanted: str) -> Iterator[tuple[str, str, bytes]]:
    found = HERE.find(wanted) if wanted.isidentifier() else None
    if isinstance(found, Found) and (found.search or found.file):
        if found.search:
            yield from _below(Path(found.search[0]), wanted)
        elif found.file:
            yield from _single(Path(found.file))
        return
    folders = _of_distribution(wanted)
    if not folders:
        raise TargetError(
            f"{wanted!r} is no package that is installed here, no folder and no archive: name the folder, wheel or "
            f"source distribution that has it."
        )
    for folder in folders:
        yield from _below(folder, folder.name)


def _of_distribution(wanted: str) -> list[Path]:
    from importlib import metadata

    try:
        files = metadata.files(wanted) or []
    except (metadata.PackageNotFoundError, ValueError):
        return []
    inits = [file for file in files if len(file.parts) == 2 and file.name == "__init__.py"]
    return [Path(str(file.locate())).parent for file in inits]


def _in_folder(path: Path) -> Iterator[tuple[str, str, bytes]]:
    folder = path.resolve()
    if (folder / "__init__.py").is_file():
        yield from _below(folder, folder.name)
        return
    for base in (folder, folder / "src"):
        inside = sorted(each for each in base.iterdir() if (each / "__init__.py").is_file()) if base.is_dir() else []
        for each in inside:
            if each.name not in _ASIDE:
                yield from _below(each, each.name)
        for each in sorted(base.glob("*.py")) if base.is_dir() else ():
            if each.stem.isidentifier() and each.name != "setup.py":
                yield from _single(each)


def _single(path: Path) -> Iterator[tuple[str, str, bytes]]:
    if path.suffix != ".py":
        raise TargetError(f"{str(path)!r} is neither a folder, an archive nor a Python file: name one of these.")
    yield path.stem, path.name, _read(path, path.stat().st_size)


def _below(folder: Path, name: str) -> Iterator[tuple[str, str, bytes]]:
    for path, size in sorted(trees.python_files(folder)):
        relative = Path(path).relative_to(folder)
        yield from _named(name, relative.as_posix(), lambda path=path, size=size: _read(Path(path), size))


def _read(path: Path, size: int) -> bytes:
    if size > limits.FILE:
        raise TargetError(
            f"{str(path)!r} has {limits.megabytes(size)}, and a Python file of a package has at most "
            f"{limits.megabytes(limits.FILE)}: take it out of the folder."
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise TargetError(f"{str(path)!r} cannot be read ({error.strerror}): see to its permissions.") from error


def _named(top: str, inside: str, read: object) -> Iterator[tuple[str, str, bytes]]:
    parts = inside.removesuffix(".py").split("/")
    if parts[-1] == "__init__":
        parts.pop()
    if all(part.isidentifier() for part in parts):
        yield ".".join([top, *parts]), f"{top}/{inside}", read()  # type: ignore[operator]


def _in_archive(path: Path) -> Iterator[tuple[str, str, bytes]]:
    for top in archives.packages(path):
        if top in _ASIDE:
            continue
        contents = archives.read(path, top)
        for inside, data in sorted(contents.files.items()):
            yield from _named(top, inside, lambda data=data: data)
