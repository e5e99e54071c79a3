"""Fingerprints of source: equal as long as the code is, whatever its layout, comments, docstrings and annotations."""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Callable

_LEFT_OUT = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
_ANNOTATIONS = frozenset({"annotation", "returns", "type_params"})
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def fingerprint(node: ast.AST, *, annotations: bool = False) -> str:
    """Return the fingerprint of a statement, expression or module: the same by every release of Python.

    The type of what the body of a class declares counts always: it is read by dataclasses and pydantic.

    Args:
        node: the source.
        annotations: those of arguments, results and variables count.
    """
    parts: list[str] = []
    _add(node, parts.append, annotations)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:16]


class _Put(str):
    """Text that goes to the fingerprint as it is."""

    __slots__ = ()


_CLOSE, _END = (_Put("]"), False), (_Put(")"), False)


@functools.cache
def _field(name: str) -> tuple[object, bool]:
    return _Put(name), False


def _add(root: object, put: Callable[[str], None], annotations: bool) -> None:
    # Without recursion: Python parses what is nested deeper than it can call.
    todo: list[tuple[object, bool]] = [(root, False)]
    while todo:
        value, in_class = todo.pop()
        if type(value) is _Put:
            put(value)
            continue
        if isinstance(value, list):
            todo.append(_CLOSE)
            todo += [(each, in_class) for each in reversed(value)]
            put("[")
            continue
        if not isinstance(value, ast.AST):
            put(repr(value))
            continue
        if isinstance(value, ast.AnnAssign) and not annotations and not in_class:
            if value.value is None:
                continue
            value = ast.Assign([value.target], value.value)
        if isinstance(value, ast.ClassDef):
            in_class = True
        elif isinstance(value, _FUNCTIONS):
            in_class = False
        put(f"({type(value).__name__}")
        todo.append(_END)
        for name in reversed(value._fields):
            inside = _inside(value, name)
            # Each release of Python adds fields of its own, and leaves them empty in code that is older.
            if inside is None or inside == []:
                continue
            if name in _ANNOTATIONS and not annotations and isinstance(value, (ast.arg, *_FUNCTIONS)):
                continue
            todo.append((inside, in_class))
            todo.append(_field(name))


def _inside(node: ast.AST, name: str) -> object:
    if name in _LEFT_OUT:
        return None
    if name == "body" and isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return node.body[ast.get_docstring(node, clean=False) is not None :]
    if isinstance(node, ast.JoinedStr):
        # Python 3.12 adds empty parts.
        return [part for part in node.values if not (isinstance(part, ast.Constant) and part.value == "")]
    return getattr(node, name, None)
