"""Changed and added fields of dataclasses and of what pydantic compiled, computed anew from all changes in force.

What a class has is its own state plus the changes of it and of its bases that are in force, in their order. So changes
can come and go in any order, and with the last one the very objects come back that were there before.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ascend_overlay.errors import TargetError
from ascend_overlay.places import declared, generated, pydantic_models
from ascend_overlay.places.target import MISSING

# Tables that are computed from the fields of a class, once: module, function with cache_clear().
_TABLES = (("vllm.engine.arg_utils", "_compute_kwargs"),)


class FieldChange:
    """One field of one class, changed or added.

    Attributes:
        owner: the class.
        name: the field's name.
        default: its default, or MISSING.
        factory: its default factory, or MISSING.
        annotation: its type, or MISSING: that which it has; or a function that makes it of that which it has.
        whose: the overlay and plugin that it comes from, in words.
        gone: the change is being taken back.
        known: the classes derived from the owner that were there when it was made.
    """

    __slots__ = ("__weakref__", "_made", "annotation", "default", "factory", "gone", "known", "name", "owner", "whose")

    def __init__(self, owner: type, name: str, default: Any, factory: Any, annotation: Any, whose: str = "") -> None:
        self.owner = owner
        self.name = name
        self.default = default
        self.factory = factory
        self.annotation = annotation
        self.whose = whose
        self.gone = False
        self.known: weakref.WeakSet[type] = weakref.WeakSet()
        self._made: list[tuple[Any, Any]] = []

    def made(self, original: Any) -> Any:
        """Return the field in place of `original` (MISSING: a new one), always the same for the same."""
        for before, after in self._made:
            if before is original:
                return after
        build = _model_field if declared.is_model(self.owner) else _dataclass_field
        after = build(self, original)
        self._made.append((original, after))
        return after

    def origin(self, field: Any) -> Any:
        """Return what `field` was made of by this change; `field` itself where it was not."""
        return next((before for before, after in self._made if after is field), field)

    def type_of(self, original: Any) -> Any:
        """Return the type of the field, which has the type `original`."""
        if isinstance(self.annotation, Retyping):
            return self.annotation(original)
        return original if self.annotation is MISSING else self.annotation

    @property
    def has_default(self) -> bool:
        """Whether the change says anything on the default."""
        return self.default is not MISSING or self.factory is not MISSING


class Retyping:
    """A type that depends on that which the field has."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, original: Any) -> Any:
        return self.function(original)


class _Stock:
    """What a class had before its first change: attribute -> the very object, or MISSING."""

    __slots__ = ("attributes", "init", "methods")

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}
        self.methods: tuple[Any, dict[str, Any]] | None = None
        self.init: Any = None


class _State:
    """The changes in force, oldest first, and the classes that they concern."""

    __slots__ = ("changes", "stock")

    def __init__(self) -> None:
        self.changes: list[FieldChange] = []
        self.stock: dict[type, _Stock] = {}


_state = _State()


def enter(change: FieldChange) -> list[str]:
    """Bring a change into force, but for the generated methods of classes; return the rebuilt pydantic classes.

    Raises:
        TargetError: a class cannot have the field. `leave` takes back what was done.
    """
    family = generated.derived(change.owner)
    change.known.update(family)
    # A model's fields are a part of what pydantic_models keeps.
    pydantic_models.remember(change, family)
    _state.changes.append(change)
    _recompute()
    return pydantic_models.rebuild_classes(change, family)


def rival(change: FieldChange) -> FieldChange | None:
    """Return a change in force that decides the same, if there is one."""
    for other in _state.changes:
        same = other.owner is change.owner and other.name == change.name
        both = (other.has_default and change.has_default) or (_decides_type(other) and _decides_type(change))
        if same and both and not other.gone and other is not change:
            return other
    return None


def leave(change: FieldChange) -> None:
    """Take a change out of force; harmless where it is not in force."""
    change.gone = True
    _recompute()
    pydantic_models.release(change)
    _state.changes[:] = [other for other in _state.changes if other is not change]
    _forget_tables()


def methods_of(cls: type) -> dict[str, Any]:
    """Return the methods that @dataclass would write for the fields that `cls` has now; the same for the same."""
    fields = cls.__dataclass_fields__  # type: ignore[attr-defined]
    stock = _state.stock.get(cls)
    if stock is not None and stock.methods is not None and stock.methods[0] is fields:
        return stock.methods[1]
    found = _written(cls, fields)
    if stock is not None:
        stock.methods = (fields, found)
    return found


def keep_init(cls: type, init: Any) -> None:
    """Remember the `__init__` that comes back when `cls` is as it was."""
    if cls in _state.stock:
        _state.stock[cls].init = init


def field_in_force(change: FieldChange, cls: type) -> bool:
    """Tell whether the field that `cls` has is the one that `change` made."""
    field = getattr(cls, _place(cls), {}).get(change.name, MISSING)
    return field is not MISSING and change.origin(field) is not field


def give_back(change: FieldChange, cls: type, name: str) -> None:
    """Give the field `name` of `cls`, which was defined with the default that `change` made, the earlier one."""
    field = vars(cls)["__dataclass_fields__"][name]
    before = next((before for before, _ in change._made), MISSING)
    default = getattr(before, "default", MISSING)
    if type(default).__name__ == "FieldInfo":
        default = default.default
    if change.default is MISSING or field.default is not change.default or default in (MISSING, dataclasses.MISSING):
        return
    field.default = default
    if not _has_slot(cls, name):
        _put(cls, name, default)
    for derived in generated.derived(cls):
        if "__dataclass_fields__" in vars(derived) and vars(derived)["__dataclass_fields__"].get(name) is field:
            stock = _state.stock.get(derived)
            for function in (vars(derived).get("__init__"), stock.init if stock is not None else None):
                if declared.is_generated(derived, "__init__", function):
                    generated.set_default(function, name, default)


def is_changed(cls: type, name: str) -> bool:
    """Tell whether a change of this very field is in force, or being taken back."""
    return any(change.owner is cls and change.name == name for change in _state.changes)


def is_late(cls: type) -> bool:
    """Tell whether `cls` was derived from a changed class after the change."""
    return any(issubclass(cls, change.owner) and cls not in change.known for change in _state.changes)


def _recompute() -> None:
    active = [change for change in _state.changes if not change.gone]
    concerned = [*_state.stock, *(cls for change in _state.changes for cls in generated.derived(change.owner))]
    for cls in sorted(dict.fromkeys(concerned), key=lambda step: len(step.__mro__)):
        _see_late(cls)
        _bring(cls, _wanted(cls, active))
    _forget_tables()


def _see_late(cls: type) -> None:
    """Note what a class that was defined with changed fields would have had without the changes."""
    place = _place(cls)
    if cls in _state.stock or place not in vars(cls) or not is_late(cls):
        return
    fields = _stock_fields(cls, place)
    if not _same(fields, vars(cls)[place]):
        stock = _Stock()
        stock.attributes[place] = fields
        _state.stock[cls] = stock


def _place(cls: type) -> str:
    return "__pydantic_fields__" if declared.is_model(cls) else "__dataclass_fields__"


def _bring(cls: type, wanted: dict[str, Any]) -> None:
    """Give `cls` the attributes that are `wanted`, and back all others that were changed once."""
    stock = _state.stock.get(cls)
    if stock is None:
        if not wanted and not is_late(cls):
            return
        stock = _state.stock.setdefault(cls, _Stock())
    for name in wanted:
        stock.attributes.setdefault(name, vars(cls).get(name, MISSING))
    for name, original in list(stock.attributes.items()):
        _put(cls, name, wanted.get(name, original))
    if is_late(cls):
        _put_written(cls)
    if not wanted:
        del _state.stock[cls]


def _put_written(cls: type) -> None:
    if "__dataclass_fields__" not in vars(cls):
        return
    for name, method in methods_of(cls).items():
        # What pydantic or a wrapper has put there is theirs to bring up to date.
        if declared.is_bare(cls, name):
            _put(cls, name, method)


def _put(cls: type, name: str, value: Any) -> None:
    if vars(cls).get(name, MISSING) is value:
        return
    if value is MISSING:
        type.__delattr__(cls, name)
    else:
        type.__setattr__(cls, name, value)


def _wanted(cls: type, active: Iterable[FieldChange]) -> dict[str, Any]:
    place = _place(cls)
    if place not in vars(cls):
        return {}
    stock = _stock_fields(cls, place)
    fields, annotations, wanted = dict(stock), dict(_annotations(cls)), {}
    for change in active:
        own = cls is change.owner
        if not issubclass(cls, change.owner) or not (own or _inherits(cls, change, fields)):
            continue
        fields[change.name] = change.made(fields.get(change.name, MISSING))
        if own:
            annotations[change.name] = _type_of(fields[change.name])
        # What a change of this class has put there gives way to a later one of a base.
        there = (own or change.name in wanted) and not _has_slot(cls, change.name)
        if there and change.has_default and place == "__dataclass_fields__":
            # The attribute of a field with a factory is absent.
            wanted[change.name] = change.default
    if not _same(fields, stock):
        wanted[place] = vars(cls)[place] if _same(fields, vars(cls)[place]) else fields
    if annotations != _annotations(cls):
        wanted["__annotations__"] = annotations
    return wanted


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(other[name] is value for name, value in one.items())


def _inherits(cls: type, change: FieldChange, fields: Mapping[str, Any]) -> bool:
    """Tell whether `cls` has the field from the change's owner, rather than one of its own."""
    if change.name not in fields:
        return True
    return change.name not in _annotations(cls)


def _stock_fields(cls: type, place: str) -> dict[str, Any]:
    """Return the fields of `cls` without any change."""
    stock = _state.stock.get(cls)
    if stock is not None and place in stock.attributes:
        return dict(stock.attributes[place])
    fields = dict(vars(cls).get(place, {}))
    for change in reversed(_state.changes):
        name = change.name
        if name not in fields or not issubclass(cls, change.owner) or cls in change.known:
            continue
        original = change.origin(fields[name])
        if declared.is_model(cls) and name not in _annotations(cls):
            # Each model has copies of its own.
            original = _stock_fields(change.owner, place).get(name, MISSING)
        if original is MISSING:
            del fields[name]
        else:
            fields[name] = original
    return fields


def _annotations(cls: type) -> Mapping[str, Any]:
    """Return the annotations of the class's own body, without any change."""
    stock = _state.stock.get(cls)
    if stock is not None and "__annotations__" in stock.attributes:
        own = stock.attributes["__annotations__"]
        return {} if own is MISSING else own
    return vars(cls).get("__annotations__") or {}


def _type_of(field: Any) -> Any:
    return field.type if isinstance(field, dataclasses.Field) else field.annotation


def _has_slot(cls: type, name: str) -> bool:
    return type(vars(cls).get(name)).__name__ == "member_descriptor"


def _dataclass_field(change: FieldChange, original: Any) -> Any:
    if original is MISSING:
        options: dict[str, Any] = {"kw_only": True}
        if change.default is not MISSING:
            options["default"] = change.default
        if change.factory is not MISSING:
            options["default_factory"] = change.factory
        try:
            return generated.field(change.owner, change.name, change.annotation, dataclasses.field(**options))
        except (TypeError, ValueError) as error:
            raise _unusable(change.owner, error) from error
    made = copy.copy(original)
    made.type = change.type_of(made.type)
    if not change.has_default:
        return made
    if type(original.default).__name__ == "FieldInfo":
        made.default = _model_field(change, original.default)
        return made
    made.default = dataclasses.MISSING if change.default is MISSING else change.default
    made.default_factory = dataclasses.MISSING if change.factory is MISSING else change.factory
    return made


def _model_field(change: FieldChange, original: Any) -> Any:
    from pydantic.fields import FieldInfo

    options: dict[str, Any] = {}
    if change.default is not MISSING:
        options["default"] = change.default
    if change.factory is not MISSING:
        options["default_factory"] = change.factory
    if original is MISSING:
        return FieldInfo.from_annotated_attribute(change.annotation, FieldInfo(**options))
    made = copy.copy(original)
    # pydantic merges what was set explicitly, once more, whenever it builds the class.
    made._attributes_set = dict(original._attributes_set)
    if options:
        for name in ("default", "default_factory"):
            made._attributes_set.pop(name, None)
        made.default, made.default_factory = FieldInfo().default, None
    for name, value in options.items():
        setattr(made, name, value)
        made._attributes_set[name] = value
    if change.annotation is not MISSING and declared.is_model(change.owner):
        made.annotation = change.type_of(original.annotation)
        made._attributes_set["annotation"] = made.annotation
    return made


def _written(cls: type, fields: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return generated.methods(cls, fields)
    except (TypeError, ValueError) as error:
        raise _unusable(cls, error) from error


def _unusable(cls: type, error: Exception) -> TargetError:
    return TargetError(f"{cls.__module__}:{cls.__qualname__} cannot have the field: {error}.")


def _decides_type(change: FieldChange) -> bool:
    return change.annotation is not MISSING and not isinstance(change.annotation, Retyping)


def _forget_tables() -> None:
    for module, name in _TABLES:
        table: Any = getattr(sys.modules.get(module), name, None)
        if hasattr(table, "cache_clear"):
            table.cache_clear()
