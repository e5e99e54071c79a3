"""Classes that pydantic compiled: validators that hold on to what a class was made of.

A pydantic class captures its validator methods, and whether it has a `__post_init__`, when it is built; a class that
has it as a field captures all that again. A patch of such a member changes nothing until the validators are built
anew.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from ascend_overlay.errors import TargetError
from ascend_overlay.places.target import MISSING

Member = tuple[type, str]

_DECORATOR_GROUPS = ("validators", "field_validators", "model_validators", "root_validators")
# What a class was before its first rebuilding, and the patched members that made it necessary.
_before: dict[type, dict[str, Any]] = {}
_causes: dict[type, set[Member]] = {}


def captured(owner: Any, name: str) -> bool:
    """Tell whether pydantic has captured the member, so that changing it has no effect by itself.

    Raises:
        TargetError: the member is one that pydantic goes around, and no rebuilding helps.
    """
    if not _is_compiled(owner):
        return False
    if name == "__init__":
        raise TargetError(
            f"{owner.__module__}:{owner.__qualname__}.__init__ is not called when pydantic builds the object as a "
            f"field of another; patch {owner.__qualname__}.__post_init__ instead."
        )
    if name == "__post_init__":
        return True
    return any(name in getattr(owner.__pydantic_decorators__, group, {}) for group in _DECORATOR_GROUPS)


def rebuild(members: Iterable[Member]) -> list[str]:
    """Build the validators of the classes of `members`, and of those that embed them, anew.

    Returns the names of the classes.

    Raises:
        TargetError: pydantic cannot rebuild one of them.
    """
    members = [member for member in members if captured(*member)]
    names: list[str] = []
    for owner, name in members:
        for cls in (owner, *_embedding(owner)):
            _before.setdefault(cls, _snapshot(cls))
            _causes.setdefault(cls, set()).add((owner, name))
            _build(cls)
            names.append(f"{cls.__module__}.{cls.__qualname__}")
    return list(dict.fromkeys(names))


def restore(members: Iterable[Member]) -> None:
    """Undo `rebuild` for `members` that are as they were before; classes with other patched members are rebuilt."""
    gone = {member for member in members if _is_compiled(member[0])}
    restored: set[type] = set()
    for cls in list(_causes):
        if not _causes[cls] & gone:
            continue
        _causes[cls] -= gone
        if _causes[cls]:
            _build(cls)
            continue
        del _causes[cls]
        _put_back(cls, _before.pop(cls))
        restored.add(cls)
    # Classes that were compiled while the patch was in force have no earlier state to go back to.
    for owner in {owner for owner, name in gone if captured(owner, name)}:
        for cls in _embedding(owner):
            if cls not in restored and cls not in _causes:
                _build(cls)


def _is_compiled(owner: Any) -> bool:
    return isinstance(owner, type) and "__pydantic_validator__" in vars(owner)


def _build(cls: type) -> None:
    _rebind_decorators(cls)
    try:
        if dataclasses.is_dataclass(cls):
            from pydantic.dataclasses import rebuild_dataclass

            compiled: Any = cls
            rebuild_dataclass(compiled, force=True, _types_namespace=vars(sys.modules[cls.__module__]))
        else:
            cls.model_rebuild(force=True, _types_namespace=vars(sys.modules[cls.__module__]))  # type: ignore[attr-defined]
    except Exception as error:
        raise TargetError(
            f"pydantic compiled {cls.__module__}:{cls.__qualname__} before it was patched and cannot rebuild it "
            f"({type(error).__name__}: {error}); enable the overlays before vLLM is imported."
        ) from error


def _rebind_decorators(cls: type) -> None:
    infos = cls.__pydantic_decorators__  # type: ignore[attr-defined]
    for group in _DECORATOR_GROUPS:
        for name, decorator in getattr(infos, group, {}).items():
            function = getattr(cls, name)
            bound = decorator.shim(function) if decorator.shim is not None else function
            getattr(infos, group)[name] = dataclasses.replace(decorator, func=bound)


def _embedding(owner: type) -> Iterator[type]:
    """Yield the compiled classes that have `owner` in a field, inner ones first."""
    found = {owner}
    again = True
    candidates = _compiled_classes(owner.__module__.partition(".")[0])
    while again:
        again = False
        for cls in candidates:
            if cls not in found and any(_mentions(field, found) for field in _annotations(cls)):
                found.add(cls)
                again = True
                yield cls


def _compiled_classes(package: str) -> list[type]:
    seen: dict[int, type] = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == package and isinstance(module, types.ModuleType):
            for value in list(vars(module).values()):
                if _is_compiled(value):
                    seen[id(value)] = value
    return list(seen.values())


def _annotations(cls: type) -> list[Any]:
    return [getattr(field, "annotation", None) for field in getattr(cls, "__pydantic_fields__", {}).values()]


def _mentions(annotation: Any, classes: set[type]) -> bool:
    if isinstance(annotation, type) and annotation in classes:
        return True
    return any(_mentions(argument, classes) for argument in typing.get_args(annotation))


def _snapshot(cls: type) -> dict[str, Any]:
    infos = cls.__pydantic_decorators__  # type: ignore[attr-defined]
    groups = {group: dict(getattr(infos, group, {})) for group in _DECORATOR_GROUPS}
    return {"namespace": dict(vars(cls)), "decorators": groups}


def _put_back(cls: type, before: dict[str, Any]) -> None:
    for name in [name for name in vars(cls) if name.startswith("__pydantic") or name in ("__init__", "__signature__")]:
        old = before["namespace"].get(name, MISSING)
        if old is MISSING:
            type.__delattr__(cls, name)
        elif vars(cls)[name] is not old:
            type.__setattr__(cls, name, old)
    for group, entries in before["decorators"].items():
        if entries:
            getattr(cls.__pydantic_decorators__, group).update(entries)  # type: ignore[attr-defined]
