"""What pytest keeps of thousands of tests, left out of the searches of the heap by what is tested."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterable

import pytest

_PLAIN = (dict, list, set, tuple)
_OF_A_CALL = ("params", "indices", "_arg2scope", "_idlist", "marks")


def leave_out(items: Iterable[pytest.Item]) -> None:
    """Have the garbage collector know nothing of `items`, nor of what pytest made for them alone.

    They live as long as the process. They are most of the heap, which each enable() and disable() searches. What tests
    made themselves, their parameters for example, stays where it is found.
    """
    left: list[object] = list(items)
    seen = set(map(id, left))
    while left:
        each = left.pop()
        for part in gc.get_referents(each):
            if type(part).__name__.startswith("CallSpec"):
                for own in (part, *(getattr(part, name, None) for name in _OF_A_CALL)):
                    _leave_out(own)
            elif id(part) not in seen and gc.is_tracked(part) and _is_pytests(part):
                seen.add(id(part))
                left.append(part)
        _leave_out(each)


def _leave_out(one: object) -> None:
    # Of what is never tracked, the function would write before the beginning.
    if gc.is_tracked(one):
        ctypes.pythonapi.PyObject_GC_UnTrack(ctypes.py_object(one))


def _is_pytests(part: object) -> bool:
    """Tell whether it is a plain container, or an object of pytest's, but for what all tests of a file share."""
    if type(part) in _PLAIN:
        return len(part) < 200  # type: ignore[arg-type]
    shared = (pytest.Collector, pytest.Config, pytest.Mark, pytest.FixtureDef, type)
    return type(part).__module__.startswith("_pytest.") and not isinstance(part, shared)
