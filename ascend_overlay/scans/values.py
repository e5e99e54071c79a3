"""What an expression of a package may mean, as far as its source tells."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Outside:
    """Something of another package, by the way to it.

    Attributes:
        parts: the names on the way, the package first; "['key']" where one is an entry of a container.
        sure: so many of them are certainly those of a module: what stands behind `from`, or behind `import`.
    """

    parts: tuple[str, ...]
    sure: int = 1

    def member(self, name: str) -> Outside:
        """Return an attribute of it; what is in its __dict__ is one as well."""
        parts = self.parts[:-1] if self.parts[-1] == "__dict__" else self.parts
        return Outside((*parts, name), min(self.sure, len(parts)))

    def entry(self, key: str | int) -> Outside:
        """Return an entry of it."""
        return (
            self.member(str(key)) if self.parts[-1] == "__dict__" else Outside((*self.parts, f"[{key!r}]"), self.sure)
        )


@dataclass(frozen=True)
class Const:
    """A constant."""

    value: Any


@dataclass(frozen=True, eq=False)
class Local:
    """A function, a lambda or a class that the package defines.

    Attributes:
        node: its statement, or the lambda.
        module: the name of its module.
        path: its names there; "<locals>" where a function makes it.
        scope: what the names in it mean.
    """

    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
    module: str
    path: tuple[str, ...]
    scope: Scope

    @property
    def name(self) -> str:
        """ "module:Name", by which it can be imported; "" where it cannot be."""
        lost = "<locals>" in self.path or isinstance(self.node, ast.Lambda)
        return "" if lost else f"{self.module}:{'.'.join(self.path)}"


@dataclass(frozen=True, eq=False)
class Instance:
    """An object of a class that the package defines, with the attributes that were seen to be set on it."""

    cls: Local
    attributes: dict[str, Values] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Bound:
    """A method, and what it is bound to."""

    function: Local
    owner: Instance | Local


@dataclass(frozen=True)
class OwnModule:
    """A module of the package."""

    name: str


@dataclass(frozen=True, eq=False)
class Sequence:
    """A list, tuple or set."""

    items: tuple[Values, ...]


@dataclass(frozen=True, eq=False)
class Mapping:
    """A dictionary."""

    pairs: tuple[tuple[Values, Values], ...]


@dataclass(frozen=True, eq=False)
class Made:
    """What a call gives that was not followed.

    Attributes:
        callee: what is called.
        arguments: what is passed.
    """

    callee: Values
    arguments: Values


Value: TypeAlias = "Outside | Const | Local | Instance | Bound | OwnModule | Sequence | Mapping | Made"
Values: TypeAlias = "tuple[Value, ...]"
"""What an expression may be; none: nobody knows."""

_MOST = 48


class Scope:
    """The names of a module, a class or a function.

    Attributes:
        names: what each may mean.
        parent: where else a name is looked up.
        path: the names of the function or class in its module.
        module: the name of the module.
    """

    def __init__(self, module: str, path: tuple[str, ...] = (), parent: Scope | None = None) -> None:
        self.module, self.path, self.parent = module, path, parent
        self.names: dict[str, Values] = {}
        self.elsewhere: dict[str, Scope] = {}
        self.is_class = False

    def home(self, name: str) -> Scope:
        """Return the scope in which a statement binds `name`."""
        return self.elsewhere.get(name, self)

    def top(self) -> Scope:
        """Return the scope of the module."""
        return self if self.parent is None else self.parent.top()

    def find(self, name: str) -> Scope | None:
        """Return the scope that has `name`."""
        scope: Scope | None = self.home(name)
        first = scope
        while scope is not None:
            if name in scope.names and (scope is first or not scope.is_class):
                return scope
            scope = scope.parent
        return None

    def get(self, name: str) -> Values:
        """Return what `name` may mean."""
        scope = self.find(name)
        return scope.names[name] if scope is not None else ()

    def bind(self, name: str, values: Values, *, also: bool) -> None:
        """Bind `name`; with `also` it may still be what it was."""
        names = self.home(name).names
        names[name] = union([names.get(name, ()), values]) if also else values


def union(many: Iterable[Values]) -> Values:
    """Return what one of many may be."""
    found: dict[Any, Value] = {}
    for values in many:
        for value in values:
            found.setdefault(_key(value), value)
    return tuple(found.values())[:_MOST]


def _key(value: Value) -> Any:
    try:
        hash(value)
    except TypeError:
        return id(value)
    # 1 and True are equal.
    return (type(value.value), value) if isinstance(value, Const) else value


def outsides(values: Values, package: str, depth: int = 4) -> Iterator[Outside]:
    """Yield what of another package is among `values`, or in a container among them."""
    for value in values:
        if isinstance(value, Outside) and value.parts[0] == package:
            yield value
        elif depth and isinstance(value, Sequence):
            for item in value.items:
                yield from outsides(item, package, depth - 1)
        elif depth and isinstance(value, Mapping):
            for pair in value.pairs:
                yield from outsides(pair[0] + pair[1], package, depth - 1)
        elif depth and isinstance(value, Made):
            yield from outsides(value.arguments, package, depth - 1)
        elif depth and isinstance(value, Instance):
            for attribute in value.attributes.values():
                yield from outsides(attribute, package, depth - 1)


def texts(values: Values) -> list[str]:
    """Return the strings among `values`."""
    return [value.value for value in values if isinstance(value, Const) and isinstance(value.value, str)]


_LOCATIONS = {"__file__", "__path__", "origin", "submodule_search_locations"}


def located(values: Values, package: str) -> list[Outside]:
    """Return those of `values` that are a place of the package in the file system, or are made of one."""
    return [each for each in outsides(values, package) if not _LOCATIONS.isdisjoint(each.parts)]


def inner_texts(values: Values, depth: int = 6) -> list[str]:
    """Return the strings that `values` are made of, in their order."""
    found: list[str] = []
    for value in values:
        if isinstance(value, Const) and isinstance(value.value, str):
            found.append(value.value)
        elif depth and isinstance(value, Made):
            found += inner_texts(value.arguments, depth - 1)
    return found
