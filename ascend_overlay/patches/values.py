"""Whether a value can take the place of another, as far as its type tells."""

from __future__ import annotations

import functools
import re
import sys
import types
from collections.abc import Iterable
from typing import Any

from ascend_overlay.errors import TargetError, represented
from ascend_overlay.patches import signatures
from ascend_overlay.places.target import MISSING, Target
from ascend_overlay.source import written
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


def refuse_uncalled(target: str, value: Any, *, beside: Iterable[Any]) -> None:
    """Raise a TargetError where everything beside `value` is called, and that cannot be, or not in the same way.

    Args:
        target: where the value is to go, for the error.
        value: the value.
        beside: what is there, and beside it.
    """
    others = [other for other in beside if other is not MISSING]
    if not others or not all(map(_is_called, others)):
        return
    if not _is_called(value):
        raise TargetError(
            f"{target} cannot be {_briefly(value)}: what is there, and beside it, is called, and "
            f"{_a(value)} cannot be. Give a function that returns it, such as lambda: {_briefly(value)}; or say "
            f"as_is=True if that is right."
        )
    if not all(isinstance(other, types.FunctionType) for other in (value, *others)):
        return
    if all(map(_takes_nothing, others)) and not _takes_nothing(value):
        raise TargetError(
            f"{target} cannot be {value.__module__}:{value.__qualname__}{signatures.of(value)}: what is there, and "
            f"beside it, is called without arguments. Give a function that needs none, or say as_is=True if that is "
            f"right."
        )


def judge_early(target: str, key: str, value: Any, *, container: bool = True) -> None:
    """Raise a TargetError where the source of a module that is not loaded says that `value` is not what is meant.

    Args:
        target: the target.
        key: where the value is to go, for the error.
        value: the value.
        container: the target is what the value goes into.
    """
    parsed = Target.parse(target)
    if parsed.module in sys.modules or (found := written.samples(parsed.module, parsed.path)) is None:
        return
    refuse_quoted(key, value, beside=found)
    if container:
        refuse_uncalled(key, value, beside=found)


def _takes_nothing(function: types.FunctionType) -> bool:
    code = function.__code__
    needed = code.co_argcount - len(function.__defaults__ or ())
    return needed <= 0 and code.co_kwonlyargcount == len(function.__kwdefaults__ or ())


def _briefly(value: Any) -> str:
    text = represented(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_called(value: Any) -> bool:
    return callable(value) or isinstance(value, (staticmethod, classmethod))


def _a(value: Any) -> str:
    noun = "class" if isinstance(value, type) else type(value).__name__
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
