"""Members that a class declares: fields, enumeration members, keys, the values of a Literal.

Such a class captures what it declares when it is built: in a generated `__init__`, in a compiled validator, in C, in
tables by value. Setting the attribute of that name changes none of them, so it is refused, with the call that does.
"""

from __future__ import annotations

import dataclasses
import enum
import os
import sys
import types
import typing
from typing import Any

from ascend_overlay.errors import TargetError, represented
from ascend_overlay.places.target import MISSING, Place

GENERATED = ("__init__", "__repr__", "__eq__", "__hash__", "__lt__", "__le__", "__gt__", "__ge__")
"""What @dataclass writes."""


def refuse(target: str, place: Place, value: Any, *, adding: bool = False) -> None:
    """Raise a TargetError where the place is a declared member, whose attribute nobody reads.

    Args:
        target: the target, as it is shown.
        place: where it is.
        value: what was to be put there.
        adding: the attribute does not exist yet.
    """
    if is_literal(place.raw):
        raise TargetError(
            f"the target {target} is a Literal, which annotations have captured; "
            f"add a value to it with overlay.entry({target!r}, value)."
        )
    if not isinstance(place.owner, type):
        return
    said = _says(target, place.owner, place.name, value, adding=adding)
    if said is not None:
        raise TargetError(said)


def is_captured(place: Place) -> bool:
    """Tell whether msgspec goes on calling the very function at `place`, whatever its class has there later."""
    return is_struct(place.owner) and place.name == "__post_init__"


def refuse_uncalled(target: str, place: Place) -> None:
    """Raise a TargetError where msgspec never calls the member, or captured one that cannot lead elsewhere."""
    if not is_struct(place.owner) or place.name not in ("__init__", "__new__", "__post_init__"):
        return
    if is_captured(place) and place.own and isinstance(place.raw, types.FunctionType):
        return
    why = (
        "msgspec captured it when the class that defines it was built"
        if is_captured(place)
        else "msgspec builds its objects in C and never calls it"
    )
    raise TargetError(
        f"the target {target} belongs to a msgspec.Struct: {why}, so a patch of it would never run. Put a derived "
        f"Struct with a __post_init__ of its own in place with overlay.subclass({_class(target)!r}, ...), or wrap "
        f"the function that makes the objects, or a method that the present __post_init__ calls."
    )


def is_literal(value: Any) -> bool:
    """Tell whether `value` is a ``Literal[...]``."""
    return typing.get_origin(value) is typing.Literal


def is_struct(owner: Any) -> bool:
    """Tell whether `owner` is a subclass of msgspec.Struct."""
    struct = getattr(sys.modules.get("msgspec"), "Struct", None)
    return isinstance(owner, type) and struct is not None and issubclass(owner, struct)


def is_model(owner: Any) -> bool:
    """Tell whether `owner` is a subclass of pydantic's BaseModel."""
    return isinstance(owner, type) and hasattr(owner, "__pydantic_validator__") and not dataclasses.is_dataclass(owner)


def is_named_tuple(owner: Any) -> bool:
    """Tell whether `owner` is a named tuple."""
    return isinstance(owner, type) and issubclass(owner, tuple) and hasattr(owner, "_field_defaults")


def is_typed_dict(owner: Any) -> bool:
    """Tell whether `owner` is a TypedDict, also one of typing_extensions."""
    return isinstance(owner, type) and hasattr(owner, "__required_keys__") and hasattr(owner, "__total__")


def fields_of(owner: type) -> dict[str, Any] | None:
    """Return the declared fields of `owner` by name; None: it is not of a kind that declares fields."""
    if dataclasses.is_dataclass(owner):
        return {name: field for name, field in owner.__dataclass_fields__.items() if not is_class_variable(field)}
    if is_struct(owner):
        return dict.fromkeys(owner.__struct_fields__)  # type: ignore[attr-defined]
    if is_model(owner):
        return dict(owner.__pydantic_fields__)  # type: ignore[attr-defined]
    if is_named_tuple(owner):
        return dict.fromkeys(owner._fields)  # type: ignore[attr-defined]
    if is_typed_dict(owner):
        return dict(owner.__annotations__)
    return None


def is_class_variable(field: Any) -> bool:
    """Tell whether a dataclass field only stands for a ClassVar."""
    return "CLASSVAR" in repr(getattr(field, "_field_type", ""))


def is_generated(owner: Any, name: str, raw: Any) -> bool:
    """Tell whether @dataclass wrote `raw`, the member `name` of `owner`."""
    if name not in GENERATED or not isinstance(owner, type) or "__dataclass_fields__" not in vars(owner):
        return False
    while wrapped := getattr(raw, "__wrapped__", None):
        raw = wrapped
    code = getattr(raw, "__code__", None)
    return isinstance(code, types.CodeType) and code.co_filename == "<string>"


def is_bare(owner: type, name: str) -> bool:
    """Tell whether `owner` has what @dataclass wrote under a name, with nobody's wrapper around it."""
    raw = vars(owner).get(name)
    # A generated __repr__ has a wrapper of Python's own.
    file = os.path.basename(getattr(getattr(raw, "__code__", None), "co_filename", ""))
    return is_generated(owner, name, raw) and file in ("<string>", "dataclasses.py", "reprlib.py")


def kind_of(owner: type) -> str:
    """Return a word for what kind of class `owner` is."""
    if is_struct(owner):
        return "msgspec.Struct"
    if "__pydantic_validator__" in vars(owner):
        return "pydantic dataclass" if dataclasses.is_dataclass(owner) else "pydantic model"
    if is_typed_dict(owner):
        return "TypedDict"
    return "named tuple" if is_named_tuple(owner) else "dataclass"


def _says(target: str, owner: type, name: str, value: Any, *, adding: bool) -> str | None:
    if issubclass(owner, enum.Enum):
        return _of_enumeration(target, owner, name, value, adding=adding)
    fields = fields_of(owner)
    if fields is None or (name not in fields and not (adding and _looks_declared(name, value))):
        return None
    kind = kind_of(owner)
    if is_struct(owner):
        return struct_sentence(target, owner)
    if name in fields:
        return (
            f"the target {target} is a field of a {kind}, whose constructor does not read the attribute; change its "
            f"default with overlay.field({target!r}, default={represented(value)})."
        )
    return (
        f"the target {target} would be an attribute of a {kind} that its constructor does not know; declare a field "
        f"with overlay.field({target!r}, default={represented(value)}). (A constant of the class, whose name is in "
        f"upper case or begins with an underscore, can be added.)"
    )


def _of_enumeration(target: str, owner: type[enum.Enum], name: str, value: Any, *, adding: bool) -> str | None:
    if name in owner.__members__:
        return (
            f"the target {target} is a member of an enumeration; its value is captured in tables, pickles and messages "
            f"and stays. Add a member of another name with overlay.member({_class(target) + '.NEW'!r}, value)."
        )
    if not adding or name.startswith("_") or callable(value) or hasattr(value, "__get__"):
        return None
    return (
        f"the target {target} would be an attribute of an enumeration, not a member; "
        f"add a member with overlay.member({target!r}, {represented(value)})."
    )


def struct_sentence(target: str, owner: type) -> str:
    """Return why a field of a msgspec.Struct cannot be changed, and what works."""
    return (
        f"the target {target} is, or would be, a field of the msgspec.Struct {owner.__qualname__}: fields and defaults "
        f"are compiled into the class and cannot be changed. Put a derived Struct that declares the field (anew) in "
        f"its place with overlay.subclass({_class(target)!r}, ...), or wrap the function that makes the objects."
    )


def _looks_declared(name: str, value: Any) -> bool:
    if name.startswith("_") or name.isupper():
        return False
    return value is MISSING or not (callable(value) or hasattr(value, "__get__"))


def _class(target: str) -> str:
    return target.rpartition(".")[0]
