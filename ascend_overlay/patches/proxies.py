"""The proxy that `overlay.wrap` puts around what is callable and no plain function.

A builtin, a functools.partial or lru_cache, an operator or an object with `__call__` has attributes and methods that a
function in its place would not have. This module is imported where there is such a target, and wrapt with it.
"""

from __future__ import annotations

import copy
import importlib
from typing import Any

import wrapt


class _BoundOverlayWrapper(wrapt.BoundFunctionWrapper[Any, Any]):
    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        # As a bound method is: the copy belongs to the copy of the instance.
        instance = self._self_instance
        if instance is None or isinstance(instance, type):
            return self
        return self._self_parent.__get__(copy.deepcopy(instance, memo), type(instance))

    def __reduce__(self) -> Any:
        return _reduce(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _reduce(self)


class OverlayWrapper(wrapt.FunctionWrapper[Any, Any]):
    """A wrapt FunctionWrapper that can be pickled and copied, as what it wraps can, and can step aside."""

    __bound_function_wrapper__ = _BoundOverlayWrapper

    def __init__(self, wrapped: Any, wrapper: Any) -> None:
        # Asked for its truth at each call, also by what was bound before; a list is quickest.
        switch: Any = [True]
        super().__init__(wrapped, wrapper, enabled=switch)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self

    def __reduce__(self) -> Any:
        return _reduce(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _reduce(self)


def step_aside(outer: OverlayWrapper, inner: Any) -> None:
    """Have `outer` pass its calls on to `inner`."""
    outer.__wrapped__ = inner
    switch: Any = outer._self_enabled
    switch.clear()


def stepped_aside(outer: OverlayWrapper) -> bool:
    """Tell whether step_aside() was called."""
    return not outer._self_enabled


def _by_name(module: str, qualified: str) -> Any:
    found: Any = importlib.import_module(module)
    for name in qualified.split("."):
        found = getattr(found, name)
    return found


def _reduce(wrapper: Any) -> Any:
    instance = getattr(wrapper, "_self_instance", None)
    if instance is not None and not isinstance(instance, type):
        return getattr, (instance, wrapper.__name__)
    return _by_name, (wrapper.__module__, wrapper.__qualname__)
