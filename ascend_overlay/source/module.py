"""One parsed module: the names that it binds, where each comes from, its classes and functions."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ascend_overlay.source.statements import Function, bound_names, statements, walked

_WRITERS = frozenset({"globals", "vars", "locals", "exec", "eval", "modules"})
"""With these, a module can bind names of its own that it does not spell; `modules` is that of sys."""
_GIVERS = frozenset({"globals", "vars", "locals", "exec", "setattr"})
"""Calls of these can give such names to its classes, too."""


class Binding(NamedTuple):
    """One statement that binds a name of a module or class.

    Attributes:
        name: the name.
        kind: what the statement is; a value is whatever is assigned, counted or caught.
        node: the statement.
        conditional: it is in a branch or a loop, so that it need not run.
        module: of an import, the module that it imports or imports from.
        original: of an import from a module, the name there; "" where the module itself is bound.
    """

    name: str
    kind: Literal["class", "function", "import", "value"]
    node: ast.stmt
    conditional: bool
    module: str = ""
    original: str = ""


class Names(dict[str, tuple[Binding, ...]]):
    """What a module or class binds: name -> the statements that bind it, in their order."""

    def __init__(self, body: list[ast.stmt], package: str) -> None:
        super().__init__()
        for statement, conditional in statements(body):
            for binding in _bindings(statement, conditional, package):
                self[binding.name] = (*self.get(binding.name, ()), binding)

    def only(self, name: str) -> Binding | None:
        """Return the statement that binds `name`, if it is the only one, or one of several that import the same."""
        found = self.get(name, ())
        if len({(each.kind, each.module, each.original) for each in found}) != 1:
            return None
        return found[0] if len(found) == 1 or found[0].kind == "import" else None


@dataclass(frozen=True, eq=False)
class Class:
    """A class statement.

    Attributes:
        node: the statement.
        package: the package that relative imports in its body start from.
    """

    node: ast.ClassDef
    package: str

    @property
    def name(self) -> str:
        """Its name."""
        return self.node.name

    @functools.cached_property
    def members(self) -> Names:
        """What its body binds."""
        return Names(self.node.body, self.package)

    def method(self, name: str) -> Function | None:
        """Return the function that its body defines under `name`, where that is the only statement that binds it."""
        return _function(self.members.only(name))

    def inner(self, name: str) -> Class | None:
        """Return the class that its body defines under `name`, where that is the only statement that binds it."""
        return _class(self.members.only(name), self.package)


class Module:
    """A module that was parsed.

    Attributes:
        name: its dotted name.
        file: the path of its file.
        text: its source.
        tree: its syntax tree.
        package: the package that its relative imports start from.
    """

    def __init__(self, name: str, file: str, text: str, tree: ast.Module, *, is_package: bool) -> None:
        self.name, self.file, self.text, self.tree = name, file, text, tree
        self.package = name if is_package else name.rpartition(".")[0]

    @functools.cached_property
    def lines(self) -> list[str]:
        """The lines of the source."""
        return self.text.split("\n")

    def segment(self, node: ast.stmt) -> str:
        """Return the lines of a statement, its decorators included."""
        first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
        return "\n".join(self.lines[first - 1 : node.end_lineno])

    @functools.cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """All nodes of the tree."""
        return walked(self.tree)

    @functools.cached_property
    def names(self) -> Names:
        """What its statements bind when it is imported; the names of a star import are not among them."""
        return Names(self.tree.body, self.package)

    @functools.cached_property
    def stars(self) -> tuple[tuple[str, int], ...]:
        """The modules from which it imports all names, in their order, and the lines."""
        return tuple(
            (absolute(statement, self.package), statement.lineno)
            for statement, _ in statements(self.tree.body)
            if isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*"
        )

    @functools.cached_property
    def written(self) -> frozenset[str]:
        """The names that its functions bind with a `global` statement."""
        return frozenset(name for node in self.nodes if isinstance(node, ast.Global) for name in node.names)

    @functools.cached_property
    def added(self) -> dict[str, frozenset[str]]:
        """The attributes that its statements set from outside, by the name of what they are set on: `Class.x = ...`."""
        found: dict[str, frozenset[str]] = {}
        for statement, _ in statements(self.tree.body):
            for target in statement.targets if isinstance(statement, ast.Assign) else ():
                if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
                    found[target.value.id] = found.get(target.value.id, frozenset()) | {target.attr}
        return found

    @functools.cached_property
    def makes_names(self) -> bool:
        """Whether it may give itself or its classes names that it does not spell, by a call, a star or on demand."""
        return self.makes_unspelled or bool(self.stars)

    @functools.cached_property
    def makes_unspelled(self) -> bool:
        """Whether it may do so by a call or on demand."""
        called = {node.func.id for node in self.nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
        return bool(called & _GIVERS) or "__getattr__" in self.names

    @functools.cached_property
    def writes_unspelled(self) -> bool:
        """Whether it may bind names of its own that it does not spell; calls of setattr() are not counted.

        A module that imports itself, or is on sys.modules, can be given names from outside of its statements.
        """
        return any(_writes(node, self.name, self.package) for node in self.nodes)

    def members_of(self, node: ast.ClassDef) -> Names:
        """Return what the body of one of its classes binds."""
        return Names(node.body, self.package)

    def cls(self, name: str) -> Class | None:
        """Return the class that it defines under `name`, where that is the only statement that binds it."""
        return _class(self.names.only(name), self.package)

    def function(self, name: str) -> Function | None:
        """Return the function that it defines under `name`, where that is the only statement that binds it."""
        return _function(self.names.only(name))

    def classes(self) -> Iterator[Class]:
        """Yield the classes of its body, those in branches included."""
        for statement, _ in statements(self.tree.body):
            if isinstance(statement, ast.ClassDef):
                yield Class(statement, self.package)


def absolute(statement: ast.ImportFrom, package: str) -> str:
    """Return the module that a statement in `package` imports from."""
    if not statement.level:
        return statement.module or ""
    parts = package.split(".")
    kept = parts[: len(parts) - statement.level + 1]
    return ".".join([*kept, *filter(None, [statement.module])])


def _bindings(statement: ast.stmt, conditional: bool, package: str) -> Iterator[Binding]:
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            top = alias.name.partition(".")[0]
            yield Binding(alias.asname or top, "import", statement, conditional, alias.name if alias.asname else top)
    elif isinstance(statement, ast.ImportFrom):
        origin = absolute(statement, package)
        for alias in statement.names:
            if alias.name != "*":
                yield Binding(alias.asname or alias.name, "import", statement, conditional, origin, alias.name)
    elif isinstance(statement, ast.ClassDef):
        yield Binding(statement.name, "class", statement, conditional)
    elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
        yield Binding(statement.name, "function", statement, conditional)
    else:
        for name in dict.fromkeys(bound_names(statement)):
            yield Binding(name, "value", statement, conditional)


def _class(binding: Binding | None, package: str) -> Class | None:
    node = binding.node if binding is not None else None
    return Class(node, package) if isinstance(node, ast.ClassDef) else None


def _function(binding: Binding | None) -> Function | None:
    node = binding.node if binding is not None else None
    return node if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else None


def _writes(node: ast.AST, module: str, package: str) -> bool:
    if isinstance(node, ast.Name):
        return node.id in _WRITERS - {"modules"}
    if isinstance(node, ast.Attribute):
        # sys.modules, by any name of sys; the method of a torch.nn.Module is mostly called on `self`.
        return node.attr == "modules" and isinstance(node.value, ast.Name) and node.value.id != "self"
    if isinstance(node, ast.ImportFrom):
        origin = absolute(node, package)
        taken = {f"{origin}.{alias.name}" for alias in node.names}
        return module in taken or (origin in ("sys", "builtins") and any(a.name in _WRITERS for a in node.names))
    return isinstance(node, ast.Import) and any(alias.name == module for alias in node.names)
