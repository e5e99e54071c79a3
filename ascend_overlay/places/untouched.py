"""Whether what a loaded module has at a target is what its source says, whoever may have changed it."""

from __future__ import annotations

import ast
import inspect
import os
import sys
import types

from ascend_overlay.places.functions import function_of
from ascend_overlay.places.target import Target, find, require
from ascend_overlay.source.definitions import Definition, definition
from ascend_overlay.source.sources import Sources


def why_not(target: str, sources: Sources) -> str | None:
    """Return what is at `target` in place of what the source says, as a phrase; None where it is that, or nobody knows.

    Args:
        target: a target whose module is loaded.
        sources: its source.

    Raises:
        TargetError: it does not exist.
    """
    parsed = Target.parse(target)
    raw = require(find(sys.modules[parsed.module], parsed), parsed).raw
    found = definition(sources, parsed.module, parsed.path)
    if not isinstance(found, Definition):
        return None
    source = sources.module(found.module)
    if isinstance(found.node, ast.ClassDef):
        return _of_class(raw, found)
    if isinstance(found.node, (ast.FunctionDef, ast.AsyncFunctionDef)) and source is not None:
        return _of_function(raw, found.node, source.file)
    return None


def _of_class(raw: object, found: Definition) -> str | None:
    if not isinstance(raw, type):
        return f"it is {type(raw).__name__} {raw!r:.80}, and the source defines a class"
    name = f"{found.module}:{'.'.join(found.path)}"
    there = f"{raw.__module__}:{raw.__qualname__}"
    return None if there == name else f"it is the class {there}"


def _of_function(raw: object, node: ast.FunctionDef | ast.AsyncFunctionDef, file: str) -> str | None:
    function = function_of(raw)
    # What decorators make of it is theirs, and leads to the function mostly.
    if node.decorator_list:
        function = inspect.unwrap(function) if callable(function) else function
    code = getattr(function, "__code__", None)
    if not isinstance(code, types.CodeType):
        return (
            None
            if node.decorator_list
            else f"it is {type(raw).__name__} {raw!r:.80}, and the source defines a function"
        )
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    same = os.path.realpath(code.co_filename) == os.path.realpath(file)
    if same and first <= code.co_firstlineno <= (node.end_lineno or node.lineno):
        return None
    return f"its code comes from {code.co_filename}:{code.co_firstlineno}"
