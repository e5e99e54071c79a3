"""Folders of packages and modules, each listed once: what an import would find there, without importing it."""

from __future__ import annotations

import importlib.machinery
import os
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_SUFFIXES = (*importlib.machinery.EXTENSION_SUFFIXES, ".py", ".pyc")
"""In the order in which an import prefers them."""


class Found(NamedTuple):
    """Where a module is.

    Attributes:
        file: its Python file; None where it has none: it is built in, compiled, a namespace, or made by a stranger.
        search: the folders in which its submodules are; None where it is no package.
    """

    file: str | None
    search: tuple[str, ...] | None = None


class Folders:
    """The folders that were listed so far: what appears in one of them later is not seen."""

    def __init__(self) -> None:
        self._listed: dict[str, dict[str, bool]] = {}
        self._plain: dict[str, bool] = {}

    def find(self, name: str, search: Iterable[str]) -> Found | None:
        """Return the module `name`, a dotted one, whose package has its submodules in `search`."""
        tail = name.rpartition(".")[2]
        portions: list[str] = []
        for folder in search:
            found = self._in(folder, tail) if self._is_plain(folder) else _by_import_system(name, folder)
            if isinstance(found, Found):
                return found
            portions.extend(found)
        return Found(None, tuple(portions)) if portions else None

    def _in(self, folder: str, tail: str) -> Found | Sequence[str]:
        """Return the module `tail` in `folder`, or its portions of a namespace."""
        entries = self._entries(folder)
        path = os.path.join(folder or os.getcwd(), tail)
        if entries.get(tail):
            inside = self._entries(path)
            for suffix in _SUFFIXES:
                if inside.get(f"__init__{suffix}") is False:
                    return Found(os.path.join(path, "__init__.py") if suffix == ".py" else None, (path,))
        for suffix in _SUFFIXES:
            if entries.get(tail + suffix) is False:
                return Found(f"{path}.py" if suffix == ".py" else None)
        return (path,) if entries.get(tail) else ()

    def _entries(self, folder: str) -> dict[str, bool]:
        """Return the names in a folder, and whether each is a folder itself."""
        if folder not in self._listed:
            try:
                with os.scandir(folder or None) as entries:
                    self._listed[folder] = {entry.name: entry.is_dir() for entry in entries}
            except OSError:
                self._listed[folder] = {}
        return self._listed[folder]

    def _is_plain(self, folder: str) -> bool:
        if folder not in self._plain:
            self._plain[folder] = _asks_for_files(folder)
        return self._plain[folder]


def _asks_for_files(folder: str) -> bool:
    """Tell whether an import would look for files in `folder`, rather than ask an archive or a stranger's finder."""
    if folder in sys.path_importer_cache:
        return type(sys.path_importer_cache[folder]) in (importlib.machinery.FileFinder, type(None))
    for hook in sys.path_hooks:
        try:
            return type(hook(folder or os.getcwd())) is importlib.machinery.FileFinder
        except ImportError:
            continue
    return True


def _by_import_system(name: str, folder: str) -> Found | Sequence[str]:
    spec = importlib.machinery.PathFinder.find_spec(name, [folder])
    if spec is None:
        return ()
    return tuple(spec.submodule_search_locations or ()) if spec.loader is None else of_spec(spec)


def of_spec(spec: importlib.machinery.ModuleSpec) -> Found:
    """Return what a spec says."""
    file = spec.origin if spec.has_location and spec.origin and spec.origin.endswith(".py") else None
    search = spec.submodule_search_locations
    return Found(file, None if search is None else tuple(search))
