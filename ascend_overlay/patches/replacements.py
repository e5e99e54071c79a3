"""What stands in for a function: checked against what it replaces, and dressed as that is."""

from __future__ import annotations

import dis
import functools
import inspect
import types
from typing import Any

from ascend_overlay.errors import SignatureError, TargetError
from ascend_overlay.patches import flavours, signatures, wrappers
from ascend_overlay.patches.base import shown
from ascend_overlay.places.functions import dressed_like, function_of, twin
from ascend_overlay.places.target import Target

DESCRIPTORS = (staticmethod, classmethod, property, functools.cached_property)
WORDS = {
    staticmethod: "a staticmethod",
    classmethod: "a classmethod",
    property: "a property",
    functools.cached_property: "a functools.cached_property",
}
_STATIC = ("__new__",)
_OF_CLASS = ("__init_subclass__", "__class_getitem__")
"""What Python makes static, or of the class, in a class body, and only there."""


def replacement(target: str, owner: Any, raw: Any, implementation: Any) -> Any:
    """Return what is to be installed where `raw` was.

    Args:
        target: the name of the target, for errors.
        owner: the module, class or object that has it.
        raw: what the owner has under the name, descriptors unresolved.
        implementation: what was declared: a function, or the kind of descriptor that `raw` is.

    Raises:
        TargetError: the implementation is of another kind than the original.
        SignatureError: it cannot be called as the original is.
    """
    name = Target.parse(target).path[-1]
    raw = as_in_class_body(owner, name, raw)
    function = function_of(raw)
    if (not callable(function) and not isinstance(raw, property)) or not callable(function_of(implementation)):
        raise TargetError(f"the target {target} is {shown(raw)}, which is not callable; use overlay.attribute.")
    implementation = _undressed(target, owner, raw, implementation)
    if isinstance(implementation, property):
        return _property(target, owner, raw, implementation)
    return dressed_like(raw, _function(target, owner, function, implementation))


def _function(target: str, owner: Any, original: Any, ours: Any) -> Any:
    """Return what stands in for one function, whatever is put around it."""
    _check_signature(target, owner, original, ours)
    if why := flavours.mismatch(original, ours) or _lacking(original, ours):
        raise SignatureError(f"{shown(ours)} cannot replace {target}: {why}.")
    copy = copied(ours, original, owner, target)
    if isinstance(original, functools._lru_cache_wrapper) and not isinstance(ours, functools._lru_cache_wrapper):
        # Somebody may ask for its cache_clear().
        return functools.lru_cache(**original.cache_parameters())(copy)
    return copy


def _lacking(original: Any, ours: Any) -> str | None:
    """Return what callers may use of a function beside calling it and would not find, or None."""
    if is_subscripted(original) and not is_subscripted(ours):
        return f"the original is a {type(original).__name__} object, which is called as {_name(original)}[...](...)"
    # Other attributes belong to tools (torch.compile leaves some), which look for them and do without.
    lacking = [name for name in ("register", "dispatch") if hasattr(original, name) and not hasattr(ours, name)]
    if not isinstance(original, types.FunctionType) or not lacking:
        return None
    return f"the original has {', '.join(f'{name}()' for name in lacking)}, which callers may use; give it the same"


def is_subscripted(function: Any) -> bool:
    """Tell whether `function` is an object like a Triton kernel, which is launched as kernel[grid](...)."""
    # A wrapper of somebody's offers what any object may offer, whatever it wraps.
    inner = inspect.unwrap(function)
    return not isinstance(inner, type) and hasattr(type(inner), "__getitem__")


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _property(target: str, owner: Any, raw: property, implementation: property) -> property:
    """Return the original's property with those accessors in place of its own that the implementation has."""
    accessors = [
        there if here is None else here if there is None else _function(target, owner, there, here)
        for there, here in zip(_accessors(raw), _accessors(implementation), strict=True)
    ]
    fget, fset, fdel = accessors
    return property(fget, fset, fdel, implementation.__doc__ or raw.__doc__)


def _accessors(found: property) -> tuple[Any, Any, Any]:
    return found.fget, found.fset, found.fdel


def as_in_class_body(owner: Any, name: str, raw: Any) -> Any:
    """Return `raw` as the kind of descriptor that Python makes of a special method in a class body."""
    if not isinstance(owner, type) or isinstance(raw, DESCRIPTORS) or not callable(raw):
        return raw
    if name in _STATIC:
        return staticmethod(raw)
    return classmethod(raw) if name in _OF_CLASS and isinstance(raw, types.FunctionType) else raw


def copied(function: Any, raw: Any, owner: Any, target: str) -> Any:
    """Return a function object of our own, so that whoever imports the target later holds nothing but the target.

    It goes by the target's name, which is how pickle finds it again, and its super() is that of the target's class.
    """
    if not isinstance(function, types.FunctionType):
        return function
    copy = twin(function, closure=_closure(function, owner))
    if isinstance(owner, type) and _calls_bare_super(function):
        raise TargetError(
            f"{shown(function)} cannot be {target}: it calls super() without arguments, which works only in a "
            f"function that was written in a class. Write super({owner.__name__}, self), or write the function in a "
            f"class body and name it 'module:AnyClass.{function.__name__}'."
        )
    named = function_of(raw)
    for attribute in ("__module__", "__name__", "__qualname__"):
        setattr(copy, attribute, getattr(named, attribute, getattr(function, attribute)))
    return copy


def at_home(owner: Any, name: str, value: Any, target: str) -> Any:
    """Return `value`, a new attribute of `owner`, as the method that it would be had it been written in that class."""
    if not isinstance(owner, type):
        return value
    value = as_in_class_body(owner, name, value)
    function = function_of(value) if isinstance(value, (staticmethod, classmethod)) else value
    if not isinstance(function, types.FunctionType):
        return value
    if not _is_elsewhere(function, owner) and not _calls_bare_super(function):
        return value
    copy = copied(function, function, owner, target)
    return type(value)(copy) if value is not function else copy


def _undressed(target: str, owner: Any, raw: Any, implementation: Any) -> Any:
    """Return the implementation as a plain function where the original's kind of descriptor is put around it later."""
    kind, given = _kind(raw), _kind(implementation)
    if kind is classmethod and isinstance(implementation, types.MethodType):
        # What "module:Class.name" leads to where that is a classmethod.
        return implementation.__func__
    if given is None:
        _check_binding(target, owner, kind, implementation)
        return implementation
    if kind is given:
        return implementation if given is property else function_of(implementation)
    if kind is None and given is staticmethod and not isinstance(owner, type):
        return implementation.__func__
    there = WORDS[kind] if kind is not None else "a method" if isinstance(owner, type) else "a function"
    raise TargetError(
        f"{shown(function_of(implementation))} cannot replace {target}: it is {WORDS[given]}, and the original is "
        f"{there}. Give a plain function, without a decorator; it becomes what the original is."
    )


def _check_binding(target: str, owner: Any, kind: type | None, implementation: Any) -> None:
    """See that a method's replacement is given the instance."""
    if kind is not None or not isinstance(owner, type):
        return
    if isinstance(implementation, types.MethodType):
        what = f"is bound to {shown(implementation.__self__)} already"
    elif not hasattr(type(implementation), "__get__"):
        what = f"is {_article_of(implementation)}, which Python does not bind to the instance"
    else:
        return
    raise TargetError(
        f"{shown(implementation)} cannot replace the method {target}: it {what}, so it would be called without self. "
        f"Write a function that takes self and calls it."
    )


def _article_of(implementation: Any) -> str:
    return "a class" if isinstance(implementation, type) else f"a {type(implementation).__qualname__} object"


def _kind(raw: Any) -> type | None:
    return next((kind for kind in DESCRIPTORS if isinstance(raw, kind)), None)


def _check_signature(target: str, owner: Any, function: Any, implementation: Any) -> None:
    if function is object.__new__ or function is object.__init__:
        # They take what the other of the two takes.
        other = "__init__" if function is object.__new__ else "__new__"
        function = inspect.getattr_static(owner, other, function)
        function = function_of(function)
        if not isinstance(function, types.FunctionType):
            return
    original, ours = signatures.of(function), signatures.of(implementation)
    if original is None or ours is None:
        return
    if why := signatures.mismatch(original, ours):
        raise SignatureError(
            f"{shown(implementation)} cannot replace {target}: {why}.\n"
            f"  original:    {Target.parse(target).path[-1]}{original}\n"
            f"  replacement: {getattr(implementation, '__name__', '?')}{ours}"
        )


def _closure(function: types.FunctionType, owner: Any) -> tuple[types.CellType, ...] | None:
    """Return the closure, with the class that super() and `__class__` mean being the owner."""
    cells = function.__closure__
    if cells is None or not _is_elsewhere(function, owner):
        return cells
    index = function.__code__.co_freevars.index("__class__")
    return (*cells[:index], types.CellType(owner), *cells[index + 1 :])


def _is_elsewhere(function: types.FunctionType, owner: Any) -> bool:
    """Tell whether a function for the class `owner` was written in the body of another class, and knows it."""
    free = function.__code__.co_freevars
    if not isinstance(owner, type) or "__class__" not in free or function.__closure__ is None:
        return False
    try:
        return function.__closure__[free.index("__class__")].cell_contents is not owner
    except ValueError:
        # The class is being made.
        return True


def _calls_bare_super(function: types.FunctionType) -> bool:
    """Tell whether a function that was written outside a class calls super() without arguments."""
    code = function.__code__
    if "super" not in code.co_names or "__class__" in code.co_freevars or "super" in function.__globals__:
        return False
    found = False
    for step in dis.get_instructions(code):
        if step.opname in ("PUSH_NULL", "CACHE", "NOP"):
            continue
        if found and step.opname in ("PRECALL", "CALL", "CALL_FUNCTION") and step.arg == 0:
            return True
        found = step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and step.argval == "super"
    return False


def inherited(owner: Any, name: str, raw: Any) -> Any:
    """Return a method that goes to the base class at each call, so that a patch of the base is still seen."""
    if not isinstance(owner, type):
        return raw
    raw = next((vars(base)[name] for base in owner.__mro__[1:] if name in vars(base)), raw)
    if name == "__new__":
        return staticmethod(_new_of_base(owner))

    def static(*args: Any, **kwargs: Any) -> Any:
        return getattr(super(owner, owner), name)(*args, **kwargs)

    def bound(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return getattr(super(owner, self), name)(*args, **kwargs)

    if isinstance(raw, staticmethod):
        return staticmethod(wrappers.forwarding(raw.__func__, static))
    if isinstance(raw, classmethod):
        return classmethod(wrappers.forwarding(raw.__func__, bound))
    if isinstance(raw, types.ClassMethodDescriptorType):
        return classmethod(wrappers.forwarding(raw, bound))
    if isinstance(raw, property):
        return property(lambda self: getattr(super(owner, self), name), raw.fset, raw.fdel, raw.__doc__)
    if isinstance(raw, (types.FunctionType, types.WrapperDescriptorType, types.MethodDescriptorType)):
        return wrappers.forwarding(raw, bound)
    return raw


def _new_of_base(owner: Any) -> Any:
    def __new__(cls: Any, *args: Any, **kwargs: Any) -> Any:
        new = super(owner, cls).__new__
        if new is not object.__new__:
            return new(cls, *args, **kwargs)
        # It refuses the arguments of __init__ where a class has a __new__, as this one has while it is patched.
        if (args or kwargs) and cls.__init__ is object.__init__:
            raise TypeError(f"{cls.__name__}() takes no arguments")
        return new(cls)

    __new__.__qualname__ = f"{owner.__qualname__}.__new__"
    __new__.__module__ = owner.__module__
    return __new__
