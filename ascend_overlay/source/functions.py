"""The source of a loaded function: its text, its definition in it, and code compiled from a text like it."""

from __future__ import annotations
import __future__

import ast
import copy
import linecache
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from ascend_overlay.source.matching import Definition, first_line
from ascend_overlay.source.snippets import parsed

_FUTURE = 0
for _name in __future__.all_feature_names:
    _FUTURE |= getattr(__future__, _name).compiler_flag


class NoSource(Exception):
    """A function has no source, or not the one that it was made from."""


@dataclass(frozen=True)
class FunctionSource:
    """Where a function was defined.

    Attributes:
        name: the function's module and qualified name.
        code: the function's code.
        file: what its tracebacks call the text.
        text: the whole text of its module.
        path: the nodes that lead from the module to the definition.
    """

    name: str
    code: CodeType
    file: str
    text: str
    path: tuple[ast.AST, ...]

    @property
    def definition(self) -> Any:
        """The definition."""
        return self.path[-1]

    @property
    def lines(self) -> list[str]:
        """The lines of the definition."""
        return self.text.split("\n")[first_line(self.definition) - 1 : self.definition.end_lineno]


def source_of_function(function: FunctionType) -> FunctionSource:
    """Return the source that `function` was made from.

    Raises:
        NoSource: there is none, or the one that there is would make another function.
    """
    code, name = function.__code__, f"{function.__module__}:{function.__qualname__}"
    if code.co_name == "<lambda>":
        raise NoSource("it is a lambda, which has no statements")
    for _ in range(2):
        text = "".join(linecache.getlines(code.co_filename, function.__globals__))
        path = definition_in(text, code)
        if path is not None and compiled(path, code, code.co_filename) == code:
            return FunctionSource(name, code, code.co_filename, text, path)
        # What is cached may be older than the function.
        linecache.checkcache(code.co_filename)
    if not text:
        raise NoSource(f"there is no source of it: its code comes from {code.co_filename}")
    raise NoSource(
        f"{code.co_filename} does not say what the loaded function does: the file has changed since it was imported, "
        f"or an import hook or a decorator rewrote the function"
    )


def definition_in(text: str, code: CodeType) -> tuple[ast.AST, ...] | None:
    """Return the nodes that lead to the definition in `text` that `code` was compiled from, or from an earlier text."""
    try:
        return _path_to((parsed(text),), code)
    except SyntaxError:
        return None


def _path_to(path: tuple[ast.AST, ...], code: CodeType) -> tuple[ast.AST, ...] | None:
    for node in ast.iter_child_nodes(path[-1]):
        if isinstance(node, ast.expr):
            continue
        here = (*path, node)
        if isinstance(node, Definition) and node.name == code.co_name and first_line(node) == code.co_firstlineno:
            return here
        if found := _path_to(here, code):
            return found
    return None


def compiled(path: Sequence[ast.AST], like: CodeType, file: str, free: Sequence[str] = ()) -> CodeType:
    """Compile the definition that `path` leads to, in the scopes that it stands in and no more.

    Args:
        path: the nodes from the module to the definition.
        like: the code of an earlier version of it.
        file: what tracebacks call the text.
        free: variables to take from the enclosing function whether they are used or not.

    Raises:
        SyntaxError: it says what Python does not allow.
    """
    definition: Any = path[-1]
    nodes = list(path)
    if free:
        nodes[-1] = _using(definition, free)
        if len(path) > 1:
            nodes[:-1] = _with_child(path[:-1], definition, nodes[-1])
    outermost = next(index for index, node in enumerate(nodes) if isinstance(node, Definition))
    node: Any = nodes[outermost]
    for scope in reversed(nodes[1:outermost]):
        if isinstance(scope, ast.ClassDef):
            shell = copy.copy(scope)
            shell.body, shell.decorator_list = [node], []
            node = shell
    # Python compiles a call of what the module imports in another way than one of a method.
    imports = list(_imports(path[0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = compile(
            ast.Module([*imports, node], []), file, "exec", flags=like.co_flags & _FUTURE, dont_inherit=True
        )
    found = _code_in(module, like)
    assert found is not None, "a definition compiles to a code object of its name"
    return found


def _imports(scope: ast.AST) -> Iterator[ast.stmt]:
    """Return the imports of a module's own scope."""
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and node.module != "__future__"):
            yield node
        elif not isinstance(node, (*Definition, ast.ClassDef, ast.expr)):
            yield from _imports(node)


def _using(definition: Any, free: Sequence[str]) -> Any:
    """Return the definition with the variables used where that leaves no trace in the code."""
    last = definition.body[-1]
    names: list[ast.stmt] = [ast.Expr(ast.Name(name, ast.Load())) for name in free]
    never = ast.If(ast.Constant(False), names, [])
    used = copy.copy(definition)
    used.body = [*definition.body, ast.fix_missing_locations(ast.copy_location(never, last))]
    return used


def _with_child(ancestors: Sequence[ast.AST], child: ast.AST, new: ast.AST) -> list[ast.AST]:
    """Return copies of `ancestors` in which `new` stands in place of `child`."""
    copies: list[ast.AST] = []
    for ancestor in reversed(ancestors):
        mine = copy.copy(ancestor)
        for field, value in ast.iter_fields(ancestor):
            if isinstance(value, list):
                setattr(mine, field, [new if node is child else node for node in value])
            elif value is child:
                setattr(mine, field, new)
        copies.insert(0, mine)
        child, new = ancestor, mine
    return copies


def _code_in(code: CodeType, like: CodeType) -> CodeType | None:
    for constant in code.co_consts:
        if not isinstance(constant, CodeType):
            continue
        if constant.co_name == like.co_name and constant.co_firstlineno == like.co_firstlineno:
            return constant
        if found := _code_in(constant, like):
            return found
    return None
