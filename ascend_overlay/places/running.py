"""Modules that are run as the program, by `python -m NAME`: a second copy, called __main__, which nobody imports.

Such a module does its work at its end, below `if __name__ == "__main__":`. What is above has been defined by then, so
that is where patches have to come in.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from types import CodeType
from typing import Any

_LOOKERS = {"globals", "vars", "locals", "exec", "eval", "modules", "getattr", "import_module"}
"""With these, code gets to names that it does not spell."""


def prepared(code: CodeType, loader: Any, name: str, hook: str) -> CodeType:
    """Return the code of a module that is to be run, with a call of `hook` before its work begins.

    Args:
        code: the code as it is.
        loader: the module's loader.
        name: the module's name.
        hook: "module:function", which is given `name`; its module must be loaded.

    Returns:
        `code` itself where its source is not at hand, or does not say where the work begins.
    """
    try:
        source = loader.get_source(name)
        tree = ast.parse(source)
    except (AttributeError, ImportError, SyntaxError, TypeError, ValueError):
        return code
    index = next((index for index, node in enumerate(tree.body) if _asks_whether_it_is_main(node)), None)
    if index is None:
        return code
    module, _, function = hook.partition(":")
    (call,) = ast.parse(f"__import__('sys').modules[{module!r}].{function}({name!r})").body
    for node in ast.walk(call):
        ast.copy_location(node, tree.body[index])
    tree.body.insert(index, call)
    return compile(tree, code.co_filename, "exec", dont_inherit=True)


@functools.lru_cache(maxsize=8)
def worked_with(source: str) -> frozenset[str] | None:
    """Return the names of a module that the work at its end leads to; None where source does not tell."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    index = next((index for index, node in enumerate(tree.body) if _asks_whether_it_is_main(node)), None)
    if index is None:
        return None
    above: dict[str, list[ast.stmt]] = {}
    for node in tree.body[:index]:
        for name in _bound_by(node):
            above.setdefault(name, []).append(node)
    reached: set[str] = set()
    todo: list[ast.stmt] = tree.body[index:]
    while todo:
        new = set(_named_in(todo.pop())) - reached
        reached |= new
        todo.extend(node for name in new for node in above.get(name, ()))
    return None if reached & _LOOKERS else frozenset(reached)


def _bound_by(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
        return
    # A class or function inside, as in `if ...:`, counts as a whole.
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            yield part.id
        elif isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield part.name


def _named_in(node: ast.stmt) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield part.id
        elif isinstance(part, ast.Attribute) and part.attr in _LOOKERS:
            yield part.attr


def _asks_whether_it_is_main(node: ast.stmt) -> bool:
    """Tell whether a statement is `if __name__ == "__main__":`, either way round."""
    if not isinstance(node, ast.If) or not isinstance(node.test, ast.Compare) or len(node.test.ops) != 1:
        return False
    sides = (node.test.left, node.test.comparators[0])
    return (
        isinstance(node.test.ops[0], ast.Eq)
        and any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides)
        and any(isinstance(side, ast.Constant) and side.value == "__main__" for side in sides)
    )
