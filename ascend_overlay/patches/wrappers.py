"""What `overlay.wrap` installs: an object of the kind of its target, around whose calls a wrapper runs.

A wrapper is called as wrapt calls one: `wrapper(wrapped, instance, args, kwargs)`. `instance` is the object of a
method, the class of a class method, and None for any other function; `wrapped` is bound to it already.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from ascend_overlay.patches import signatures
from ascend_overlay.patches.first_calls import Calls, first_call
from ascend_overlay.patches.shells import Link, free, is_plain, link_of, method, shell
from ascend_overlay.places.storeys import Change
from ascend_overlay.places.target import MISSING

WrapperFunction = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]

_PROXIES = "ascend_overlay.patches.proxies"


@dataclass(eq=False, kw_only=True, slots=True)
class Layer(Change):
    """A wrapper. The same inner object gives the same outer object again, so that copies stay recognisable."""

    wrapper: Any
    member: bool
    calls: Calls = field(default_factory=Calls)
    _inner: Any = MISSING
    _outer: Any = None

    def value(self, inner: Any) -> Any:
        if self._inner is not inner or stepped_aside(self._outer):
            self._inner, self._outer = inner, wrapped(inner, self.wrapper, member=self.member, calls=self.calls)
        return self._outer

    def step_aside(self, value: Any, inner: Any) -> bool:
        if not made_by_us(value):
            return False
        step_aside(value, inner)
        return True

    def make_anew(self) -> None:
        self._inner = MISSING


def wrapped(inner: Any, wrapper: WrapperFunction, *, member: bool, calls: Calls | None = None) -> Any:
    """Return `inner`, a callable or any method descriptor, with `wrapper` around its calls.

    A plain function gives a plain function, and a descriptor of one a descriptor of one: they are bound, copied,
    pickled and looked into as what they stand for. Everything else is put into a proxy.

    Args:
        inner: what is wrapped.
        wrapper: the wrapper.
        member: `inner` is what a class has under a name, so that a function is a method.
        calls: is told of the first call.
    """
    if isinstance(inner, property):
        if inner.fget is None:
            raise TypeError("the property cannot be read, so there is no call to wrap")
        return inner.getter(_function(inner.fget, wrapper, method, calls))
    if isinstance(inner, functools.cached_property):
        fresh = copy.copy(inner)
        fresh.func = _function(inner.func, wrapper, method, calls)
        return fresh
    if isinstance(inner, types.FunctionType):
        return _function(inner, wrapper, method if member else free, calls)
    if type(inner) is staticmethod and isinstance(inner.__func__, types.FunctionType):
        return _with_attributes(staticmethod(_function(inner.__func__, wrapper, free, calls)), inner)
    if type(inner) is classmethod and isinstance(inner.__func__, types.FunctionType):
        return _with_attributes(classmethod(_function(inner.__func__, wrapper, method, calls)), inner)
    # Imported here: where plain functions are wrapped, nobody pays for wrapt.
    from ascend_overlay.patches.proxies import OverlayWrapper

    return OverlayWrapper(inner, wrapper if calls is None else first_call(wrapper, calls))


def made_by_us(value: Any) -> bool:
    """Tell whether wrapped() made `value`."""
    return link_of(_function_in(value)) is not None or _is_proxy(value)


def step_aside(outer: Any, inner: Any) -> None:
    """Turn what wrapped() made into something that passes its calls on to `inner`, for everybody who holds it.

    Done twice, it does the same; a wrapper that is running runs to its end.

    Args:
        outer: what wrapped() made.
        inner: what its calls go to: of the kind of what it was made of (a static method for a static method, ...).

    Raises:
        TypeError: wrapped() did not make `outer`.
    """
    if _is_proxy(outer):
        sys.modules[_PROXIES].step_aside(outer, inner)
        return
    function, target = _function_in(outer), _function_in(inner)
    link = link_of(function)
    if link is None:
        raise TypeError(f"{outer!r} was not made by overlay.wrap, so it cannot step aside.")
    # In this order: a call in another thread may be between any two of them.
    link.inner = target
    function.__code__ = shell(target, target).__code__
    function.__defaults__ = None
    link.aside = True
    _dress(function, target)


def stepped_aside(outer: Any) -> bool:
    """Tell whether what wrapped() made has stepped aside."""
    if _is_proxy(outer):
        return bool(sys.modules[_PROXIES].stepped_aside(outer))
    link = link_of(_function_in(outer))
    return link is not None and link.aside


def forwarding(like: Callable[..., Any], call: Callable[..., Any]) -> types.FunctionType:
    """Return a function that passes its calls to `call` and otherwise looks like `like`."""
    return _dress(shell(like, call), like)


def _function(
    inner: Any, wrapper: WrapperFunction, make: Callable[[Link], Any], calls: Calls | None
) -> types.FunctionType:
    """Return a function of the kind of `inner`, made by `make`, that calls `wrapper` around `inner`."""
    if not isinstance(inner, types.FunctionType):
        # The getter of a property may be anything; what is bound has to be a function.
        inner = forwarding(inner, inner)
    link = Link(inner, wrapper)
    if calls is not None:
        link.wrapper = first_call(wrapper, calls, link)
    function = make(link)
    return _dress(function if is_plain(inner) else shell(inner, function), inner)


def _dress(function: Any, inner: Any) -> types.FunctionType:
    """Give `function` the name and attributes of `inner`, and its signature."""
    vars(function).pop("__signature__", None)
    function.__annotations__ = {}
    dressed: Any = functools.update_wrapper(function, inner)
    # inspect.getfullargspec() and its like do not look at what is wrapped.
    if (signature := signatures.of(inner)) is not None:
        dressed.__signature__ = signature
    return cast(types.FunctionType, dressed)


def _with_attributes(fresh: Any, inner: Any) -> Any:
    """Return a static or class method with the attributes that somebody has set on `inner`."""
    for name, value in vars(inner).items():
        if name not in vars(fresh):
            with contextlib.suppress(AttributeError, TypeError):
                setattr(fresh, name, value)
    return fresh


def _function_in(value: Any) -> Any:
    """Return the function of a method descriptor; anything else is returned as it is."""
    if _is_proxy(value):
        return value
    if isinstance(value, (staticmethod, classmethod)):
        return value.__func__
    if isinstance(value, property):
        return value.fget
    if isinstance(value, functools.cached_property):
        return value.func
    return value


def _is_proxy(value: Any) -> bool:
    # By its type: a proxy says that it is of the class of what it wraps.
    return type(value).__module__ == _PROXIES
