"""Whether enable() would refuse a patch on a release: what it asks of genuine objects is asked of those in source."""

from __future__ import annotations

import ast
import dataclasses
import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from types import ModuleType
from typing import Any

from ascend_overlay.couplings.changes import calls
from ascend_overlay.couplings.findings import Sureness
from ascend_overlay.errors import OverlayError
from ascend_overlay.patches import flavours
from ascend_overlay.patches.base import Patch, Ref, shown
from ascend_overlay.patches.served import MODULE
from ascend_overlay.places.functions import function_of
from ascend_overlay.places.target import MISSING, Place
from ascend_overlay.source.atlas import Atlas, Gone, Thing
from ascend_overlay.source.constructors import nature
from ascend_overlay.source.skeletons import OPEN, Skeletons

Refusal = tuple[Sureness, str]
"""How sure it is, and why, as a phrase about the target."""

_NARROWER = "our replacement does not take every call: "
_SERVED = ("model", "attention backend")
_QUANTIZATION_CONFIG = "vllm.model_executor.layers.quantization.base_config:QuantizationConfig"
_ON_CLASSES = ("wrap", "priority", "replace", "subclass", "factory")
"""Kinds for which what only objects have is not there."""


def unfound(patch: Patch, atlas: Atlas) -> Refusal | None:
    """Return which implementation of a patch does not exist; None where all that it names do, or may."""
    for text in _named(patch):
        there = atlas.look(text)
        if isinstance(there, Gone):
            missing = f" (no {there.missing})" if there.missing != text else ""
            return ("certain" if there.certain else "likely"), f"the implementation {text} does not exist{missing}"
        if patch.kind in _SERVED and (why := _unserved(patch, text, there)) is not None:
            return why
    if patch.kind == "quantization":
        return _quantization(patch, atlas)
    if patch.kind == "call":
        return _asked(patch, Place(None, "", None, own=True, shared=False), _given(patch, ("do", "undo"), atlas))
    return None


def refused(patch: Patch, now: Thing, atlas: Atlas) -> Refusal | None:
    """Return why enable() would refuse a patch of what is there now; None where it would not, or source does not tell.

    Args:
        patch: one that changes what its target leads to.
        now: what that is.
        atlas: knows it, and the implementations.
    """
    judge = _JUDGES.get(patch.kind)
    if judge is None:
        return None
    place = _place(now, atlas)
    if place.raw is MISSING and patch.kind in _ON_CLASSES:
        why = "methods set it on objects" if now.kind == "attribute" else "it is declared without a value"
        return _sureness(now, _holder(now, atlas)), f"is nothing that its class has: {why}"
    found = judge(patch, place, now, atlas)
    if found is None:
        return None
    sure, why = found
    shown_now = f" (now {calls(now)})" if why.startswith(_NARROWER) else ""
    return (_sureness(now, None) if sure == "certain" else "likely"), why + shown_now


def refused_new(patch: Patch, holder: Thing, name: str, atlas: Atlas) -> Refusal | None:
    """Return why enable() would refuse to bring something that is not there yet to a class or module; or None.

    Args:
        patch: the patch.
        holder: the class or module.
        name: what it is to be called there.
        atlas: knows it, and what it gets.
    """
    names = {"field": ("default", "default_factory", "annotation"), "add": ("value",)}.get(patch.kind)
    if names is None or (holder.family is not None and holder.family.outside):
        return None
    owner: Any = ModuleType(holder.home)
    if holder.family is not None:
        owner = Skeletons(atlas).owner(holder.family, holder)
    return _asked(patch, Place(owner, name, MISSING, own=False, shared=False), _given(patch, names, atlas))


def _named(patch: Patch) -> Iterator[str]:
    for field in fields(patch):
        value = getattr(patch, field.name)
        if isinstance(value, Ref):
            yield value.text
    if patch.kind in _SERVED:
        yield str(getattr(patch, "implementation", ""))


@dataclass(frozen=True)
class _Given:
    """What a patch puts in place: the object, or its skeleton; OPEN where source does not tell."""

    value: Any
    sure: Sureness = "certain"
    thing: Thing | None = None


def _given(patch: Patch, names: tuple[str, ...], atlas: Atlas) -> _Given:
    """Return what a patch has under some of its names, several as a tuple."""
    found = [_one(getattr(patch, name), atlas) for name in names]
    sure: Sureness = "certain" if all(each.sure == "certain" for each in found) else "likely"
    if len(found) == 1:
        return found[0]
    values = tuple(each.value for each in found)
    return _Given(OPEN if any(value is OPEN for value in values) else values, sure)


def _one(value: Any, atlas: Atlas) -> _Given:
    if not isinstance(value, Ref):
        return _Given(value)
    thing = atlas.look(value.text)
    if not isinstance(thing, Thing):
        return _Given(OPEN)
    made = Skeletons(atlas).of(thing, ("__init__", "__new__"))
    if thing.member is not None and isinstance(made, staticmethod):
        # It is asked of its class.
        made = made.__func__
    elif isinstance(made, classmethod):
        made = made.__get__(None, type(thing.home, (), {}))
    return _Given(made, _sureness(thing, None), thing)


def _sureness(thing: Thing, holder: Thing | None) -> Sureness:
    outside = holder is not None and holder.family is not None and bool(holder.family.outside)
    return "likely" if outside or (len(thing.nodes) > 1 and thing.kind != "property") else "certain"


def _holder(now: Thing, atlas: Atlas) -> Thing | None:
    """Return the class or object that has what is there, by the name that was asked for."""
    module, _, path = now.label.partition(":")
    found = atlas.look(f"{module}:{path.rpartition('.')[0]}") if "." in path else atlas.look(module)
    return found if isinstance(found, Thing) else None


def _place(now: Thing, atlas: Atlas) -> Place:
    """Return where a thing is; its owner declares what it declares in source."""
    skeletons = Skeletons(atlas)
    holder = _holder(now, atlas)
    name = now.label.rpartition(":")[2].rpartition(".")[2]
    raw = skeletons.of(now)
    if now.member is None:
        return Place(ModuleType(now.label.partition(":")[0]), name, raw, own=True, shared=False)
    if holder is None or holder.family is None:
        # It is asked of an object.
        owner = type(now.member.owner.path[-1], (), {})
        return Place(owner() if holder is not None else owner, name, raw, own=False, shared=False)
    if _only_objects_have(now, holder):
        raw = MISSING
    own = now.member.owner.label == holder.family.steps[0].label
    return Place(skeletons.owner(holder.family, holder), name, raw, own=own, shared=False)


def _only_objects_have(now: Thing, holder: Thing) -> bool:
    """Tell whether a class does not have what it declares: without a value, or where its decorator or base takes it."""
    if now.kind in ("attribute", "field"):
        return True
    member, sort = now.member, nature(holder)
    if member is None or now.kind != "value" or member.annotation is None:
        return False
    if sort == "dataclass":
        made = member.value if isinstance(member.value, ast.Call) else None
        given = {each.arg for each in made.keywords} if made is not None else set()
        return "default_factory" in given
    return sort in ("pydantic class", "typed dict") and "ClassVar" not in ast.unparse(member.annotation)


def _asked(patch: Patch, place: Place, given: _Given) -> Refusal | None:
    """Return why a patch itself refuses what is to stand at a place."""
    if given.value is OPEN:
        return None
    try:
        patch.refuse(place, given.value)
    except OverlayError as error:
        return given.sure, _phrase(str(error), patch.target)
    return None


def _phrase(text: str, target: str) -> str:
    """Return what an error says as a phrase about its target."""
    line, more, _ = text.partition("\n")
    line = line.rstrip(".")
    if more:
        # Both signatures follow.
        return _NARROWER + line.partition(f"{target}: ")[2]
    if line.startswith(head := f"the target {target} "):
        return line.removeprefix(head)
    return line


def _wrapped(patch: Patch, place: Place, now: Thing, atlas: Atlas) -> Refusal | None:
    given = _given(patch, ("wrapper",), atlas)
    if place.raw is OPEN:
        # Of what is open, it may be what the wrapper is for.
        alike = function_of(given.value)
        place = dataclasses.replace(place, raw=alike if callable(alike) else _anything, owner=ModuleType("open"))
    return _asked(patch, place, given if given.value is not OPEN else _Given(_wrapper))


def _replaced(patch: Patch, place: Place, now: Thing, atlas: Atlas) -> Refusal | None:
    given = _given(patch, ("replacement",), atlas)
    if place.raw is OPEN:
        if given.value is OPEN:
            return None
        place = dataclasses.replace(place, raw=given.value, owner=ModuleType("open"))
        if not callable(function_of(given.value)):
            place = dataclasses.replace(place, raw=_anything)
    elif given.value is OPEN:
        given = _Given(place.raw if callable(function_of(place.raw)) else _anything)
    return _asked(patch, place, given)


def _set(patch: Patch, place: Place, now: Thing, atlas: Atlas) -> Refusal | None:
    given = _given(patch, ("value",), atlas)
    if now.kind == "class":
        place = dataclasses.replace(place, raw=type(place.name, (), {"__module__": now.home.partition(":")[0]}))
    if place.raw is OPEN:
        place = dataclasses.replace(place, raw=given.value)
    elif given.value is OPEN:
        given = _Given(place.raw if place.raw is not MISSING else None)
        as_is = dataclasses.replace(patch, as_is=True)  # type: ignore[call-arg]
        return _asked(as_is, place, given)
    if given.value is OPEN:
        # Neither is told; whether its class declares it is.
        given = _Given(None)
        place = dataclasses.replace(place, raw=None)
    return _asked(patch, place, given)


def _built(patch: Patch, place: Place, now: Thing, atlas: Atlas) -> Refusal | None:
    given = _given(patch, ("implementation",), atlas)
    if place.raw is OPEN:
        return None
    if now.is_enum:
        place = dataclasses.replace(place, raw=enum.Enum)
    # Whether it takes every call is asked apart from this: it may do without what nobody passes.
    if (why := _asked(patch, place, _Given(_anything))) is not None or given.value is OPEN:
        return why
    if not callable(given.value):
        return _asked(patch, place, given)
    flavour = flavours.of(given.value)
    why_not = f"{shown(given.value)} cannot build it: its kind is {flavour}"
    return (given.sure, why_not) if flavour != flavours.PLAIN else None


def _derived(patch: Patch, place: Place, now: Thing, atlas: Atlas) -> Refusal | None:
    given = _given(patch, ("implementation",), atlas)
    thing = given.thing
    if isinstance(given.value, type) and thing is None:
        there = atlas.look(f"{given.value.__module__}:{given.value.__qualname__}")
        thing = there if isinstance(there, Thing) else None
    if now.family is None or thing is None:
        return _asked(patch, place, given) if place.raw is not OPEN and not isinstance(given.value, type) else None
    if thing.family is None:
        return _asked(patch, dataclasses.replace(place, raw=type(place.name, (), {})), given)
    return _asked_of_classes(patch, place, now, thing, atlas, given.sure)


def _asked_of_classes(
    patch: Patch, place: Place, now: Thing, ours: Thing, atlas: Atlas, sure: Sureness
) -> Refusal | None:
    assert now.family is not None and ours.family is not None
    original = now.family.steps[0].label
    labels = [step.label for step in ours.family.steps]
    if original not in labels:
        if ours.family.outside:
            return None
        return sure, f"{ours.home} cannot stand in for it: it is not a subclass of it"
    steps = ours.family.steps[: labels.index(original)]
    members = {name for step in steps for name in step.members}
    first = now.family.steps[0]
    if f"super({first.path[-1]}," in first.module.text:
        # Methods of the class itself may name it, which is asked, too.
        members |= set(first.members)
    cls = Skeletons(atlas).cls(ours, members)
    base = next((each for each in getattr(cls, "__mro__", ()) if _label(each) == original), None)
    if base is None:
        return None
    return _asked(patch, dataclasses.replace(place, raw=base), _Given(cls, sure))


def _label(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _field(patch: Patch, place: Place, now: Thing, atlas: Atlas) -> Refusal | None:
    given = _given(patch, ("default", "default_factory", "annotation"), atlas)
    holder = _holder(now, atlas)
    if holder is None or holder.family is None or (holder.family.outside and not _declares(place.owner)):
        return None
    return _asked(patch, place, given)


def _declares(owner: Any) -> bool:
    return any(name in vars(owner) for name in ("__dataclass_fields__", "__pydantic_fields__", "_fields", "__total__"))


def _unserved(patch: Patch, text: str, there: Thing | None) -> Refusal | None:
    """Return why vLLM cannot serve something with a class that it is to import."""
    if there is None or there.kind == "value":
        return None
    if there.family is None:
        return "certain", f"{text} is a {there.kind}, not a class"
    package, name = getattr(patch, "base", MODULE)
    known = [*(step.label for step in there.family.steps), *there.family.outside]
    derived = any(each.rpartition(":")[2].rpartition(".")[2] == name for each in known)
    if derived or there.family.outside:
        return None
    return "certain", f"{text} is no subclass of {package}.{name}"


def _quantization(patch: Patch, atlas: Atlas) -> Refusal | None:
    given = _given(patch, ("implementation",), atlas)
    base = atlas.look(_QUANTIZATION_CONFIG)
    if given.thing is None or not isinstance(base, Thing) or given.thing.kind == "value":
        return None
    family = given.thing.family
    if family is not None and (family.outside or base.home in [step.label for step in family.steps]):
        return None
    return given.sure, f"{given.thing.home} is no subclass of vLLM's QuantizationConfig"


def _anything(*args: Any, **kwargs: Any) -> None:
    """Stand for what takes every call."""


def _wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> None:
    """Stand for a wrapper."""


_JUDGES: dict[str, Callable[[Patch, Place, Thing, Atlas], Refusal | None]] = {
    "wrap": _wrapped,
    "priority": _wrapped,
    "replace": _replaced,
    "attribute": _set,
    "factory": _built,
    "subclass": _derived,
    "field": _field,
}
