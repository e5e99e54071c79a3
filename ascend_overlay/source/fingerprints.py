"""Fingerprints of source: equal as long as the code is, whatever its layout, its comments and its docstrings."""

from __future__ import annotations

import ast
import hashlib

_LEFT_OUT = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
_BARE = _LEFT_OUT | {"annotation", "returns"}


def fingerprint(node: ast.AST, *, annotations: bool = True) -> str:
    """Return the fingerprint of a statement, expression or module: the same by every release of Python.

    Args:
        node: what.
        annotations: those of arguments and results count as well; those of fields always do.
    """
    parts: list[str] = []
    _add(node, parts, _LEFT_OUT if annotations else _BARE)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _add(value: object, parts: list[str], left_out: frozenset[str]) -> None:
    if isinstance(value, list):
        parts.append("[")
        for each in value:
            _add(each, parts, left_out)
        parts.append("]")
    elif isinstance(value, ast.AST):
        parts.append(f"({type(value).__name__}")
        # What annotates a field makes the class what it is; what annotates an argument is for readers.
        kept = _LEFT_OUT if isinstance(value, ast.AnnAssign) else left_out
        for name in value._fields:
            inside = _inside(value, name)
            # Each release of Python adds fields of its own, and leaves them empty in code that is older.
            if name not in kept and inside is not None and inside != []:
                parts.append(name)
                _add(inside, parts, left_out)
        parts.append(")")
    else:
        parts.append(repr(value))


def _inside(node: ast.AST, name: str) -> object:
    if name == "body" and isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return node.body[ast.get_docstring(node, clean=False) is not None :]
    if isinstance(node, ast.JoinedStr):
        # Python 3.12 adds empty parts.
        return [part for part in node.values if not (isinstance(part, ast.Constant) and part.value == "")]
    return getattr(node, name, None)
