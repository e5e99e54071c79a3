"""Where the value of a patched place is kept: an attribute, an entry of a mapping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ascend_overlay.places.target import MISSING


class Storage(Protocol):
    """Where a slot's value is kept."""

    @property
    def name(self) -> str: ...

    @property
    def owner(self) -> Any: ...

    def put(self, value: Any) -> None: ...

    def delete(self) -> None: ...

    def get(self) -> Any: ...


def fill(storage: Storage, value: Any) -> None:
    """Have a storage hold `value`; MISSING: nothing."""
    if value is not MISSING:
        storage.put(value)
    elif storage.get() is not MISSING:
        storage.delete()


@dataclass(frozen=True, eq=False)
class Attribute:
    """An attribute of a module, class or object."""

    owner: Any
    name: str

    def get(self) -> Any:
        """Return what the owner itself holds, or MISSING."""
        return vars(self.owner).get(self.name, MISSING)

    def put(self, value: Any) -> None:
        """Set the attribute, past any `__setattr__` of a metaclass."""
        if isinstance(self.owner, type):
            type.__setattr__(self.owner, self.name, value)
        else:
            setattr(self.owner, self.name, value)

    def delete(self) -> None:
        """Remove the attribute from the owner itself."""
        if isinstance(self.owner, type):
            type.__delattr__(self.owner, self.name)
        else:
            delattr(self.owner, self.name)


@dataclass(frozen=True, eq=False)
class Item:
    """An entry of a mapping."""

    owner: Any
    key: Any

    @property
    def name(self) -> str:
        """The key, as text."""
        return repr(self.key)

    def get(self) -> Any:
        """Return the entry, or MISSING."""
        return self.owner.get(self.key, MISSING)

    def put(self, value: Any) -> None:
        """Set the entry."""
        self.owner[self.key] = value

    def delete(self) -> None:
        """Remove the entry."""
        del self.owner[self.key]


@dataclass(frozen=True, eq=False)
class Detached:
    """Where the value of a place is kept that is no more: its module has executed again."""

    owner: Any
    name: str
    held: list[Any]

    def get(self) -> Any:
        """Return the value."""
        return self.held[0]

    def put(self, value: Any) -> None:
        """Keep the value."""
        self.held[0] = value

    def delete(self) -> None:
        """Keep no value."""
        self.held[0] = MISSING


def spelled(mapping: Mapping[Any, Any], key: Any) -> Any:
    """Return a key as the mapping has it: one for which "A" and "a" are the same may have another spelling of it.

    By that, an entry can be put back as it was. Where it is not plain to see which key it is, `key` is returned.
    """
    if type(mapping) is dict or key not in mapping:
        return key
    if not isinstance(mapping, dict):
        # Asking for the values may have them made, as of a mapping that imports what it is asked for.
        alike = [other for other in mapping if str(other).casefold() == str(key).casefold()]
        return alike[0] if len(alike) == 1 else key
    entries = list(dict.items(mapping))
    if any(other == key for other, _ in entries):
        return key
    value = mapping[key]
    same = [other for other, held in entries if held is value]
    alike = [other for other in same if str(other).casefold() == str(key).casefold()]
    return next((found[0] for found in (same, alike) if len(found) == 1), key)
