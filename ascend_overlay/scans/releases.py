"""A finding's target in one release: where it is defined, what it is there, who else holds a copy of its name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ascend_overlay.releases import Release
from ascend_overlay.scans.values import Outside
from ascend_overlay.source.atlas import Atlas, Gone
from ascend_overlay.source.definitions import Absent, Definition, definition
from ascend_overlay.source.folders import Found
from ascend_overlay.source.headers import derived_names
from ascend_overlay.source.imports import imported
from ascend_overlay.source.modules import Missing
from ascend_overlay.source.sources import Sources

_KEPT = 64
"""Modules whose syntax trees are kept."""
THERE, GONE, UNKNOWN = "there", "gone", "not certain"
"""Whether a release has a target: it does, it certainly does not, its source does not tell."""


@dataclass(frozen=True)
class Target:
    """What is changed, in one release.

    Attributes:
        module: the module in which a name is bound, as the package says it.
        path: the names in it; () for the module itself.
        home: "module:Name" where that is defined, which is another one where the name is imported.
        state: whether it is there.
        node: the statement that defines it.
        why: what is missing.
        inherited: it belongs to a base of the class.
    """

    module: str
    path: tuple[str, ...]
    home: str
    state: str
    node: ast.stmt | None = None
    why: str = ""
    inherited: bool = False

    @property
    def label(self) -> str:
        """ "module:Name" as the package says it."""
        return _label(self.module, self.path)

    @property
    def place(self) -> str:
        """What is changed: the name of a module that the package says, or the member where its class is defined."""
        return self.label if len(self.path) == 1 else self.home


class Judged:
    """One release, asked about targets.

    Args:
        release: the release.
    """

    def __init__(self, release: Release) -> None:
        self.release = release
        # Of a release all modules are gone through, and few of them twice.
        self._sources, self._tree = Sources(release.tree, limit=_KEPT), release.tree
        self._targets: dict[Outside, Target] = {}
        self._texts: dict[str, str] | None = None
        self._layers: frozenset[str] | None = None

    def target(self, way: Outside) -> Target:
        """Return what a way leads to."""
        if way not in self._targets:
            self._targets[way] = self._find(way)
        return self._targets[way]

    def unread(self) -> list[str]:
        """Return which files that were asked about are not read, half a sentence each."""
        modules = dict.fromkeys(target.module for target in self._targets.values() if target.state == UNKNOWN)
        return [said for module in modules if (said := self._sources.unread(module)) is not None]

    def layers(self) -> frozenset[str]:
        """Return the names of the classes that a key of register_oot can name."""
        if self._layers is None:
            roots = ("CustomOp", "PluggableLayer")
            self._layers = derived_names(self.texts().values(), roots) - frozenset(roots)
        return self._layers

    def layer(self, name: str) -> str:
        """Return "module:Class" of the layer of that name; "" where there is none, or more than one."""
        header = re.compile(rf"^class {re.escape(name)}\b", re.MULTILINE)
        if name not in self.layers():
            return ""
        found = [module for module, text in self.texts().items() if header.search(text)]
        return f"{found[0]}:{name}" if len(found) == 1 else ""

    def texts(self) -> dict[str, str]:
        """Return the source of each module."""
        if self._texts is None:
            found = {name: self._sources.text(name) for name in self._tree.modules()}
            self._texts = {name: text for name, text in found.items() if text is not None}
        return self._texts

    def copies(self, homes: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Return, for each "module:Name", the places that import it when their module is, and keep what it was.

        Statements in functions and for type checkers are left out: they read the name when it is used, or never.
        """
        wanted = {home: home.partition(":")[2] for home in homes if "." not in home.partition(":")[2]}
        names = set(wanted.values())
        found: dict[str, list[str]] = {home: [] for home in wanted}
        for module, text in self.texts().items():
            if not any(True for _ in imported(text, names)):
                continue
            parsed = self._sources.module(module)
            if parsed is None:
                continue
            for name, bindings in parsed.names.items():
                for binding in bindings:
                    if binding.kind == "import" and binding.original in names:
                        home = ":".join(self._sources.origin(binding.module, binding.original))
                        if home in found:
                            found[home].append(f"{module}:{name}")
        return {home: tuple(dict.fromkeys(each for each in places if each != home)) for home, places in found.items()}

    def mentions(self, word: str) -> bool:
        """Tell whether the word is anywhere in the source."""
        return any(word in text for text in self.texts().values())

    def _find(self, way: Outside) -> Target:
        module, path, missing = self._split(way)
        if missing is not None:
            text = _label(module, path)
            return Target(module, path, text, GONE, None, missing)
        if not path:
            return Target(module, path, module, THERE)
        if path[0] in ("?", "*") or "[" in path[0]:
            return Target(module, path, _label(module, path), UNKNOWN)
        home, first = self._sources.origin(module, path[0])
        known = self._known(module, path)
        if isinstance(known, Definition):
            return Target(module, path, _label(known.module, known.path), THERE, known.node, "", known.inherited)
        label = _label(home, (first, *path[1:]))
        if isinstance(known, Absent):
            owner = _label(module, path[: known.index])
            return Target(module, path, label, GONE, None, f"{owner} has no {path[known.index]!r}")
        found = Atlas(self._sources, self._tree.package).look(label) if known is None and len(path) <= 2 else None
        name = path[-1]
        if isinstance(found, Gone) and found.missing == label and (found.certain or len(path) == 1):
            return Target(module, path, label, GONE, None, f"{_label(module, path[:-1])} has no {name!r}")
        if len(path) == 2 and not name.startswith("__") and "[" not in name and not self.mentions(name):
            return Target(module, path, label, GONE, None, f"{_label(module, path[:1])} has no {name!r}")
        return Target(module, path, label, self._state(home, first, path))

    def _known(self, module: str, path: tuple[str, ...]) -> Definition | Absent | None:
        head = path[: next((index for index, part in enumerate(path) if "[" in part or part == "?"), len(path))]
        if head != path or len(path) > 2:
            return None
        return definition(self._sources, module, path)

    def _state(self, home: str, first: str, path: tuple[str, ...]) -> str:
        source = self._sources.module(home)
        return THERE if source is not None and first in source.names and len(path) == 1 else UNKNOWN

    def _split(self, way: Outside) -> tuple[str, tuple[str, ...], str | None]:
        """Return the longest module on the way, the rest, and what is missing of what is certainly a module."""
        parts = way.parts
        length = 1
        for count in range(1, len(parts) + 1):
            if "*" in parts[:count] or not isinstance(self._tree.find(".".join(parts[:count])), Found):
                break
            length = count
            # A name of a package hides a module below it that has the same name.
            if count < len(parts) and count >= way.sure and self._binds(".".join(parts[:count]), parts[count]):
                break
        if length < min(way.sure, len(parts)) and "*" not in parts:
            found = self._tree.find(".".join(parts[: way.sure]))
            why = found.sentence().rstrip(".") if isinstance(found, Missing) else "there is no such module"
            return ".".join(parts[: way.sure]), parts[way.sure :], why
        return ".".join(parts[:length]), parts[length:], None

    def _binds(self, module: str, name: str) -> bool:
        if not isinstance(self._tree.find(f"{module}.{name}"), Found):
            return False
        binding = self._sources.module(module)
        only = binding.names.only(name) if binding is not None and name in binding.names else None
        return only is not None and not (
            only.kind == "import" and f"{only.module}.{only.original}" == f"{module}.{name}"
        )


def _label(module: str, path: tuple[str, ...]) -> str:
    return f"{module}:{'.'.join(path)}".replace(".[", "[") if path else module
