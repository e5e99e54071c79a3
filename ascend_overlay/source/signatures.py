"""How a function can be called, read from its source."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import Any, Protocol

from ascend_overlay.source.statements import Function, dotted, inside

_KINDS = ("staticmethod", "classmethod", "property", "cached_property")


class Decorated(Protocol):
    """Whatever statements bind, the last of which counts."""

    @property
    def nodes(self) -> Sequence[ast.stmt]:
        """The statements."""


@dataclass(frozen=True)
class Default:
    """The expression of a default value, which nobody evaluated."""

    text: str

    def __repr__(self) -> str:
        return self.text


def signature(function: Function, *, annotations: bool = True) -> Signature:
    """Return the signature that a function is written with; what its decorators make of it is not known.

    Default values are `Default`, annotations are text, or left out.
    """
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(given.defaults))
    defaults += given.defaults
    kinds = [Parameter.POSITIONAL_ONLY] * len(given.posonlyargs) + [Parameter.POSITIONAL_OR_KEYWORD] * len(given.args)
    written: list[tuple[ast.arg, Any, ast.expr | None]] = list(zip(positional, kinds, defaults, strict=True))
    if given.vararg is not None:
        written.append((given.vararg, Parameter.VAR_POSITIONAL, None))
    for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        written.append((argument, Parameter.KEYWORD_ONLY, default))
    if given.kwarg is not None:
        written.append((given.kwarg, Parameter.VAR_KEYWORD, None))
    parameters = [
        Parameter(
            argument.arg,
            kind,
            default=Parameter.empty if default is None else Default(ast.unparse(default)),
            annotation=_written(argument.annotation) if annotations else Parameter.empty,
        )
        for argument, kind, default in written
    ]
    return Signature(parameters, return_annotation=_written(function.returns) if annotations else Signature.empty)


def _written(annotation: ast.expr | None) -> Any:
    return Parameter.empty if annotation is None else ast.unparse(annotation)


def on_object(function: Function) -> Signature:
    """Return the signature of a function of a class, with what it is bound to where it is called on an object.

    A static method is not, and has one more argument here.
    """
    found = signature(function)
    if "staticmethod" not in words_of(function):
        return found
    return found.replace(parameters=[Parameter("self", Parameter.POSITIONAL_ONLY), *found.parameters.values()])


def decorators(node: Function | ast.ClassDef) -> tuple[str, ...]:
    """Return the dotted names of the decorators, without their arguments; "" for another expression."""
    return tuple(".".join(dotted(each.func if isinstance(each, ast.Call) else each)) for each in node.decorator_list)


def binding_of(function: Function) -> str | None:
    """Return how a class binds the function: "method", or the name of the descriptor that its one decorator makes.

    None where it has another decorator, which may make anything of it.
    """
    names = [name.rpartition(".")[2] for name in decorators(function)]
    if not names:
        return "method"
    return names[0] if len(names) == 1 and names[0] in _KINDS else None


def is_generator(function: Function) -> bool:
    """Tell whether the function yields: each call of it makes a generator, or an asynchronous one."""
    return any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in inside(function))


_KEEPING = frozenset(
    {"staticmethod", "classmethod", "abstractmethod", "override", "final", "inference_mode", "no_grad", "wraps"}
    | {"contextmanager", "asynccontextmanager", "property", "cached_property", "setter"}
    | {"cache", "lru_cache", "deprecated", "instrument", "compile", "overload"}
)
"""Decorators that leave the way in which a function is called as it is."""


def words_of(node: ast.AST) -> tuple[str, ...]:
    """Return the last word of each decorator: "setter" for `@size.setter`, "?" for another expression."""
    called = (each.func if isinstance(each, ast.Call) else each for each in getattr(node, "decorator_list", ()))
    return tuple(each.attr if isinstance(each, ast.Attribute) else getattr(each, "id", "?") for each in called)


def changed_by_decorators(thing: Decorated) -> bool:
    """Tell whether decorators may change the way in which a function is called."""
    return bool(thing.nodes) and not _KEEPING.issuperset(words_of(thing.nodes[-1]))
