"""Two states of a package, and what is found out about both once."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ascend_overlay.couplings.changes import Change, change
from ascend_overlay.couplings.uses import Call
from ascend_overlay.source.atlas import Atlas


class Comparison:
    """Two states of a package.

    Args:
        old: the state that is known to work; None: `new` is looked at alone.
        new: the other.
    """

    def __init__(self, old: Atlas | None, new: Atlas) -> None:
        self.old, self.new = old, new
        self._changes: dict[str, Change] = {}
        self._calls: dict[tuple[bool, str], dict[Call, str]] = {}

    def change(self, label: str) -> Change:
        """Return what became of a name."""
        if label not in self._changes:
            self._changes[label] = change(label, self.old, self.new)
        return self._changes[label]

    def calls_before(self, name: str) -> dict[Call, str]:
        """Return how the old state calls methods of that name, each with the place of one call."""
        return self._calls_in(self.old, name) if self.old is not None else {}

    def calls_now(self, name: str) -> dict[Call, str]:
        """Return how the new state does."""
        return self._calls_in(self.new, name)

    def _calls_in(self, atlas: Atlas, name: str) -> dict[Call, str]:
        key = atlas is self.new, name
        if key not in self._calls:
            self._calls[key] = dict(reversed([*_calls_of(name, atlas)]))
        return self._calls[key]


def _calls_of(name: str, atlas: Atlas) -> Iterator[tuple[Call, str]]:
    word = f".{name}("
    for module, text in atlas.texts.items():
        if word not in text:
            continue
        parsed = atlas.sources.module(module)
        for node in parsed.nodes if parsed is not None else ():
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name):
                continue
            # What a class passes on to its base says nothing about who calls the class.
            on = node.func.value
            if not (isinstance(on, ast.Call) and getattr(on.func, "id", "") == "super"):
                yield Call.of(node, on_object=True), f"{module}:{node.lineno}"
