"""Two states of a package, and what is found out about both once."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator

from ascend_overlay.couplings.changes import Change, change
from ascend_overlay.couplings.uses import Call
from ascend_overlay.source.atlas import Atlas, Thing

_LONGEST = 4000
"""No call has more text."""


class Comparison:
    """Two states of a package.

    Args:
        old: the state that is known to work; None: `new` is looked at alone.
        new: the other.
        brought: where a package is looked at for what changed between the two: the names that it sets itself.
        earlier: `new` came before `old`: what it lacks came later, and was not taken away.
    """

    def __init__(
        self, old: Atlas | None, new: Atlas, brought: frozenset[str] | None = None, *, earlier: bool = False
    ) -> None:
        self.old, self.new, self.brought, self.earlier = old, new, brought, earlier
        self._changes: dict[str, Change] = {}

    def change(self, label: str) -> Change:
        """Return what became of a name."""
        if label not in self._changes:
            self._changes[label] = change(label, self.old, self.new)
        return self._changes[label]

    def calls_before(self, target: str) -> dict[Call, str]:
        """Return how the old state calls "module:function", or methods of a name; each with the place of one call."""
        return _calls_in(self.old, target) if self.old is not None else {}

    def calls_now(self, target: str) -> dict[Call, str]:
        """Return how the new state does."""
        return _calls_in(self.new, target)


def _calls_in(atlas: Atlas, target: str) -> dict[Call, str]:
    # What releases are compared with is asked once for all of them.
    known: dict[str, dict[Call, str]] = atlas.memory.setdefault("calls", {})
    if target not in known:
        found = _calls_of_function(target, atlas) if ":" in target else _calls_of_methods(target, atlas)
        known[target] = dict(reversed([*found]))
    return known[target]


def _calls_of_methods(name: str, atlas: Atlas) -> Iterator[tuple[Call, str]]:
    """Yield the calls of methods of that name; only the calls are parsed, not the modules that have them."""
    corpus = atlas.corpus
    for start in corpus.find(f".{name}("):
        # What a class passes on to its base says nothing about who calls the class.
        if not corpus.text.endswith("super()", 0, start) and (call := _call_at(corpus.text, start + 1)) is not None:
            yield dataclasses.replace(call, on_object=True), f"{corpus.module_at(start)}:{corpus.line_at(start)}"


def _calls_of_function(target: str, atlas: Atlas) -> Iterator[tuple[Call, str]]:
    """Yield the calls of a function by whoever has it under its name, or has it from a copy that is named."""
    there = atlas.look(target)
    if not isinstance(there, Thing) or there.module is None:
        return
    module, _, name = target.partition(":")
    corpus = atlas.corpus
    for start in corpus.find(f"{name}("):
        before = corpus.text[start - 1 : start]
        if before == "." or before.isidentifier() or corpus.text.endswith("def ", 0, start):
            continue
        calling = corpus.module_at(start)
        known = atlas.look(f"{calling}:{name}")
        # What is put in place of a copy is met by those who have that copy.
        meets = calling == module or module == there.module.name
        if not meets or not isinstance(known, Thing) or known.home != there.home:
            continue
        if (call := _call_at(corpus.text, start)) is not None:
            yield call, f"{calling}:{corpus.line_at(start)}"


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
            return Call.of(node) if isinstance(node, ast.Call) else None
        if depth < 0:
            return None
    return None
