"""Members of an enumeration: making one, entering it in all tables of its enumeration, taking it out."""

from __future__ import annotations

import contextlib
import enum
from types import ModuleType
from typing import Any

from ascend_overlay.errors import TargetError, did_you_mean, represented, told


def refuse(target: str, owner: Any, name: str, value: Any) -> None:
    """Raise a TargetError where `name` with `value` cannot become a member of `owner`."""
    if isinstance(owner, ModuleType):
        raise TargetError(
            f"the target {target} cannot be a member: it has no name of one; write '{target}.NAME', with the name of "
            f"the new member."
        )
    if not isinstance(owner, enum.EnumMeta):
        named = owner.__qualname__ if isinstance(owner, type) else repr(owner)
        raise TargetError(f"the target {target} cannot be a member: {named} is not an enumeration; use overlay.add.")
    if name.startswith("_") or name == "mro":
        raise TargetError(f"the target {target} cannot be a member: {name!r} is not the name of one.")
    if name in owner.__members__:
        raise TargetError(
            f"the target {target} exists already, with the value {owner[name]._value_!r}; it is captured in tables, "
            f"pickles and messages and stays. Add a member of another name."
        )
    if name in vars(owner) or hasattr(owner, name):
        raise TargetError(
            f"the target {target} exists already, as an attribute that is no member; choose another name."
        )
    if not owner.__members__:
        raise TargetError(f"the target {target} cannot be a member: {owner.__qualname__} has none, it is a base class.")
    members: dict[str, Any] = dict(owner.__members__)
    for other in members.values():
        if type(other._value_) is type(value) and other._value_ == value:
            raise TargetError(
                f"the target {target} would be another name of {owner.__qualname__}.{other._name_}, which has the "
                f"value {represented(value)}; choose another value.{did_you_mean(name, owner.__members__)}"
            )
    if issubclass(owner, enum.Flag) and (not isinstance(value, int) or value <= 0 or value & (value - 1)):
        raise TargetError(
            f"the target {target} is in a Flag: its value must be one bit (1, 2, 4, ...), not {represented(value)}."
        )
    if hash_of(value) is None:
        raise TargetError(
            f"the value {represented(value)} of {target} cannot be hashed, so Enum(value) would not find it."
        )


def hash_of(value: Any) -> int | None:
    """Return the hash, or None."""
    try:
        return hash(value)
    except TypeError:
        return None


def made(owner: type[enum.Enum], name: str, value: Any) -> Any:
    """Return a new member that is not entered anywhere yet.

    Raises:
        TargetError: the enumeration does not make a member of this value.
    """
    base = getattr(owner, "_member_type_", object)
    new = vars(owner).get("_new_member_") or getattr(owner, "__new_member__", None) or base.__new__
    function = getattr(new, "__func__", new)
    args = value if isinstance(value, tuple) else (value,)
    if base is tuple:
        args = (args,)
    try:
        member: Any = object.__new__(owner) if function is object.__new__ else function(owner, *args)
        if not hasattr(member, "_value_"):
            member._value_ = value if base is object else base(*args)
        member._name_ = name
        member.__objclass__ = owner
        member._sort_order_ = len(owner.__members__)
        member.__init__(*args)
    except Exception as error:
        raise TargetError(
            f"{owner.__module__}:{owner.__qualname__} makes no member {name} of {represented(value)}: {told(error)}"
        ) from error
    return member


def enter(member: Any) -> None:
    """Enter a member where its enumeration keeps them."""
    owner, name = type(member), member._name_
    owner._value2member_map_[member._value_] = member
    owner._member_map_[name] = member
    owner._member_names_.append(name)
    # EnumMeta refuses to set members.
    type.__setattr__(owner, name, member)
    _masks(owner)


def leave(member: Any) -> None:
    """Take a member out again; harmless where it is not entered, or not everywhere."""
    owner, name = type(member), member._name_
    if vars(owner).get(name) is member:
        type.__delattr__(owner, name)
    with contextlib.suppress(ValueError):
        owner._member_names_.remove(name)
    if owner._member_map_.get(name) is member:
        del owner._member_map_[name]
    for value, found in list(owner._value2member_map_.items()):
        if found is member or _combines(found, member):
            del owner._value2member_map_[value]
    _masks(owner)


def in_force(member: Any) -> bool:
    """Tell whether the enumeration gives this very member for its name and its value."""
    owner = type(member)
    return owner._member_map_.get(member._name_) is member and owner._value2member_map_.get(member._value_) is member


def _combines(found: Any, member: Any) -> bool:
    """Tell whether `found` is a combination of flags, made on demand, that has `member` in it."""
    if not isinstance(found, enum.Flag):
        return False
    listed = any(found is other for other in type(found)._member_map_.values())
    return not listed and bool(found._value_ & member._value_)


def _masks(owner: Any) -> None:
    """Bring up to date what a Flag has computed from its members."""
    if not issubclass(owner, enum.Flag):
        return
    values = [member._value_ for member in owner._member_map_.values()]
    every, singles = 0, 0
    for value in values:
        every |= value
        singles |= 0 if value & (value - 1) else value
    computed = {"_flag_mask_": every, "_singles_mask_": singles, "_all_bits_": 2 ** every.bit_length() - 1}
    for name, mask in computed.items():
        if name in vars(owner) and vars(owner)[name] != mask:
            type.__setattr__(owner, name, mask)
    for value, found in list(owner._value2member_map_.items()):
        if getattr(found, "_inverted_", None) is not None:
            found._inverted_ = None
        if value != found._value_:
            # An IntFlag that was inverted is known by its negative value, too, which means other flags now.
            del owner._value2member_map_[value]
