"""Who was in a place before the first patch came to it, where that was not the place's own module."""

from __future__ import annotations

import ast
import functools
import sys
import types
from typing import Any

from ascend_overlay import settings
from ascend_overlay.places import foreign
from ascend_overlay.places.functions import function_of
from ascend_overlay.places.slots import Slot
from ascend_overlay.places.storages import Attribute
from ascend_overlay.source.module import Binding, Module
from ascend_overlay.source.sources import LOADABLE
from ascend_overlay.source.statements import dotted

_DEPTH = 8
_HARMLESS = ("functools", "contextlib")
_WRAPT = ("wrapt", "_wrappers")
"""wrapt, and what its part in C says of itself."""
_USUAL = {"builtins", "dataclasses", "enum", *_HARMLESS}
"""Packages whose decorators leave the methods that a class body defines as they are."""


def put_there_before(slot: Slot) -> str | None:
    """Return what somebody else put in a place before `slot` was made, or None where that is not certain.

    It is, where the source of the module defines the name by a statement, and what was there comes from a package that
    neither that module nor a decorator of the statement leads to.
    """
    if not isinstance(slot.storage, Attribute):
        return None
    owner, name = slot.storage.owner, slot.storage.name
    module, path = _place(owner, name)
    package = _package_of(slot.original)
    if not module or package in ("", "typing", module.partition(".")[0]):
        return None
    if isinstance(owner, type) and any(base.__module__.partition(".")[0] == package for base in owner.__mro__):
        # A base class can change what its derived classes define.
        return None
    source = LOADABLE.module(module)
    binding = _binding(source, path) if source is not None else None
    if source is None or binding is None or binding.kind == "value":
        return None
    if binding.kind == "import":
        return None if _is_re_export(binding, slot.original, package) else foreign.described(slot.original)
    packages = _decorators(source, binding.node)
    return None if packages is None or package in packages else foreign.described(slot.original)


def sentence(target: str, text: str) -> str:
    """Return what to tell the user of it."""
    return (
        f"the patch of {target} is {text}. Leave one of the two out, or accept it with "
        f"{settings.advice('foreign', 'accept')}."
    )


def _place(owner: Any, name: str) -> tuple[str, list[str]]:
    if isinstance(owner, types.ModuleType):
        return owner.__name__, [name]
    if isinstance(owner, type):
        return owner.__module__, [*owner.__qualname__.split("."), name]
    return "", []


def _package_of(value: Any) -> str:
    """Return the package that the code of a callable is from, past what a wrapper says that it is; "" if unknown."""
    for _ in range(_DEPTH):
        value = function_of(value)
        kind = type(value)
        if kind is types.FunctionType:
            return str(value.__globals__.get("__name__", "")).partition(".")[0]
        if issubclass(kind, type):
            return str(value.__module__).partition(".")[0]
        if any(step.__module__.partition(".")[0] in _WRAPT for step in kind.__mro__):
            value = getattr(value, "_self_wrapper", None)
        elif issubclass(kind, functools.partial):
            value = value.func
        elif issubclass(kind, types.MethodType):
            value = value.__func__
        elif kind.__module__ in ("builtins", "functools"):
            value = getattr(value, "__wrapped__", None)
        else:
            return kind.__module__.partition(".")[0] if callable(value) else ""
    return ""


def _binding(source: Module, path: list[str]) -> Binding | None:
    """Return the one statement that binds a name, in a module or a class, if that is certain."""
    *classes, name = path
    names, node = source.names, None
    if source.writes_unspelled or path[0] in source.written or (source.stars and not classes):
        return None
    for step in classes:
        found = names.only(step)
        node = found.node if found is not None and not found.conditional else None
        if not isinstance(node, ast.ClassDef) or node.keywords or (_decorators(source, node) or {""}) - _USUAL:
            return None
        names = source.members_of(node)
    if classes and name in source.added.get(classes[-1], ()):
        return None
    binding = names.only(name)
    return None if binding is None or binding.conditional else binding


def _is_re_export(binding: Binding, value: Any, package: str) -> bool:
    if binding.module.partition(".")[0] == package:
        return True
    origin = sys.modules.get(binding.module)
    return origin is None or getattr(origin, binding.original, value) is value


def _decorators(source: Module, node: ast.stmt) -> set[str] | None:
    """Return the packages that the decorators of a statement are from; None where that does not say who made it.

    A decorator of the module's own package may hand on to any other.
    """
    packages = {"builtins", *_HARMLESS}
    for decorator in getattr(node, "decorator_list", ()):
        path = dotted(decorator.func if isinstance(decorator, ast.Call) else decorator)
        if not path:
            return None
        found = source.names.only(path[0])
        if found is None and path[0] in ("property", "staticmethod", "classmethod"):
            continue
        if found is None or found.kind != "import" or found.module.partition(".")[0] == source.name.partition(".")[0]:
            return None
        packages.add(found.module.partition(".")[0])
    return packages
