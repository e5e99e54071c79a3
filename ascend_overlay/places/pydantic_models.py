"""Classes that pydantic compiled: validators that hold on to what a class was made of.

A pydantic class captures its fields, its validator methods, and whether it has a `__post_init__`, when it is built; a
class that has it as a field captures all that again. A patch of such a member changes nothing until the validators are
built anew.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import weakref
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from typing import Any

from ascend_overlay.errors import TargetError, told
from ascend_overlay.places import generated, hints
from ascend_overlay.places.target import MISSING

Member = tuple[type, str]

_DECORATOR_GROUPS = ("validators", "field_validators", "model_validators", "root_validators")


class _Snapshot:
    """What pydantic made of a class. Re-binding does not reach into the attributes of an object."""

    __slots__ = ("decorators", "namespace")

    def __init__(self, cls: type) -> None:
        infos = cls.__pydantic_decorators__  # type: ignore[attr-defined]
        self.namespace = {name: value for name, value in vars(cls).items() if _is_pydantics(name)}
        self.decorators = {group: dict(getattr(infos, group, {})) for group in _DECORATOR_GROUPS}


class _Roots:
    """What a cause changed, and the compiled classes that embed it and were there when it did."""

    __slots__ = ("known", "objects", "package")

    def __init__(self, objects: Iterable[Any], package: str | None) -> None:
        self.objects = tuple(objects)
        self.package = package
        self.known: weakref.WeakSet[type] = weakref.WeakSet()

    def affected(self) -> list[type]:
        """Return the compiled classes that are concerned now: derived ones after their bases, embedding ones last."""
        classes = [cls for cls in self.objects if isinstance(cls, type)]
        family = list(dict.fromkeys(step for cls in classes for step in generated.derived(cls)))
        others = [found for found in self.objects if not isinstance(found, type)]
        return [*filter(is_compiled, family), *embedding([*family, *others], self.package)]


# What a class was before its first rebuilding, and what made it necessary: patched members, or other causes.
_before: dict[type, _Snapshot] = {}
_causes: dict[type, set[Hashable]] = {}
_roots: dict[Hashable, _Roots] = {}


def captured(owner: Any, name: str) -> bool:
    """Tell whether pydantic has captured the member, so that changing it has no effect by itself.

    Raises:
        TargetError: the member is one that pydantic goes around, and no rebuilding helps.
    """
    if not is_compiled(owner):
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
    names: list[str] = []
    for owner, name in [member for member in members if captured(*member)]:
        names += rebuild_classes((owner, name), [owner])
    return list(dict.fromkeys(names))


def rebuild_classes(cause: Hashable, changed: Sequence[Any], package: str | None = None) -> list[str]:
    """Build the validators of the compiled classes among `changed`, and of those that mention any of it, anew.

    Args:
        cause: what `release` is called with.
        changed: classes, compiled or not, and other parts of annotations.
        package: the package to search; None: that of what changed.

    Returns the names of the classes.

    Raises:
        TargetError: pydantic cannot rebuild one of them.
    """
    roots = _roots.get(cause) or _Roots(changed, package)
    classes = roots.affected()
    if cause not in _roots:
        roots.known.update(set(classes) - _late(classes))
        _roots[cause] = roots
    remember(cause, (cls for cls in classes if cls in roots.known))
    _build_all(classes)
    return [f"{cls.__module__}.{cls.__qualname__}" for cls in classes]


def remember(cause: Hashable, classes: Iterable[type]) -> None:
    """Keep what the compiled ones among `classes` are, before they are changed on behalf of `cause`."""
    for cls in filter(is_compiled, classes):
        # In this order: what is kept without a cause would be kept for ever.
        _causes.setdefault(cls, set()).add(cause)
        _before.setdefault(cls, _Snapshot(cls))


def restore(members: Iterable[Member]) -> None:
    """Undo `rebuild` for `members` that are as they were before; classes with other patched members are rebuilt."""
    _release(set(members))


def release(cause: Hashable) -> None:
    """Undo what was done for `cause`; harmless where nothing was, or all is undone already."""
    _release({cause})


def _release(gone: Collection[Hashable]) -> None:
    """Undo the rebuilding for the causes that are `gone`.

    A cause is forgotten after the act: an interrupted call is finished by the next.
    """
    touched = [cls for cls, causes in list(_causes.items()) if not causes.isdisjoint(gone)]
    back = [cls for cls in touched if _causes[cls].issubset(gone)]
    for cls in back:
        if cls in _before:
            _put_back(cls, _before[cls])
    late: list[type] = []
    for roots in [_roots[cause] for cause in gone if cause in _roots]:
        late += [cls for cls in roots.affected() if cls not in roots.known and cls not in late]
    _build_all([cls for cls in touched if cls not in back] + [cls for cls in late if cls not in touched])
    for cls in touched:
        left = _causes[cls].difference(gone)
        if left:
            _causes[cls] = left
        else:
            _before.pop(cls, None)
            _causes.pop(cls, None)
    for cause in gone:
        _roots.pop(cause, None)


def _late(classes: Iterable[type]) -> set[type]:
    """Return those that were compiled while a cause was in force: they have no earlier state to go back to."""
    found: set[type] = set()
    for roots in list(_roots.values()):
        found |= {cls for cls in roots.affected() if cls in classes and cls not in roots.known}
    return found


def _build_all(classes: Iterable[type]) -> None:
    for cls in list(classes):
        _build(cls)


def is_compiled(owner: Any) -> bool:
    """Tell whether a class is one that pydantic compiled."""
    return isinstance(owner, type) and "__pydantic_validator__" in vars(owner)


def _build(cls: type) -> None:
    _rebind_decorators(cls)
    try:
        if dataclasses.is_dataclass(cls):
            from pydantic.dataclasses import rebuild_dataclass

            compiled: Any = cls
            # pydantic takes the signature from here.
            compiled.__init__ = generated.methods(cls, compiled.__dataclass_fields__).get("__init__", cls.__init__)
            rebuild_dataclass(compiled, force=True, _types_namespace=vars(sys.modules[cls.__module__]))
        else:
            cls.model_rebuild(force=True, _types_namespace=vars(sys.modules[cls.__module__]))  # type: ignore[attr-defined]
    except Exception as error:
        raise TargetError(
            f"pydantic compiled {cls.__module__}:{cls.__qualname__} before it was patched and cannot rebuild it "
            f"({told(error)}); enable the overlays before vLLM is imported."
        ) from error


def _rebind_decorators(cls: type) -> None:
    infos = cls.__pydantic_decorators__  # type: ignore[attr-defined]
    for group in _DECORATOR_GROUPS:
        for name, decorator in getattr(infos, group, {}).items():
            function = getattr(cls, name)
            bound = decorator.shim(function) if decorator.shim is not None else function
            getattr(infos, group)[name] = dataclasses.replace(decorator, func=bound)


def embedding(roots: Iterable[Any], package: str | None = None) -> Iterator[type]:
    """Yield the compiled classes that have one of `roots` in the annotation of a field, inner ones first."""
    roots = list(roots)
    found = {id(root) for root in roots}
    packages = [package] if package else [getattr(root, "__module__", None) or "" for root in roots]
    candidates = _compiled_classes({package.partition(".")[0] for package in packages})
    again = True
    while again:
        again = False
        for cls in candidates:
            if id(cls) not in found and _mentions(cls, found):
                found.add(id(cls))
                again = True
                yield cls


def _compiled_classes(packages: Collection[str]) -> list[type]:
    seen: dict[int, type] = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in packages and isinstance(module, types.ModuleType):
            for value in list(vars(module).values()):
                if is_compiled(value):
                    seen[id(value)] = value
    return list(seen.values())


def _mentions(cls: type, found: Collection[int]) -> bool:
    fields = getattr(cls, "__pydantic_fields__", {}).values()
    return any(id(part) in found for field in fields for part in hints.parts(getattr(field, "annotation", None)))


def _is_pydantics(name: str) -> bool:
    return name.startswith("__pydantic") or name in ("__init__", "__signature__")


def _put_back(cls: type, before: _Snapshot) -> None:
    for name in [name for name in vars(cls) if _is_pydantics(name) and name not in before.namespace]:
        type.__delattr__(cls, name)
    for name, old in before.namespace.items():
        if vars(cls).get(name, MISSING) is not old:
            type.__setattr__(cls, name, old)
    for group, entries in before.decorators.items():
        if entries:
            getattr(cls.__pydantic_decorators__, group).update(entries)  # type: ignore[attr-defined]
