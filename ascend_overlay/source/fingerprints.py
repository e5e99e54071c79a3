"""Fingerprints of source: equal as long as the code is, whatever its layout, comments, docstrings and annotations."""

from __future__ import annotations

import ast
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
    _add(node, parts.append, annotations, in_class=False)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:16]


def _add(value: object, put: Callable[[str], None], annotations: bool, in_class: bool) -> None:
    if isinstance(value, list):
        put("[")
        for each in value:
            _add(each, put, annotations, in_class)
        put("]")
        return
    if isinstance(value, ast.AnnAssign) and not annotations and not in_class:
        if value.value is None:
            return
        value = ast.Assign([value.target], value.value)
    if not isinstance(value, ast.AST):
        put(repr(value))
        return
    if isinstance(value, ast.ClassDef):
        in_class = True
    elif isinstance(value, _FUNCTIONS):
        in_class = False
    put(f"({type(value).__name__}")
    for name in value._fields:
        inside = _inside(value, name)
        # Each release of Python adds fields of its own, and leaves them empty in code that is older.
        if name in _LEFT_OUT or inside is None or inside == []:
            continue
        if name in _ANNOTATIONS and not annotations and isinstance(value, (ast.arg, *_FUNCTIONS)):
            continue
        put(name)
        _add(inside, put, annotations, in_class)
    put(")")


def _inside(node: ast.AST, name: str) -> object:
    if name == "body" and isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return node.body[ast.get_docstring(node, clean=False) is not None :]
    if isinstance(node, ast.JoinedStr):
        # Python 3.12 adds empty parts.
        return [part for part in node.values if not (isinstance(part, ast.Constant) and part.value == "")]
    return getattr(node, name, None)
