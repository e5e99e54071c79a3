"""Whether a value can take the place of another, as far as its type tells."""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Iterable
from typing import Any

from ascend_overlay.errors import TargetError
from ascend_overlay.places.target import MISSING
from ascend_overlay.source.modules import exists

_PLAIN = (str, bytes, bool, int, float, complex, list, tuple, dict, set, frozenset)
_NUMBERS = (bool, int, float)
_COMPUTED = (property, functools.cached_property, types.MemberDescriptorType, types.GetSetDescriptorType)
_QUOTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")


def mismatch(old: Any, new: Any) -> str | None:
    """Return why users of `old` are likely to stumble over `new`, or None.

    Numbers are one type; None goes with everything; a function goes with everything that can be called. Of two classes
    of somebody's own nothing is known. Everything else has to be of the same type, or of one derived from it.
    """
    if old is None or new is None or isinstance(old, _COMPUTED):
        return None
    if isinstance(old, _NUMBERS) and isinstance(new, _NUMBERS):
        return None
    if isinstance(new, type(old)) or isinstance(old, type(new)):
        return None
    if _is_called(old):
        return None if _is_called(new) else f"what is there is called, and {_a(new)} cannot be"
    if isinstance(old, _PLAIN) or isinstance(new, _PLAIN):
        return f"what is there is {_a(old)}, and this is {_a(new)}"
    return None


def refuse_quoted(target: str, value: Any, *, beside: Iterable[Any] = ()) -> None:
    """Raise a TargetError where `value` is the text "module:Name" and an object was meant.

    Args:
        target: where the value is to go, for the error.
        value: the value.
        beside: what is there, and beside it: where that is text, the value may be text, too.
    """
    if not isinstance(value, str) or _QUOTED.match(value) is None:
        return
    if any(isinstance(other, str) for other in beside if other is not MISSING):
        return
    if exists(value.partition(":")[0]):
        raise TargetError(
            f"the value for {target} is the text {value!r}, and nothing would import it; write ref({value!r}) for the "
            f"object of that name, or say as_is=True if the text is meant."
        )


def _is_called(value: Any) -> bool:
    return callable(value) or isinstance(value, (staticmethod, classmethod))


def _a(value: Any) -> str:
    noun = "class" if isinstance(value, type) else type(value).__name__
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
