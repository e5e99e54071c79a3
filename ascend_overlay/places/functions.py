"""Functions as places: what is inside a descriptor, a function's twin, and sending its calls elsewhere."""

from __future__ import annotations

import functools
import inspect
import textwrap
import types
from collections.abc import Callable
from typing import Any

from ascend_overlay.places import code as code_module

_DELEGATION = """
inner = {call}
step = inner.__anext__()
while True:
    try:
        item = await step
    except StopAsyncIteration:
        return
    try:
        sent = yield item
    except GeneratorExit:
        if hasattr(inner, "aclose"):
            await inner.aclose()
        raise
    except BaseException as error:
        step = inner.athrow(error)
    else:
        step = inner.__anext__() if sent is None else inner.asend(sent)
"""
"""What `yield from` is for generators: what is sent, thrown and closed arrives in the inner one."""

Closure = tuple[types.CellType, ...] | None

_TO = "__ascend_overlay_to__"
"""The keyword-only argument of a redirected function that says where it leads. In its defaults rather than among the
constants of its code, where torch.compile does not take a function, or among its module's names, which are not ours."""


def function_of(raw: Any) -> Any:
    """Return the function inside a descriptor, or `raw` itself."""
    if isinstance(raw, (staticmethod, classmethod)):
        return raw.__func__
    if isinstance(raw, property):
        return raw.fget or raw.fset or raw.fdel
    if isinstance(raw, functools.cached_property):
        return raw.func
    return raw


def insides_of(raw: Any) -> tuple[Any, ...]:
    """Return all that a descriptor consists of, in the same order for the same kind; nothing of anything else."""
    # Not isinstance(): a proxy says that it is of the class of what it wraps, and answers for it.
    kind = type(raw)
    if issubclass(kind, (staticmethod, classmethod)):
        return (raw.__func__,)
    if issubclass(kind, property):
        return raw.fget, raw.fset, raw.fdel
    if issubclass(kind, functools.cached_property):
        return (raw.func,)
    return ()


def content_of(cell: types.CellType) -> Any:
    """Return what a variable of a closure holds; None where it has not been given anything yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def dressed_like(raw: Any, function: Any) -> Any:
    """Return a plain function as the kind of descriptor that `raw` is; a descriptor is returned as it is."""
    if isinstance(function, (staticmethod, classmethod, property, functools.cached_property)):
        return function
    if isinstance(raw, staticmethod):
        return staticmethod(function)
    if isinstance(raw, classmethod):
        return classmethod(function)
    if isinstance(raw, property):
        return property(function, raw.fset, raw.fdel, raw.__doc__)
    if isinstance(raw, functools.cached_property):
        fresh = functools.cached_property(function)
        fresh.attrname = raw.attrname
        return fresh
    return function


def twin(function: types.FunctionType, *, closure: Closure = None) -> types.FunctionType:
    """Return another function object that does what `function` does, with the same globals and attributes.

    Args:
        function: the function.
        closure: cells of its free variables; None: the same ones.
    """
    cells = function.__closure__ if closure is None else closure
    copy = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, cells)
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__dict__.update(function.__dict__)
    copy.__annotations__, copy.__doc__ = function.__annotations__, function.__doc__
    copy.__module__, copy.__qualname__ = function.__module__, function.__qualname__
    return copy


class Redirection:
    """The calls of a function object lead elsewhere, whoever holds it: a dispatcher of operators, a closure, a key.

    The function gets a code object that hands its arguments on. Undoing it puts the very code object back.

    Args:
        function: the function whose calls are redirected.
        stand_in: does what the function did, for those who still want that; default: a new twin.
    """

    def __init__(self, function: types.FunctionType, stand_in: types.FunctionType | None = None) -> None:
        self.function = function
        self.stand_in = stand_in or twin(function)
        self._body = code_module.body(function)
        self._kwdefaults = function.__kwdefaults__
        self._signature = vars(function).get("__signature__")
        self._code = function.__code__
        self._target: Callable[..., Any] | None = None

    def lead_to(self, target: Callable[..., Any]) -> None:
        """Have the function call `target`."""
        if vars(self.function).get("__signature__") is None:
            self.function.__signature__ = _signature(self.stand_in)  # type: ignore[attr-defined]
        if target is not self._target:
            self._code, self._target = _handing_on(self._body.original, _parameters(self.function, target)), target
        # First what the code will need, then the code: a call in another thread finds both or neither.
        self.function.__kwdefaults__ = {**(self._kwdefaults or {}), _TO: target}
        self._body.send_on(self._code, self.stand_in)

    @property
    def foreign(self) -> types.CodeType | None:
        """The code that somebody else has given the function since, or None."""
        return self._body.foreign

    def undo(self) -> None:
        """Give the function its code back, unless somebody else has given it another meanwhile."""
        self._body.call_back()
        code_module.release(self._body)
        if self.function.__kwdefaults__ is not None and _TO in self.function.__kwdefaults__:
            self.function.__kwdefaults__ = self._kwdefaults
        if self._signature is None:
            vars(self.function).pop("__signature__", None)


def _signature(function: types.FunctionType) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def _parameters(function: types.FunctionType, target: Callable[..., Any]) -> tuple[str, str]:
    """Return the parameters for the function that calls `target`, and the arguments that it hands on.

    Those of `target` one by one, where it has nothing but plain ones with the defaults that `function` has: that saves
    packing them into a tuple and a dict, and unpacking.
    """
    packed = f"*args, {_TO}, **kwargs", "*args, **kwargs"
    if not isinstance(target, types.FunctionType):
        return packed
    code = target.__code__
    names = list(code.co_varnames[: code.co_argcount])
    defaults = (function.__defaults__ or (), target.__defaults__ or ())
    if (
        code.co_kwonlyargcount
        or code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)
        or len(defaults[0]) != len(defaults[1])
        or any(theirs is not ours for theirs, ours in zip(*defaults, strict=True))
        or {*names} & {*function.__code__.co_freevars}
    ):
        return packed
    given = ", ".join(names)
    first = len(names) - len(defaults[1])
    # Which default a parameter has is what the function says; that it has one is what the compiler wants to know.
    declared = [name if index < first else f"{name}=0" for index, name in enumerate(names)]
    if code.co_posonlyargcount:
        declared.insert(code.co_posonlyargcount, "/")
    return ", ".join([*declared, "*", _TO]), given


def _handing_on(code: types.CodeType, parameters: tuple[str, str]) -> types.CodeType:
    """Return code for a function of the same kind, with as many free variables, that calls what `_TO` holds."""
    declared, given = parameters
    call = f"{_TO}({given})"
    prefix, body = "", f"return {call}"
    if code.co_flags & inspect.CO_ASYNC_GENERATOR:
        prefix, body = "async ", _DELEGATION.format(call=call)
    elif code.co_flags & inspect.CO_COROUTINE:
        prefix, body = "async ", f"return await {call}"
    elif code.co_flags & inspect.CO_GENERATOR:
        body = f"return (yield from {call})"
    free = code.co_freevars
    kept = f"        if 0: {', '.join(free)}\n" if free else ""
    body = textwrap.indent(body, " " * 8)
    source = f"def make({', '.join(free)}):\n    {prefix}def hand_on({declared}):\n{kept}{body}\n    return hand_on\n"
    scope: dict[str, Any] = {}
    exec(compile(source, __file__, "exec"), scope)
    made: types.CodeType = scope["make"](*free).__code__
    names = {"co_name": code.co_name, "co_filename": code.co_filename, "co_firstlineno": code.co_firstlineno}
    if hasattr(code, "co_qualname"):
        names["co_qualname"] = code.co_qualname
    return made.replace(**names)  # type: ignore[arg-type]
