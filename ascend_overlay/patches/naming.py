"""The names that an overlay is declared with, where something else than a name is often given."""

from __future__ import annotations

import functools
from typing import Any

from ascend_overlay.errors import ConfigError, TargetError
from ascend_overlay.patches.base import Ref, ref, shown
from ascend_overlay.places.target import Target, spoken, written


def target_of(decorator: str, target: Any) -> str:
    """Return the target that a decorator is given, which is a function where its parentheses were left out."""
    if callable(target):
        raise TargetError(
            f"overlay.{decorator} takes the target first: write @overlay.{decorator}('package.module:name') above "
            f"{spoken(target)}."
        )
    return str(Target.parse(target))


def named(implementation: Any, what: str) -> str:
    """Return "module:Name" of what vLLM imports itself."""
    if isinstance(implementation, Ref):
        return implementation.text
    if not isinstance(implementation, str):
        raise TargetError(
            f"{what} is imported by vLLM where it needs it, so it is given by name, 'package.module:Class'"
            f"{written(implementation)}, and got {spoken(implementation)}."
        )
    return str(Target.parse(implementation))


def word(text: Any, what: str) -> None:
    """See that `text` is a plain name, such as that of an architecture."""
    if not isinstance(text, str) or not text.strip():
        raise ConfigError(f"{what} is a string that is not empty, and got {spoken(text)}.")


def class_of(implementation: Any, what: str) -> Any:
    """Return a class, or the Ref of one."""
    if not isinstance(implementation, (str, type, Ref)):
        raise TargetError(
            f"{what} is a class, or the name of one, 'package.module:Class', and got {spoken(implementation)}."
        )
    return ref(implementation) if isinstance(implementation, str) else implementation


def function_of(implementation: Any, what: str) -> Any:
    """Return a function or what a class body makes of one, or the Ref of one.

    Raises:
        TargetError: it is something else; `what` says what it is for.
    """
    if isinstance(implementation, str):
        return ref(implementation)
    if callable(implementation) or isinstance(implementation, (Ref, *_DESCRIPTORS)):
        return implementation
    raise TargetError(
        f"{what} is a function, or the name of one, 'package.module:function', and got {spoken(implementation)}."
    )


_DESCRIPTORS = (property, staticmethod, classmethod, functools.cached_property)


def text(given: Any, what: str) -> None:
    """See that `given` is a text, or None.

    Raises:
        ConfigError: it is neither.
    """
    if given is not None and not isinstance(given, str):
        raise ConfigError(f"{what} is a string, and got {spoken(given)}.")


def module(name: Any) -> None:
    """See that `name` can be that of a module."""
    if not isinstance(name, str):
        raise TargetError(f"{spoken(name)} is no name of a module; write it as a string, 'package.module'.")
    if not all(part.isidentifier() for part in name.split(".")):
        raise TargetError(f"{name!r} is not the name of a module; write it as 'package.module', without blanks.")


def see_call(target: Any, undo: Any, *, irreversible: bool) -> None:
    """See that a call names the module that it waits for, and how it is taken back."""
    if not isinstance(target, str):
        raise TargetError(
            f"overlay.call takes the name of the module first whose import it waits for, and got {spoken(target)}; "
            f"write overlay.call('package.module', do=..., undo=...)."
        )
    if ":" in target:
        Target.parse(target)
    else:
        module(target)
    if (undo is None) is not irreversible:
        why = "no undo" if undo is None else f"the undo {shown(undo)} and says that it is irreversible"
        raise ConfigError(
            f"the call for {target} has {why}: give undo=, the function that takes it back, or say irreversible=True."
        )
