"""Adding a value to a Literal, for whoever validates, shows or chooses by it."""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ascend_overlay.errors import TargetError, represented
from ascend_overlay.patches.base import Applied, Context
from ascend_overlay.places import fields, literals, pydantic_models
from ascend_overlay.places.storages import Attribute
from ascend_overlay.places.storeys import Change
from ascend_overlay.places.target import MISSING, Place, Target

SEAM = "Literal"


@dataclass(eq=False, kw_only=True, slots=True)
class OneMore(Change):
    """The Literal that is there, with one more value. The same inner Literal gives the same again."""

    added: Any
    by_name: bool = True

    def value(self, inner: Any) -> Any:
        return literals.extended(inner, self.added)


def extend(target: str, place: Place, value: Any, context: Context, applied: Applied) -> None:
    """Add `value` to the Literal at `place`: to its names, to what pydantic compiled, to generated constructors.

    Raises:
        TargetError: it has the value already, or cannot have it.
    """
    if any(type(known) is type(value) and known == value for known in typing.get_args(place.raw)):
        raise TargetError(f"the Literal {target} has the value {represented(value)} already.")
    if not isinstance(value, (str, bytes, int)):
        raise TargetError(
            f"the Literal {target} cannot have the value {represented(value)}: give a str, bytes, int or bool."
        )
    applied.seam = SEAM
    old, package = place.raw, Target.parse(target).module.partition(".")[0]
    stem, new = literals.root(old), literals.extended(old, value)
    declaring = list(literals.declaring(old, package))
    for name in literals.made_of(old, package):
        applied.stale.append(f"{name} (a Literal that has all of its values, and may be made of it: name that, too)")
    make = functools.partial(OneMore, rank=context.rank, whose=context.whose, added=value)
    cause = make()
    applied.undo.append(functools.partial(pydantic_models.release, cause))
    for owner, name in [(place.owner, place.name), *literals.names_of(old, package)]:
        slot = context.slots.at(Attribute(owner, name))
        if any(slot is changed for changed, _ in applied.changed):
            continue
        if owner is not place.owner:
            applied.copies.append(f"{owner.__name__}.{name}")
        applied.change(slot, make(), shared=False)
    for cls, name, _ in declaring:
        retyping = fields.Retyping(lambda was: literals.substituted(was, stem, _more(value)))
        change = fields.FieldChange(cls, name, MISSING, MISSING, retyping, context.whose)
        applied.undo.append(functools.partial(fields.leave, change))
        fields.enter(change)
        applied.copies.append(f"{cls.__module__}.{cls.__qualname__}.{name} (annotation)")
    if rebuilt := pydantic_models.rebuild_classes(cause, [old, new], package):
        applied.notes.append(f"pydantic validators rebuilt: {', '.join(rebuilt)}")
    applied.undo.append(functools.partial(_settle, new, value, package))


def effect(applied: Applied, value: Any) -> str | None:
    """Return why the users of a Literal that `extend` changed do not meet `value`, or None."""
    for slot, change in applied.changed:
        if isinstance(change, OneMore) and value not in typing.get_args(slot.storage.get()):
            return f"{slot.storage.name} was set by somebody else, without {represented(value)}"
    return None


def _more(value: Any) -> Callable[[Any], Any]:
    return lambda literal: literals.extended(literal, value)


def _settle(new: Any, value: Any, package: str) -> None:
    """Take `value` out of the fields of classes that were defined while it was in force."""
    stem = literals.root(new)
    for cls, name, annotation in list(literals.declaring(new, package)):
        if fields.is_changed(cls, name):
            continue
        field = literals.field_of(cls, name)
        was = literals.substituted(annotation, stem, lambda literal: literals.reduced(literal, value))
        setattr(field, "type" if hasattr(field, "type") else "annotation", was)
        vars(cls)["__annotations__"][name] = was
