"""The wrapper object that `overlay.wrap` installs."""

from __future__ import annotations

import copy
import functools
import importlib
from collections.abc import Callable
from typing import Any

import wrapt

WrapperFunction = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]


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
    """A wrapt FunctionWrapper that can be pickled and copied, as a function can.

    vLLM hands functions to multiprocessing (``Process(target=EngineCoreProc.run_engine_core)``), which pickles them
    by name under the spawn start method; the child looks the name up and finds what its own overlays made of it.
    """

    __bound_function_wrapper__ = _BoundOverlayWrapper

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self

    def __reduce__(self) -> Any:
        return _reduce(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _reduce(self)


def wrapped(inner: Any, wrapper: WrapperFunction) -> Any:
    """Return `inner` (a function or any method descriptor) with `wrapper` around its calls."""
    if isinstance(inner, property):
        return _wrapped_property(inner, wrapper)
    if isinstance(inner, functools.cached_property):
        fresh = functools.cached_property(_getter(inner.func, wrapper))
        fresh.attrname, fresh.__doc__ = inner.attrname, inner.__doc__
        return fresh
    return OverlayWrapper(inner, wrapper)


def _wrapped_property(inner: property, wrapper: WrapperFunction) -> property:
    if inner.fget is None:
        raise TypeError("the property cannot be read, so there is no call to wrap")
    return property(_getter(inner.fget, wrapper), inner.fset, inner.fdel, inner.__doc__)


def _getter(function: Callable[[Any], Any], wrapper: WrapperFunction) -> Callable[[Any], Any]:
    @functools.wraps(function)
    def get(self: Any) -> Any:
        return wrapper(functools.partial(function, self), self, (), {})

    return get


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
