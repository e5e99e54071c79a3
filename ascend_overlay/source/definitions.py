"""What a target names in the source: followed through re-exports, classes and their bases, without importing any."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass

from ascend_overlay.source.absence import absent
from ascend_overlay.source.classes import Lineage, lineage, mro
from ascend_overlay.source.sources import Sources


@dataclass(frozen=True)
class Definition:
    """What a name leads to.

    Attributes:
        module: the module whose source has it, which may be another than the target names.
        path: its names there.
        node: the statement that binds it: a class, a function, an assignment.
        inherited: it belongs to a base of the class that the target names.
    """

    module: str
    path: tuple[str, ...]
    node: ast.stmt
    inherited: bool = False


@dataclass(frozen=True)
class Absent:
    """A name that is certainly not there.

    Attributes:
        index: its position in the path of the target.
        known: the names that are there instead, as far as the source spells them.
    """

    index: int
    known: tuple[str, ...]


def definition(sources: Sources, module: str, path: Sequence[str]) -> Definition | Absent | None:
    """Follow `path` in `module`; None where the source does not tell for certain.

    Classes and re-exports are followed in all packages that `sources` know.
    """
    home, first = sources.origin(module, path[0])
    source = sources.module(home)
    if source is None:
        return None
    if first not in source.names:
        known = absent(home, first, sources)
        return Absent(0, tuple(known)) if known is not None else None
    binding = source.names.only(first)
    if binding is None or binding.kind == "import":
        return None
    found = Definition(home, (first,), binding.node)
    if len(path) == 1:
        return found
    return _member(sources, lineage(sources, home, first, home.partition(".")[0]), path)


def at_home(target: str, sources: Sources) -> str:
    """Return a target as the module has it that defines its first name, as far as imports tell for certain."""
    module, _, qualified = target.partition(":")
    first, *rest = qualified.split(".")
    home, name = sources.origin(module, first)
    return f"{home}:{'.'.join(filter(None, [name, *rest]))}"


def _member(sources: Sources, cls: Lineage | None, path: Sequence[str]) -> Definition | Absent | None:
    line = mro(cls) if cls is not None else None
    if cls is None or cls.module is None or line is None or len(path) != 2:
        return None
    name = path[1]
    for each in line:
        if each.label == "builtins:object":
            continue
        if each.node is None or each.module is None:
            return None
        members = each.module.members_of(each.node)
        if name in each.own_members:
            binding = members.only(name)
            if binding is None or name in each.module.added.get(each.node.name, ()):
                return None
            return Definition(each.module.name, (each.node.name, name), binding.node, each is not cls)
        if each.changes_itself:
            return None
    if any(each.module is not None and each.module.makes_names for each in line) or hasattr(object, name):
        return None
    return Absent(1, tuple(sorted(frozenset().union(*(each.own_members for each in line)))))
