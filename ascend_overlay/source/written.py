"""What a module's source puts into a container, or under a name: enough to tell what is meant there."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from ascend_overlay.source.module import Names
from ascend_overlay.source.sources import LOADABLE, Sources

_CHANGES = {"add", "append", "appendleft", "clear", "extend", "insert", "pop", "popitem", "remove", "setdefault"}
_CHANGES |= {"update", "__setitem__", "register"}
"""Methods by which a container has something else than what was written."""


_CALLED: Any = callable
"""Stands for anything that is called; with which arguments, it does not say."""


def samples(module: str, path: Sequence[str], sources: Sources = LOADABLE) -> list[Any] | None:
    """Return what the source of `module` has at `path`: the entries of a container, or one value.

    A function stands for all that can be called; what is computed beside functions is taken for one. None where it is
    not certain, or nothing is written there.
    """
    source = sources.module(module)
    if source is None or len(path) > 2 or path[0] in source.written:
        return None
    names = source.names
    if len(path) == 2:
        owner = names.only(path[0])
        if owner is None or not isinstance(owner.node, ast.ClassDef):
            return None
        names = Names(owner.node.body, source.package)
    binding = names.only(path[-1])
    if binding is None or binding.conditional or any(_changes(node, path[-1]) for node in source.nodes):
        return None
    if binding.kind in ("function", "class"):
        return [_CALLED]
    value = binding.node.value if isinstance(binding.node, (ast.Assign, ast.AnnAssign)) else None
    if value is None or (isinstance(binding.node, ast.Assign) and not isinstance(binding.node.targets[0], ast.Name)):
        return None
    entries = _entries(value)
    found = [_sample(entry, source.names) for entry in entries]
    known = [each for each in found if each is not _UNKNOWN]
    if len(known) == len(found):
        return known or None
    computed = all(isinstance(entry, ast.Call) for entry, each in zip(entries, found, strict=True) if each is _UNKNOWN)
    return known if computed and known and all(each is _CALLED for each in known) else None


_UNKNOWN = object()


def _entries(value: ast.expr) -> list[ast.expr | None]:
    if isinstance(value, ast.Dict):
        # Of what is unpacked into it nothing is known.
        return [entry if key is not None else None for key, entry in zip(value.keys, value.values, strict=True)]
    return list(value.elts) if isinstance(value, (ast.List, ast.Tuple, ast.Set)) else [value]


def _sample(entry: ast.expr | None, names: Names) -> Any:
    if isinstance(entry, ast.Lambda):
        return _CALLED
    if isinstance(entry, ast.Constant):
        return entry.value
    if isinstance(entry, ast.Name):
        found = names.only(entry.id)
        return _CALLED if found is not None and found.kind in ("function", "class") else _UNKNOWN
    return _UNKNOWN


def _changes(node: ast.AST, name: str) -> bool:
    """Tell whether `node` changes the container of that name."""
    if isinstance(node, ast.Subscript):
        return not isinstance(node.ctx, ast.Load) and _is_named(node.value, name)
    return isinstance(node, ast.Attribute) and node.attr in _CHANGES and _is_named(node.value, name)


def _is_named(node: ast.expr, name: str) -> bool:
    return name == (node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None))
