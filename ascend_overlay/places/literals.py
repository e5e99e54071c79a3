"""The values of a Literal: a new Literal with one more, in the annotations that mention the old one."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

from ascend_overlay.places import declared, hints


class _Grown:
    """Every Literal that was made here, and of what. Python itself may or may not make equal ones one object."""

    __slots__ = ("made",)

    def __init__(self) -> None:
        self.made: list[tuple[Any, Any, Any]] = []


_grown = _Grown()


def extended(alias: Any, value: Any) -> Any:
    """Return a Literal with the values of `alias` and `value`; always the same for the same."""
    for base, added, new in list(_grown.made):
        if base is alias and type(added) is type(value) and added == value:
            return new
    new = typing.Literal[(*typing.get_args(alias), value)]
    _grown.made.append((alias, value, new))
    return new


def reduced(literal: Any, value: Any) -> Any:
    """Return what a Literal that was made here would be without `value`."""
    for base, added, new in list(_grown.made):
        if new is literal:
            same = type(added) is type(value) and added == value
            return base if same else extended(reduced(base, value), added)
    return literal


def root(literal: Any) -> Any:
    """Return the Literal that the given one was made of, step by step."""
    return next((root(base) for base, _, new in list(_grown.made) if new is literal), literal)


def substituted(annotation: Any, stem: Any, change: Callable[[Any], Any]) -> Any:
    """Return `annotation` with each Literal of the root `stem` changed."""
    return hints.exchanged(
        annotation, lambda part: change(part) if declared.is_literal(part) and root(part) is stem else part
    )


def names_of(alias: Any, package: str) -> list[tuple[types.ModuleType, str]]:
    """Return the globals of the package's modules, module and name, that hold `alias`."""
    return [
        (module, name) for module in _modules(package) for name, value in list(vars(module).items()) if value is alias
    ]


def made_of(alias: Any, package: str) -> list[str]:
    """Return the names of other Literals of the package that have all values of `alias`, and more.

    Python makes one flat Literal of a Literal of Literals, and keeps no trace of what it was made of.
    """
    values = {(type(value), value) for value in typing.get_args(alias)}
    return [
        f"{module.__name__}.{name}"
        for module in _modules(package)
        for name, other in list(vars(module).items())
        if typing.get_origin(other) is typing.Literal
        and other is not alias
        and values < {(type(value), value) for value in typing.get_args(other)}
    ]


def declaring(alias: Any, package: str) -> Iterator[tuple[type, str, Any]]:
    """Yield class, field and annotation of the fields whose annotation mentions `alias`, bases first.

    Equal Literals are one object to Python: only classes of modules that know `alias` by a name are asked.
    """
    found: dict[int, type] = {}
    for module in _modules(package):
        values = list(vars(module).values())
        if any(value is alias for value in values):
            classes = [value for value in values if isinstance(value, type) and value.__module__ == module.__name__]
            found.update((id(cls), cls) for cls in classes)
    for cls in sorted(found.values(), key=lambda step: len(step.__mro__)):
        for name, field in _fields(cls).items():
            annotation = field.type if isinstance(field, dataclasses.Field) else field.annotation
            mentioned = any(part is alias for part in hints.parts(annotation))
            if mentioned and name in (vars(cls).get("__annotations__") or {}):
                yield cls, name, annotation


def field_of(cls: type, name: str) -> Any:
    """Return the field that `cls` declares under a name."""
    return _fields(cls)[name]


def _fields(cls: type) -> dict[str, Any]:
    if "__dataclass_fields__" in vars(cls):
        return vars(cls)["__dataclass_fields__"]  # type: ignore[no-any-return]
    return vars(cls)["__pydantic_fields__"] if declared.is_model(cls) and "__pydantic_fields__" in vars(cls) else {}


def _modules(package: str) -> list[types.ModuleType]:
    return [
        module
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == package and isinstance(module, types.ModuleType)
    ]
