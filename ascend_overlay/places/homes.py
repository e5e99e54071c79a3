"""Where an implementation is at home: what goes on with the original there, because the implementation calls it."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from typing import Any

from ascend_overlay.places.functions import content_of, insides_of


def homes_of(implementation: Any, target_module: str) -> frozenset[str]:
    """Return the module of an implementation, or names in it, as "module" or "module.name".

    The implementation's own module keeps its originals: its helpers, tables and decorated methods may call them. In the
    program's main module, and in that of the target, others use the target, too; there it is the names that the code
    of the implementation leads to.
    """
    module = _module_of(implementation)
    if module is None:
        return frozenset()
    if module not in ("__main__", target_module):
        return frozenset({module})
    return frozenset(f"{module}.{name}" for name in _reached(implementation))


def parts_of(made: Any) -> frozenset[str]:
    """Return the defaults and closures of what was made of an implementation, as they are called when re-bound.

    It goes by the name of its target; what it holds is the implementation's all the same.
    """
    names: set[str] = set()
    for function in _functions(made):
        called = f"{function.__module__}.{function.__qualname__}"
        names.add(f"{called}(default")
        names.update(f"{free} in the closure {called}" for free in function.__code__.co_freevars)
    return frozenset(names)


def _module_of(implementation: Any) -> str | None:
    for function in _functions(implementation):
        name = function.__globals__.get("__name__")
        return name if isinstance(name, str) else None
    module = getattr(implementation, "__module__", None)
    return module if isinstance(module, str) else None


def _reached(implementation: Any) -> set[str]:
    """Return the globals that the code of an implementation names, and those that these lead to."""
    reached: set[str] = set()
    todo = [*_functions(implementation)]
    seen: set[int] = set()
    while todo:
        function = todo.pop()
        if id(function) in seen:
            continue
        seen.add(id(function))
        for name in _names_in(function.__code__):
            if name in function.__globals__:
                reached.add(name)
                value = function.__globals__[name]
                todo.extend(f for f in _functions(value) if f.__globals__ is function.__globals__)
    return reached


def _functions(value: Any, depth: int = 2) -> Iterator[types.FunctionType]:
    """Yield the Python functions that make up `value`: those of a class or a table, and inside decorators."""
    if isinstance(value, types.FunctionType):
        yield value
        for cell in value.__closure__ or ():
            if isinstance(content := content_of(cell), types.FunctionType):
                yield from _functions(content, depth)
    elif depth:
        for part in _parts(value):
            yield from _functions(part, depth - 1)


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, type):
        return list(vars(value).values())
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else insides_of(value)


def _names_in(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_in(constant)
