"""The modules of an environment or a tree: read and parsed once, and followed from one to the next."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from collections import OrderedDict
from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ascend_overlay.source.folders import Found
from ascend_overlay.source.modules import HERE, Finder

if TYPE_CHECKING:
    from ascend_overlay.source.module import Module

_FAR = 16
"""Modules may import one another in a circle; no name is handed on this often."""


class Where(NamedTuple):
    """What binds a name of a module.

    Attributes:
        module: the module that defines the name, or from which it is imported.
        name: the name there; "" where it is that module itself.
        own: the module that was asked for defines it, rather than imports it.
        line: where it says so.
    """

    module: str
    name: str
    own: bool
    line: int


class _Entry:
    def __init__(self, stamp: tuple[str, int, int], text: str | None) -> None:
        self.stamp, self.text = stamp, text
        self.parsed = False
        self.module: Module | None = None


class Sources:
    """What can be read of modules without importing them.

    A file that changes is read again.

    Args:
        finder: who knows where the modules are; default: this process.
        limit: how many modules to keep; None: all, for as long as a command takes.
        trees: syntax trees by text, which others that read much the same share.
    """

    def __init__(
        self, finder: Finder = HERE, limit: int | None = None, trees: MutableMapping[str, ast.Module] | None = None
    ) -> None:
        self.finder, self._limit, self._trees = finder, limit, trees
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def text(self, module: str) -> str | None:
        """Return the source of `module`; None where there is none, or it cannot be decoded."""
        entry = self._entry(module)
        return None if entry is None else entry.text

    def module(self, module: str) -> Module | None:
        """Return `module`, parsed; None where it has no source, or one with a syntax error."""
        entry = self._entry(module)
        if entry is None or entry.text is None:
            return None
        if not entry.parsed:
            entry.module, entry.parsed = _parse(module, entry.stamp[0], entry.text, self._trees), True
        return entry.module

    def unread(self, module: str) -> str | None:
        """Return why the Python file of `module` is not read, in half a sentence; None where it is, or has none."""
        found = self.finder.find(module)
        if not isinstance(found, Found) or found.file is None or self.module(module) is not None:
            return None
        text = self.text(module)
        why = "it cannot be opened, or is no text"
        if text is not None:
            try:
                ast.parse(text)
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                why = unparsed(error)
        return f"{found.file} is not read: {why}"

    def origin(self, module: str, name: str) -> tuple[str, str]:
        """Return the module and name that `name` of `module` leads to, as far as imports tell for certain."""
        for _ in range(_FAR):
            found = self._import(module, name)
            if found is None:
                break
            module, name = found
        return module, name

    def binds(self, module: str, name: str) -> Where | None:
        """Tell what the source of `module` binds `name` to: to what it defines itself, or to what it imports.

        None where that is not certain: without source, where a branch or a function binds the name, names are made
        without being spelled, or a star import comes after it.
        """
        source = self.module(module)
        if source is None or name not in source.names or name in source.written or source.writes_unspelled:
            return None
        last = source.names[name][-1]
        line = last.node.lineno
        if last.conditional or isinstance(last.node, ast.Delete) or any(star > line for _, star in source.stars):
            return None
        if last.kind == "import":
            return Where(last.module, last.original, False, line)
        return Where(module, name, True, line)

    def forget(self) -> None:
        """Let go of everything that was read."""
        self._entries.clear()

    def _import(self, module: str, name: str) -> tuple[str, str] | None:
        source = self.module(module)
        if source is None:
            return None
        if name in source.names:
            binding = source.names.only(name)
            if binding is None or binding.kind != "import":
                return None
            return (binding.module, binding.original) if binding.original else None
        starred = [star for star, _ in source.stars if self._has(star, name)]
        return (starred[0], name) if len(starred) == 1 else None

    def _has(self, module: str, name: str) -> bool:
        source = self.module(module)
        return source is not None and name in source.names and not name.startswith("_")

    def _entry(self, module: str) -> _Entry | None:
        found = self.finder.find(module)
        if not isinstance(found, Found) or found.file is None:
            return None
        try:
            status = os.stat(found.file)
        except OSError:
            return None
        stamp = (found.file, status.st_mtime_ns, status.st_size)
        entry = self._entries.pop(module, None)
        if entry is None or entry.stamp != stamp:
            entry = _Entry(stamp, _read(found.file))
        self._entries[module] = entry
        while self._limit is not None and len(self._entries) > self._limit:
            self._entries.popitem(last=False)
        return entry


def _read(file: str) -> str | None:
    try:
        return importlib.util.decode_source(Path(file).read_bytes())
    except (OSError, SyntaxError, UnicodeError):
        return None


def _parse(module: str, file: str, text: str, trees: MutableMapping[str, ast.Module] | None) -> Module | None:
    tree = trees.get(text) if trees is not None else None
    if tree is None:
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
    if trees is not None:
        trees[text] = tree
    # Not above: what every enable() loads asks whether a word is in a text, and seldom parses one.
    from ascend_overlay.source.module import Module

    return Module(module, file, text, tree, is_package=os.path.basename(file) == "__init__.py")


def unparsed(error: Exception) -> str:
    """Return, in half a sentence, why this Python does not parse a text."""
    release = f"{sys.version_info.major}.{sys.version_info.minor}"
    if isinstance(error, SyntaxError):
        line = f" on line {error.lineno}" if error.lineno else ""
        return f"this Python, {release}, does not take it ({error.msg}{line})"
    if isinstance(error, (RecursionError, MemoryError)):
        return f"this Python, {release}, does not take it (it is nested too deep)"
    return f"this Python, {release}, does not take it ({error})"


LOADABLE = Sources(limit=8)
"""What this process can import; a few modules are kept."""


def binds(module: str, name: str) -> Where | None:
    """See Sources.binds, of what this process can import."""
    return LOADABLE.binds(module, name)
