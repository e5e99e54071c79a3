"""Fingerprints of source: equal as long as the code is, whatever its layout, its comments and its docstrings."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator

_LEFT_OUT = frozenset({"ctx", "kind", "type_comment", "type_ignores"})


def fingerprint(node: ast.AST) -> str:
    """Return the fingerprint of a statement, expression or module: the same by every release of Python."""
    digest = hashlib.sha256()
    for part in _parts(node):
        digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:16]


def _parts(value: object) -> Iterator[str]:
    if isinstance(value, list):
        yield "["
        for each in value:
            yield from _parts(each)
        yield "]"
    elif isinstance(value, ast.AST):
        yield f"({type(value).__name__}"
        for name in value._fields:
            inside = _inside(value, name)
            # Each release of Python adds fields of its own, and leaves them empty in code that is older.
            if name not in _LEFT_OUT and inside is not None and inside != []:
                yield name
                yield from _parts(inside)
        yield ")"
    else:
        yield repr(value)


def _inside(node: ast.AST, name: str) -> object:
    if name == "body" and isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return node.body[ast.get_docstring(node, clean=False) is not None :]
    if isinstance(node, ast.JoinedStr):
        # Python 3.12 adds empty parts.
        return [part for part in node.values if not (isinstance(part, ast.Constant) and part.value == "")]
    return getattr(node, name, None)
