"""Names that a module certainly does not have, read from its source without importing anything."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator

from ascend_overlay.source.sources import LOADABLE, Sources

_MAKERS = {"globals", "locals", "vars", "exec", "eval", "setattr", "__setattr__", "__dict__", "__getattr__"}
"""With these, a module can have names that its source does not spell."""


def absent(module: str, name: str, sources: Sources = LOADABLE) -> list[str] | None:
    """Return the classes and imported names of `module` if it certainly has no `name`, else None.

    It is certain where neither the source of the module nor those of the packages that it is in have the word anywhere,
    so that nothing there defines, imports or sets it, and where the source uses nothing that makes names without
    spelling them. What has no Python source may have any name.
    """
    if sources is LOADABLE and name in vars(sys.modules.get(module, object)):
        return None
    text = sources.text(module)
    if text is None or any(_mentions(each, name) for each in (text, *_above(module, sources))):
        return None
    parsed = sources.module(module)
    if parsed is None or any(_makes_names(node) for node in parsed.nodes):
        return None
    classes = [node.name for node in parsed.nodes if isinstance(node, ast.ClassDef)]
    imports = [node for node in parsed.nodes if isinstance(node, ast.ImportFrom)]
    return classes + [alias.asname or alias.name for node in imports for alias in node.names]


def _above(module: str, sources: Sources) -> Iterator[str]:
    while module := module.rpartition(".")[0]:
        yield sources.text(module) or ""


def _mentions(text: str, name: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", text) is not None


def _makes_names(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in _MAKERS
    if isinstance(node, ast.Attribute):
        # sys.modules, by any name of sys; the method of a torch.nn.Module is taken for it, which does no harm.
        return node.attr in _MAKERS or (node.attr == "modules" and isinstance(node.value, ast.Name))
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return node.name in _MAKERS
    return isinstance(node, ast.alias) and not {node.name, node.asname}.isdisjoint({"*", "modules", *_MAKERS})
