"""What became of one name between two states of a package."""

from __future__ import annotations

import ast
import difflib
import functools
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ascend_overlay.couplings.candidates import Candidate, candidates
from ascend_overlay.source.atlas import Atlas, Gone, Thing
from ascend_overlay.source.constructors import nature
from ascend_overlay.source.families import Member
from ascend_overlay.source.fingerprints import fingerprint
from ascend_overlay.source.module import Binding

What = Literal["unchanged", "new", "layout", "body", "members", "moved", "signature", "kind", "gone", "unknown"]

WORDS: dict[What, str] = {
    "unchanged": "unchanged",
    "new": "there now, and was not before",
    "layout": "comments, docstring, annotations or formatting only",
    "body": "body changed",
    "members": "members changed",
    "moved": "moved",
    "signature": "signature changed",
    "kind": "kind changed",
    "gone": "gone",
    "unknown": "cannot be told from source",
}
"""In the order of how much attention they want."""
HEAD = "bases, decorators or the order of fields"
"""What else may change where none of the members of a class does."""


@dataclass(frozen=True)
class Change:
    """What became of a name.

    Attributes:
        what: the most that can be said; a signature that changed goes before a body that did.
        old: what it led to; None where that was not asked or is not known.
        new: what it leads to; None where it leads nowhere or that is not known.
        gone: why it leads nowhere.
        moved_to: where it is defined now, if that is elsewhere and the name still leads there.
        candidates: what may have become of a name that is gone, the best first.
        members: of a class, the members that changed: "+name", "-name", "~name".
    """

    what: What
    old: Thing | None = None
    new: Thing | None = None
    gone: Gone | None = None
    moved_to: str = ""
    candidates: tuple[Candidate, ...] = ()
    members: tuple[str, ...] = ()

    @functools.cached_property
    def diff(self) -> str:
        """The unified diff of the source, "" where one of the two is not there."""
        if self.old is None or self.new is None or self.what in ("unchanged", "unknown"):
            return ""
        return unified(self.old, self.new)


def not_told(label: str, compared: tuple[Atlas | None, Atlas]) -> str:
    """Return that a name cannot be told from source, and which file of it is not read, if one is not."""
    module = label.partition(":")[0]
    unread = (each.sources.unread(module) for each in reversed(compared) if each is not None)
    return ": ".join(filter(None, [WORDS["unknown"], next(filter(None, unread), None)]))


def unified(old: Thing, new: Thing) -> str:
    """Return the unified diff between the source of two things."""
    before, now = (textwrap.dedent(thing.text).splitlines() for thing in (old, new))
    return "\n".join(difflib.unified_diff(before, now, old.home, new.home, lineterm=""))


def change(label: str, old: Atlas | None, new: Atlas) -> Change:
    """Tell what became of `label` between `old` and `new`; without `old`, only whether it is there."""
    before = old.look(label) if old is not None else None
    now = new.look(label)
    was = before if isinstance(before, Thing) else None
    if isinstance(now, Gone):
        found = tuple(candidates(label, was, old, new)) if was is not None and old is not None else ()
        return Change("gone", was, None, now, candidates=found)
    if now is None:
        return Change("unknown", was)
    if was is None:
        return Change("unchanged" if old is None else "new" if isinstance(before, Gone) else "unknown", None, now)
    try:
        return compared(was, now)
    except RecursionError:
        # It is nested deeper than can be walked.
        return Change("unknown", was, now)


def compared(was: Thing, now: Thing) -> Change:
    """Tell how one thing differs from the other."""
    moved = now.home if now.home != was.home else ""
    if was.kind == now.kind and now.kind in ("function", "class") and _less_certain(was, now):
        # It is in a branch now, or something else takes the name after it: what the name leads to, a run tells.
        return Change("unknown", was, now, moved_to=moved)
    if was.kind == now.kind and was.text == now.text and not moved:
        return Change("unchanged", was, now)
    if _sort(was) != _sort(now) and "open" in (openness(was), openness(now)):
        return Change("unknown", was, now, moved_to=moved)
    if _sort(was) != _sort(now) or was.flavour != now.flavour:
        return Change("kind", was, now, moved_to=moved)
    if now.kind == "module":
        return Change("unchanged" if was.text == now.text else "body", was, now, moved_to=moved)
    if now.kind == "class":
        if nature(was) not in ("class", nature(now)):
            return Change("kind", was, now, moved_to=moved)
        members = _members(was, now)
        if members or _head(was) != _head(now):
            return Change("members", was, now, moved_to=moved, members=members)
        return Change("moved" if moved else _layout(was, now), was, now, moved_to=moved)
    if was.signature is not None and now.signature is not None and calls(was) != calls(now):
        return Change("signature", was, now, moved_to=moved)
    if _bare(was) != _bare(now):
        return Change("body", was, now, moved_to=moved)
    return Change("moved" if moved else _layout(was, now), was, now, moved_to=moved)


def calls(thing: Thing) -> str:
    """Return the signature as callers see it, without annotations."""
    if thing.signature is None:
        return ""
    parameters = [each.replace(annotation=each.empty) for each in thing.signature.parameters.values()]
    return str(thing.signature.replace(parameters=parameters, return_annotation=thing.signature.empty))


def _layout(was: Thing, now: Thing) -> What:
    return "unchanged" if was.text == now.text else "layout"


def _less_certain(was: Thing, now: Thing) -> bool:
    """Tell whether a name may lead to something else than the function or class, or nowhere, and did not before."""
    before, after = _bindings(was), _bindings(now)
    others = {each.kind for each in after} - {each.kind for each in before} - {was.kind, now.kind}
    alone = len(after) == 1 and after[0].conditional and not all(each.conditional for each in before)
    return bool(others) or alone


def _bindings(thing: Thing) -> tuple[Binding, ...]:
    """Return what binds a name of a module."""
    return thing.module.names.get(thing.home.partition(":")[2], ()) if thing.module is not None else ()


def same_body(was: Thing, now: Thing) -> bool:
    """Tell whether two functions do the same, whatever their arguments are."""
    return _done(was) == _done(now)


def _done(thing: Thing) -> list[str]:
    made = (node for node in thing.nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
    return [fingerprint(ast.Module(node.body, [])) for node in made]


_READ = {"property": "read", "value": "read", "field": "read", "attribute": "read"}


def _sort(thing: Thing) -> str:
    """Return how a thing is used: a property and an attribute are both read."""
    return _READ.get(thing.kind, thing.kind)


def openness(thing: Thing) -> str:
    """Return "open" of a value that may be a function or a class as well: what a call returns, or made on demand."""
    if thing.kind != "value":
        return ""
    value = getattr(thing.nodes[-1], "value", None) if thing.nodes else None
    plain = isinstance(value, (ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.JoinedStr))
    return "" if plain else "open"


def _members(was: Thing, now: Thing) -> tuple[str, ...]:
    assert was.family is not None and now.family is not None
    old, new = (thing.family.steps[0].members for thing in (was, now) if thing.family is not None)
    found = [f"-{name}" for name in sorted(old.keys() - new.keys())]
    found += [f"+{name}" for name in sorted(new.keys() - old.keys())]
    for name in sorted(old.keys() & new.keys()):
        # What methods set is told by the methods.
        if old[name].kind != "attribute" and _differ(old[name], new[name]):
            found.append(f"~{name}")
    return tuple(found)


def _differ(old: Member, new: Member) -> bool:
    texts = [[each.owner.module.segment(node) for node in each.nodes] for each in (old, new)]
    return texts[0] != texts[1] and _all(old.nodes) != _all(new.nodes)


def _head(thing: Thing) -> str:
    node = thing.nodes[-1]
    assert isinstance(node, ast.ClassDef)
    head = " ".join(fingerprint(each) for each in (*node.bases, *node.keywords, *node.decorator_list))
    return f"{head} {', '.join(_fields(node))}"


def _fields(node: ast.ClassDef) -> Iterator[str]:
    """Yield what a class declares, whose order is that of the arguments of its constructor."""
    for each in node.body:
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            yield each.target.id


def _bare(thing: Thing) -> str:
    return _all(thing.nodes)


def _all(nodes: tuple[ast.stmt, ...]) -> str:
    # What annotates a field makes the class what it is; what annotates an argument is for readers.
    return " ".join(fingerprint(node, annotations=isinstance(node, ast.AnnAssign)) for node in nodes)
