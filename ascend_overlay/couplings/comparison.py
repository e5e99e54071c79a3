"""Two states of a package, and what is found out about both once."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ascend_overlay.couplings.changes import Change, change
from ascend_overlay.couplings.uses import Call
from ascend_overlay.source.atlas import Atlas

_LONGEST = 4000
"""No call has more text."""


class Comparison:
    """Two states of a package.

    Args:
        old: the state that is known to work; None: `new` is looked at alone.
        new: the other.
        brought: where a package is looked at for what changed between the two: the names that it sets itself.
    """

    def __init__(self, old: Atlas | None, new: Atlas, brought: frozenset[str] | None = None) -> None:
        self.old, self.new, self.brought = old, new, brought
        self._changes: dict[str, Change] = {}

    def change(self, label: str) -> Change:
        """Return what became of a name."""
        if label not in self._changes:
            self._changes[label] = change(label, self.old, self.new)
        return self._changes[label]

    def calls_before(self, name: str) -> dict[Call, str]:
        """Return how the old state calls methods of that name, each with the place of one call."""
        return _calls_in(self.old, name) if self.old is not None else {}

    def calls_now(self, name: str) -> dict[Call, str]:
        """Return how the new state does."""
        return _calls_in(self.new, name)


def _calls_in(atlas: Atlas, name: str) -> dict[Call, str]:
    # What releases are compared with is asked once for all of them.
    known: dict[str, dict[Call, str]] = atlas.memory.setdefault("calls", {})
    if name not in known:
        known[name] = dict(reversed([*_calls_of(name, atlas)]))
    return known[name]


def _calls_of(name: str, atlas: Atlas) -> Iterator[tuple[Call, str]]:
    """Yield the calls of methods of that name; only the calls are parsed, not the modules that have them."""
    corpus = atlas.corpus
    for start in corpus.find(f".{name}("):
        # What a class passes on to its base says nothing about who calls the class.
        if not corpus.text.endswith("super()", 0, start) and (call := _call_at(corpus.text, start + 1)) is not None:
            yield call, f"{corpus.module_at(start)}:{corpus.line_at(start)}"


def _call_at(text: str, start: int) -> Call | None:
    """Return the call whose text begins at `start`; None where none does, as in a comment."""
    depth = 0
    for end in range(start, min(len(text), start + _LONGEST)):
        depth += (text[end] == "(") - (text[end] == ")")
        if text[end] == ")" and depth == 0:
            try:
                node = ast.parse(text[start : end + 1], mode="eval").body
            except (SyntaxError, ValueError):
                # The bracket was in a string or a comment, and another one is meant.
                continue
            return Call.of(node, on_object=True) if isinstance(node, ast.Call) else None
        if depth < 0:
            return None
    return None
