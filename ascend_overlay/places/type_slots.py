"""What Python keeps of a class beside its attributes: the constructor of an inherited `__new__`, and the metaclass.

CPython offers no way back to either from Python code. Setting `__new__` puts a general constructor into the class, and
deleting it again leaves that there: from then on `object.__new__` refuses the arguments of `__init__`. And a class made
by `type` itself can't be given another metaclass. Both are one pointer in the class object, whose place is found by
watching it change in a class of our own, not taken from a table: where that is not plain to see, it is refused.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from dataclasses import dataclass
from typing import Any

from ascend_overlay.errors import TargetError
from ascend_overlay.places.storages import Attribute

_WORD = ctypes.sizeof(ctypes.c_void_p)
_SIZE: int = vars(type)["__basicsize__"].__get__(type)
"""Of a class object."""


@dataclass(frozen=True, eq=False)
class Constructor(Attribute):
    """The attribute `__new__` of a class, which is gone without a trace once it is deleted."""

    def delete(self) -> None:
        """Remove `__new__` from the class itself; the class and those derived from it construct as they did before."""
        super().delete()
        mend_constructors(self.owner)


def storage(owner: Any, name: str) -> Attribute:
    """Return where the attribute `name` of `owner` is kept."""
    if name != "__new__" or not isinstance(owner, type):
        return Attribute(owner, name)
    if name not in vars(owner) and _constructor_index() is None:
        raise TargetError(
            f"{owner.__module__}:{owner.__qualname__} inherits its __new__, and this Python offers no way to take a "
            f"patch of it back; wrap {owner.__qualname__}.__init__, or use overlay.subclass."
        )
    return Constructor(owner, name)


def mend_constructors(cls: type) -> None:
    """Have `cls`, and what is derived from it, construct by the `__new__` that they inherit now."""
    index = _constructor_index()
    if index is None:
        return
    todo = [cls]
    while todo:
        step = todo.pop(0)
        found = next(vars(base)["__new__"] for base in step.__mro__ if "__new__" in vars(base))
        # A function of Python's own: the class has the constructor of its base, as when it was made.
        if getattr(found, "__self__", None) is not None and step.__base__ is not None:
            _put(step, index, _get(step.__base__, index))
        children: list[type] = type.__subclasses__(step)
        todo.extend(child for child in children if "__new__" not in vars(child))


def can_set_metaclass() -> bool:
    """Tell whether the metaclass of a class that `type` made can be set here."""
    return _metaclass_index() is not None


def set_metaclass(cls: type, metaclass: type) -> None:
    """Give `cls` a metaclass of the same layout as the one that it has."""
    before = type(cls)
    if before is metaclass:
        return
    try:
        # Python allows it between metaclasses that were written in Python.
        type.__setattr__(cls, "__class__", metaclass)
    except TypeError:
        index = _metaclass_index()
        if index is None or _size_of(metaclass) != _size_of(before):
            raise
        # An object holds a reference to its type, where that is not one of Python's own.
        if _is_counted(metaclass):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(metaclass))
        _put(cls, index, id(metaclass))
        if _is_counted(before):
            ctypes.pythonapi.Py_DecRef(ctypes.py_object(before))
    # The interpreter remembers how a class is called until it is told of a change.
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(cls))


def _size_of(metaclass: type) -> int:
    """Return the size of the classes that a metaclass makes."""
    size: int = vars(type)["__basicsize__"].__get__(metaclass)
    return size


def _is_counted(cls: type) -> bool:
    return bool(cls.__flags__ & _HEAP_TYPE)


_HEAP_TYPE = 1 << 9


def _words(cls: type) -> list[int]:
    return list((ctypes.c_size_t * (_SIZE // _WORD)).from_address(id(cls)))


def _get(cls: type, index: int) -> int:
    return ctypes.c_size_t.from_address(id(cls) + index * _WORD).value


def _put(cls: type, index: int, value: int) -> None:
    ctypes.c_size_t.from_address(id(cls) + index * _WORD).value = value


@functools.cache
def _constructor_index() -> int | None:
    """Return which word of a class is its constructor; None where that cannot be told."""
    if sys.implementation.name != "cpython":
        return None

    class Untouched:
        pass

    class Probe:
        pass

    before = _words(Probe)
    type.__setattr__(Probe, "__new__", staticmethod(lambda cls, *args: object.__new__(cls)))
    during = _words(Probe)
    type.__delattr__(Probe, "__new__")
    after, base = _words(Probe), _words(Untouched)
    found = [
        index
        for index in range(len(before))
        # It stays what it became, which is the whole trouble, and it was what others have.
        if before[index] == base[index] != 0 and before[index] != during[index] == after[index]
    ]
    return found[0] if len(found) == 1 else None


@functools.cache
def _metaclass_index() -> int | None:
    """Return which word of a class is its metaclass; None where that cannot be told."""
    if sys.implementation.name != "cpython":
        return None

    class Meta(type):
        pass

    class Other(type):
        pass

    class Probe(metaclass=Meta):
        pass

    before = _words(Probe)
    Probe.__class__ = Other  # type: ignore[assignment]
    after = _words(Probe)
    found = [index for index in range(len(before)) if before[index] == id(Meta) and after[index] == id(Other)]
    return found[0] if len(found) == 1 else None
