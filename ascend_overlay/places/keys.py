"""Changed keys of TypedDicts and defaults of named tuples, computed anew from all changes in force."""

from __future__ import annotations

from typing import Any

from ascend_overlay.errors import TargetError
from ascend_overlay.places import declared
from ascend_overlay.places.target import MISSING


class KeyChange:
    """One key of a TypedDict or one field of a named tuple, changed or added."""

    __slots__ = ("annotation", "default", "gone", "name", "owner")

    def __init__(self, owner: Any, name: str, default: Any, annotation: Any) -> None:
        self.owner = owner
        self.name = name
        self.default = default
        self.annotation = annotation
        self.gone = False


class _Stock:
    """What a class had before its first change."""

    __slots__ = ("attributes", "defaults")

    def __init__(self, owner: Any) -> None:
        names = ("__annotations__", "__optional_keys__", "_field_defaults")
        self.attributes = {name: vars(owner)[name] for name in names if name in vars(owner)}
        self.defaults = owner.__new__.__defaults__ if declared.is_named_tuple(owner) else None


class _State:
    __slots__ = ("changes", "stock")

    def __init__(self) -> None:
        self.changes: list[KeyChange] = []
        self.stock: dict[Any, _Stock] = {}


_state = _State()


def refuse(target: str, owner: Any, name: str, default: Any, factory: Any, annotation: Any) -> None:
    """Raise a TargetError where the change cannot be made."""
    if declared.is_typed_dict(owner):
        if default is not MISSING or factory is not MISSING:
            raise TargetError(
                f"the target {target} is a key of a TypedDict, which has no defaults; give annotation= only, and "
                f"wrap the function that makes the dictionary."
            )
        return
    if name not in owner._fields:
        raise TargetError(
            f"the target {target} cannot be added: a named tuple is as long as whoever unpacks it expects; wrap the "
            f"function that makes it, or put a derived class in place with overlay.subclass."
        )
    if factory is not MISSING:
        raise TargetError(f"the target {target} is a field of a named tuple, which has no factories; give default=.")
    if default is not MISSING:
        after = owner._fields[owner._fields.index(name) + 1 :]
        if bare := [other for other in after if other not in owner._field_defaults]:
            raise TargetError(f"the target {target} cannot have a default: {bare[0]!r} after it has none.")
    if "__new__" not in vars(owner):
        raise TargetError(f"the target {target} is inherited; name the named tuple that declares {name!r}.")


def enter(change: KeyChange) -> None:
    """Bring a change into force."""
    _state.stock.setdefault(change.owner, _Stock(change.owner))
    _state.changes.append(change)
    _recompute(change.owner)


def leave(change: KeyChange) -> None:
    """Take a change out of force; harmless where it is not in force."""
    change.gone = True
    _recompute(change.owner)
    _state.changes[:] = [other for other in _state.changes if other is not change]
    if not any(other.owner is change.owner for other in _state.changes):
        _state.stock.pop(change.owner, None)


def in_force(change: KeyChange) -> bool:
    """Tell whether the class has what the change says."""
    if change.default is not MISSING and change.owner._field_defaults.get(change.name) is not change.default:
        return False
    annotations = vars(change.owner)["__annotations__"]
    return change.annotation is MISSING or annotations.get(change.name) is change.annotation


def _recompute(owner: Any) -> None:
    stock = _state.stock.get(owner)
    if stock is None:
        return
    active = [change for change in _state.changes if change.owner is owner and not change.gone]
    wanted = {name: _changed(name, value, stock, active) for name, value in stock.attributes.items()}
    for name, value in wanted.items():
        if vars(owner).get(name) is not value:
            type.__setattr__(owner, name, value)
    if declared.is_named_tuple(owner):
        defaults = wanted["_field_defaults"]
        same = defaults is stock.attributes["_field_defaults"]
        owner.__new__.__defaults__ = (
            stock.defaults if same else tuple(defaults[name] for name in owner._fields if name in defaults)
        )


def _changed(name: str, value: Any, stock: _Stock, active: list[KeyChange]) -> Any:
    if name == "_field_defaults":
        news = {change.name: change.default for change in active if change.default is not MISSING}
    else:
        news = {change.name: change.annotation for change in active if change.annotation is not MISSING}
    if name == "__optional_keys__":
        news = {key: None for key in news if key not in stock.attributes["__annotations__"]}
        return value | frozenset(news) if news else value
    return {**value, **news} if news else value
