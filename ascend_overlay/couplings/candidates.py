"""What may have become of a name that is gone: the same name elsewhere, or something that is much like it."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from ascend_overlay.source.atlas import Atlas, Thing, walk_definitions
from ascend_overlay.source.module import Module

_ALIKE = 0.6
_MOST = 3
_LONGEST = 400


@dataclass(frozen=True)
class Candidate:
    """Something that may be what another thing became.

    Attributes:
        label: "module:Qualified.name".
        how: "moved": it has the same name; "renamed": its source is alike.
        alike: how much of the source is the same, from 0 to 1.
    """

    label: str
    how: str
    alike: float

    def __str__(self) -> str:
        return f"{self.label} ({self.alike:.0%} alike)"


def candidates(label: str, was: Thing, old: Atlas, new: Atlas) -> list[Candidate]:
    """Return what `was`, which `label` led to in `old`, may be in `new`; the best first."""
    if not was.nodes:
        return _modules(label, was, new)
    module, _, path = was.home.partition(":")
    qualified = tuple(path.split("."))
    found = {each.label: each for each in _elsewhere(was, qualified, new)}
    if not any(each.alike >= _ALIKE for each in found.values()):
        for each in _renamed(was, module, qualified, old, new):
            found.setdefault(each.label, each)
    ranked = sorted(found.values(), key=lambda each: (-each.alike, each.label))
    return [each for each in ranked if each.how == "moved" or each.alike >= _ALIKE][:_MOST]


def _modules(label: str, was: Thing, new: Atlas) -> list[Candidate]:
    """Return modules of the same name elsewhere, for one that is gone."""
    tail = label.rpartition(".")[2]
    if was.module is None:
        return []
    found = []
    for module, text in new.texts.items():
        if module.rpartition(".")[2] == tail and module != label:
            found.append(Candidate(module, "moved", _ratio(was.module.text, text)))
    return sorted(found, key=lambda each: -each.alike)[:_MOST]


def _elsewhere(was: Thing, qualified: tuple[str, ...], new: Atlas) -> Iterator[Candidate]:
    # A method is looked for in classes of the name of its own: others have one of its name, too.
    for name in new.defining(qualified[0]):
        module = new.sources.module(name)
        for path, node in walk_definitions(module) if module is not None else ():
            if path == qualified and isinstance(node, type(was.nodes[-1])):
                assert module is not None
                yield Candidate(f"{name}:{'.'.join(path)}", "moved", _alike(was, module, node))


def _renamed(was: Thing, module: str, qualified: tuple[str, ...], old: Atlas, new: Atlas) -> Iterator[Candidate]:
    """Yield what is new beside the place of `was`, and of its kind."""
    before, now = old.sources.module(module), new.sources.module(module)
    if now is None or was.module is None:
        return
    known = {path for path, _ in walk_definitions(before)} if before is not None else set()
    for path, node in walk_definitions(now):
        if path not in known and len(path) == len(qualified) and type(node) is type(was.nodes[-1]):
            yield Candidate(f"{module}:{'.'.join(path)}", "renamed", _alike(was, now, node))


def _alike(was: Thing, module: Module, node: ast.stmt) -> float:
    text = "\n".join(module.text.splitlines()[node.lineno - 1 : node.end_lineno])
    return _ratio(was.text, text)


def _ratio(one: str, other: str) -> float:
    lines = [[line.strip() for line in text.splitlines() if line.strip()][:_LONGEST] for text in (one, other)]
    # A name stands in many lines: what counts for a short function are its words.
    words = [[word for line in part for word in line.replace("(", " ( ").split()] for part in lines]
    before, now = words if max(map(len, words)) < _LONGEST else lines
    return difflib.SequenceMatcher(None, before, now, autojunk=False).ratio()
