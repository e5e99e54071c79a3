"""Whether what a package takes from another still fits."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Mapping
from inspect import Parameter, Signature

from ascend_overlay.couplings.changes import HEAD, WORDS, Change, calls, not_told, same_body
from ascend_overlay.couplings.comparison import Comparison
from ascend_overlay.couplings.findings import Finding, Sureness, Weight
from ascend_overlay.couplings.uses import Call, Use
from ascend_overlay.patches.base import what_is
from ascend_overlay.patches.signatures import mismatch
from ascend_overlay.patches.values import mismatch as mismatch_of_values
from ascend_overlay.source.atlas import Atlas, Gone, Thing
from ascend_overlay.source.constructors import constructor, is_dataclass, nature
from ascend_overlay.source.families import Family
from ascend_overlay.source.signatures import changed_by_decorators, words_of
from ascend_overlay.source.skeletons import OPEN, value_of

_COMMON = frozenset({"load_weights", "get_name", "get_input", "embed_input_ids", "compute_logits", "state_dict"})
"""Names that so many classes have that a call of them tells nothing about one of these."""
_RUNNING = ("override", "super call", "call", "construct", "registration", "patch")
"""Uses to which it matters what is done."""
_METHODS = {"method", "staticmethod", "classmethod"}
_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
NO_HEIRS: Mapping[str, Collection[str]] = {}
"""Of classes from which none is known to derive."""


def judge(
    use: Use, compared: Comparison, heirs: Mapping[str, Collection[str]] = NO_HEIRS, brought: Collection[str] = ()
) -> Finding:
    """Tell what became of what `use` takes; where there is nothing to compare with, whether it fits.

    Args:
        use: the use.
        compared: the state that is asked about, and the one that it is compared with.
        heirs: classes of ours that others of ours derive from -> those that none derives from.
        brought: the names that are set by whoever uses them.
    """
    found = compared.change(use.target)
    weight, sure, why = _set_by_hand(use, found, compared, brought) or _judged(
        use, found, compared, heirs.get(use.by, (use.by,))
    )
    if use.guarded and weight == "breaking":
        weight, why = "behavioural", f"{why}; the source goes on without it"
    if not use.sure:
        sure = "likely"
    return Finding(weight, sure, why, use.target, found, use)


def _judged(use: Use, found: Change, compared: Comparison, made: Collection[str]) -> tuple[Weight, Sureness, str]:
    if found.what == "gone":
        return _in_neither(use, found, compared) or _not_yet(use, found, compared) or _gone(use, found)
    if found.what == "unknown" or found.new is None:
        return "unknown", "certain", not_told(use.target, (compared.old, compared.new))
    resorted = found.what == "kind" and found.old is not None and found.old.kind == found.new.kind == "class"
    if found.what == "kind" and found.old is not None and not resorted and not _called_alike(use, found.old, found.new):
        return "breaking", "certain", f"was {a_kind(found.old)}, is {a_kind(found.new)}"
    old, new = compared.old, compared.new
    if use.call is not None and (why := refusal(use.call, found.new, new)) is not None:
        was = refusal(use.call, found.old, old) if found.old is not None and old is not None else None
        # What cannot be called in the old state either was not understood.
        if was is None:
            said = f"{_called(use, found.new, new)} {why}"
            if use.tolerant:
                return "behavioural", "certain", f"{said}; the source sees to that"
            return "breaking", "certain", said
    if (why := _shifted(use, found, compared)) is not None:
        return "breaking", "likely", why
    if use.kind in ("override", "patch"):
        judged = _stands_in(use, found, compared)
        if judged is not None:
            return judged
    if use.kind == "base" and (names := _new_abstract(made, compared)):
        return "breaking", "likely", f"has abstract methods that ours lacks: {_few(names)}"
    if use.kind == "base" and (why := _frozen_otherwise(use, found, compared)) is not None:
        return "breaking", "certain", why
    if use.sets and not _can_be_set(found.new) and (found.old is None or _can_be_set(found.old)):
        return "breaking", "certain", f"is {_fixed(found.new)} that cannot be set any more"
    return _mild(use, found)


def _called_alike(use: Use, old: Thing, new: Thing) -> bool:
    """Tell whether a use calls a method whatever it is bound to: whether that still fits, its arguments say."""
    return use.call is not None and {old.kind, new.kind} <= _METHODS and old.flavour == new.flavour


def _further(name: str, old: Thing, new: Thing, ours: Signature) -> tuple[Weight, Sureness, str]:
    """Judge what stands in for something without having taken every call of it before."""
    shown = f"({name}{calls(old)} -> {calls(new)})"
    before, now = (thing.signature.parameters if thing.signature is not None else {} for thing in (old, new))
    takes = ours.parameters
    fresh = [each for each in now if each not in before and each not in takes]
    if fresh and not any(each.kind is Parameter.VAR_KEYWORD for each in takes.values()):
        return "breaking", "likely", f"ours does not take the new argument {fresh[0]!r} {shown}"
    return "behavioural", "likely", f"the signature changed, and ours did not take every call of it before {shown}"


def _set_by_hand(
    use: Use, found: Change, compared: Comparison, brought: Collection[str]
) -> tuple[Weight, Sureness, str] | None:
    """Judge a name that the one state at hand lacks, and that ours sets: nobody knows whether it ever was there."""
    if compared.old is not None or found.what != "gone" or use.target not in brought:
        return None
    if isinstance(compared.new.look(_holder(use.target)), Gone):
        return None
    if use.kind == "patch":
        return "unknown", "certain", "is not there: the assignment brings it, or what it was meant for has gone"
    return "none", "likely", "is not there, and is set by hand"


def _holder(label: str) -> str:
    """Return what an attribute, or a name of a module, is in."""
    module, _, path = label.partition(":")
    return f"{module}:{path.rpartition('.')[0]}" if "." in path else module


def _in_neither(use: Use, found: Change, compared: Comparison) -> tuple[Weight, Sureness, str] | None:
    """Judge a name that the old state does not have either, which no release took away."""
    if found.old is not None or compared.old is None or not isinstance(compared.old.look(use.target), Gone):
        return None
    holder = _holder(use.target)
    if isinstance(compared.new.look(holder), Gone) and not isinstance(compared.old.look(holder), Gone):
        return None
    if use.kind == "patch":
        return "none", "certain", "is in neither: the assignment brings it"
    if compared.brought is None:
        return None
    if use.target in compared.brought:
        return "none", "certain", "is in neither: the package sets it itself"
    if use.guarded:
        return "none", "certain", "is in neither: the source goes on without it"
    return "unknown", "certain", "is in neither: something else brings it, or this fails on both"


def _new_abstract(classes: Iterable[str], compared: Comparison) -> tuple[str, ...]:
    """Return the abstract methods of classes that could be made in the old state, and cannot in the new."""
    found: dict[str, None] = {}
    for label in classes if compared.old is not None else ():
        before, now = (_abstract(atlas.class_at(label)) for atlas in (compared.old, compared.new) if atlas is not None)
        found.update(dict.fromkeys(() if before else now))
    return tuple(found)


def _abstract(family: Family | None) -> tuple[str, ...]:
    if family is None:
        return ()
    names = {
        name
        for step in family.steps
        for name, member in step.members.items()
        if member.kind == "function" and _is_abstract(member.nodes[-1])
    }
    return tuple(name for name in sorted(names) if (found := family.find(name)) and _is_abstract(found.nodes[-1]))


def _is_abstract(node: ast.stmt) -> bool:
    return any("abstract" in word for word in words_of(node))


def _can_be_set(thing: Thing) -> bool:
    if thing.member is not None and _is_frozen(thing.member.owner.node):
        return False
    if thing.kind != "property":
        return True
    words = {word for node in thing.nodes for word in words_of(node)}
    return "property" not in words or "setter" in words


def _fixed(thing: Thing) -> str:
    return "a property" if thing.kind == "property" else "a field of a frozen class"


def _is_frozen(node: ast.ClassDef) -> bool:
    """Tell whether a class statement makes a dataclass, or a class like it, whose objects cannot be changed."""
    given = (keyword for each in node.decorator_list if isinstance(each, ast.Call) for keyword in each.keywords)
    return any(
        keyword.arg == "frozen" and isinstance(keyword.value, ast.Constant) and keyword.value.value is True
        for keyword in (*given, *node.keywords)
    )


def _frozen_otherwise(use: Use, found: Change, compared: Comparison) -> str | None:
    """Return why Python refuses a dataclass of ours: one derives from a frozen one if it is frozen itself, only."""
    family = compared.new.class_at(f"{use.by}")
    if family is None or found.old is None or found.new is None or found.old.family is None or found.new.family is None:
        return None
    ours, was, now = family.steps[0].node, found.old.family.steps[0].node, found.new.family.steps[0].node
    if not all(any(is_dataclass(each) for each in node.decorator_list) for node in (ours, was, now)):
        return None
    if _is_frozen(now) == _is_frozen(ours) or _is_frozen(was) != _is_frozen(ours):
        return None
    return f"is {'a' if _is_frozen(now) else 'no'} frozen dataclass now, and ours that derives from it is otherwise"


def _not_yet(use: Use, found: Change, compared: Comparison) -> tuple[Weight, Sureness, str] | None:
    """Judge an override of what an earlier release does not ask for: it waits there, and does no harm."""
    name = use.target.rpartition(".")[2]
    module = compared.new.sources.module(use.by.partition(":")[0])
    # What is never called may hand on to what is not there.
    waits = use.kind == "super call" and use.by.rpartition(".")[2] == name and module is not None
    waits = waits and module is not None and f"self.{name}(" not in module.text
    if not compared.earlier or not (waits or use.kind == "override"):
        return None
    family = compared.new.class_at(use.by.rpartition(".")[0])
    names = family.steps[0].members if family is not None and family.steps else {}
    # What it was called before is met only under that name.
    if any(each.label.rpartition(".")[2] not in names for each in found.candidates):
        return None
    return "behavioural", "likely", "came later: nobody calls ours here; see what is asked in its place"


def _gone(use: Use, found: Change) -> tuple[Weight, Sureness, str]:
    assert found.gone is not None
    sure: Sureness = "certain" if found.gone.certain else "likely"
    instead = f"; perhaps {found.candidates[0]}" if found.candidates else ""
    if use.kind == "override":
        return "breaking", sure, f"is not there to be overridden any more: nobody may call ours{instead}"
    missing = f" (no {found.gone.missing})" if found.gone.missing != use.target else ""
    return "breaking", sure, f"gone{missing}{instead}"


def _stands_in(use: Use, found: Change, compared: Comparison) -> tuple[Weight, Sureness, str] | None:
    assert found.new is not None
    if use.offers is None:
        return None
    name = use.target.rpartition(".")[2]
    if name != "__init__" and found.new.signature is not None and not changed_by_decorators(found.new):
        why = _narrower(use, found.new)
        if why is not None and (found.old is None or _narrower(use, found.old) is None):
            return "breaking", "certain", f"ours does not take every call any more: {why} ({name}{calls(found.new)})"
        if why is not None and found.old is not None and calls(found.new) != calls(found.old):
            return _further(name, found.old, found.new, use.offers)
    return _called_anew(use, use.offers, found.new, compared)


def _narrower(use: Use, theirs: Thing) -> str | None:
    """Return why what stands in for a function does not take every call of it, or None."""
    if theirs.signature is None or use.offers is None:
        return None
    offers = use.offers
    if use.kind == "override" and any("staticmethod" in words_of(node) for node in theirs.nodes):
        # A static method is called on objects, too, and may be overridden by a method.
        offers = offers.replace(parameters=[*offers.parameters.values()][1:])
    return mismatch(theirs.signature, offers, narrowing=True)


def _called_anew(
    use: Use, offers: Signature, theirs: Thing, compared: Comparison
) -> tuple[Weight, Sureness, str] | None:
    """Judge the calls of what ours stands in for: whether one has more arguments than before, and ours refuses it."""
    name = use.target.rpartition(":")[2].rpartition(".")[2]
    is_function = theirs.kind == "function"
    # Who calls a function is known by its imports, who calls a method by its name alone.
    if compared.old is None or (not is_function and (name in _COMMON or "_" not in name.strip("_"))):
        return None
    if theirs.signature is not None and mismatch(theirs.signature, offers) is None:
        return None
    target = use.target if is_function else name
    before = compared.calls_before(target)
    known = {keyword for shape in before for keyword in shape.keywords}
    most = max((shape.positional for shape in before), default=0)
    for shape, where in compared.calls_now(target).items():
        if not set(shape.keywords) - known and shape.positional <= most:
            continue
        if theirs.signature is not None and _refused(shape, theirs.signature) is not None:
            # It is a method of that name of another class that is called so.
            continue
        if (why := _refused(shape, offers)) is not None:
            return "breaking", "likely", f"is called as {name}{shape} now, and ours refuses that: {why} ({where})"
    return None


def _refused(call: Call, signature: Signature) -> str | None:
    return call.refused_by(signature, bound=call.on_object and _is_bound(signature))


def _mild(use: Use, found: Change) -> tuple[Weight, Sureness, str]:
    words = WORDS[found.what]
    if found.what == "kind" and found.old is not None and found.new is not None:
        return "behavioural", "certain", f"was {a_kind(found.old)}, is {a_kind(found.new)}"
    if found.what == "new":
        if use.kind == "patch":
            return "behavioural", "certain", f"{words}: the assignment puts ours in its place"
        if use.guarded:
            return "behavioural", "certain", f"{words}: the source finds it"
        return "additive", "certain", words
    if found.moved_to:
        words = f"{words}; defined in {found.moved_to}" if found.what != "moved" else f"moved to {found.moved_to}"
    if found.what == "signature" and found.old is not None and found.new is not None:
        words = f"{words}: {calls(found.old)} -> {calls(found.new)}; this use fits"
        if use.kind in _RUNNING and not same_body(found.old, found.new):
            return "behavioural", "certain", f"{words}, and the body changed"
        if use.call is not None and (names := _other_defaults(use.call, found.old, found.new)):
            return "behavioural", "certain", f"{words}, and leaves {_few(names)} to another default"
        return "additive", "certain", words
    if found.what == "members":
        return "additive", "certain", f"{words}: {_few(found.members) if found.members else HEAD}"
    if found.what == "body" and (types := _other_type(found)) is not None:
        return "behavioural", "certain", types
    if found.what == "body" and use.kind in _RUNNING:
        return "behavioural", "certain", words
    return ("additive" if found.what in ("body", "moved") else "none"), "certain", words


def _other_type(found: Change) -> str | None:
    """Return how the type of a constant changed; None where it did not, or source does not tell."""
    assert found.new is not None
    if found.old is None or found.old.kind != "value" or found.new.kind != "value":
        return None
    was, now = value_of(found.old.nodes), value_of(found.new.nodes)
    if OPEN in (was, now) or mismatch_of_values(was, now) is None:
        return None
    return f"was {what_is(was)}, is {what_is(now)}"


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _other_defaults(call: Call, old: Thing, new: Thing) -> tuple[str, ...]:
    """Return which arguments a call leaves to a default that was another."""
    before, now = (thing.signature for thing in (old, new))
    if call.stars or before is None or now is None:
        return ()
    filled = {*call.keywords, *_by_position(call, now, bound=_fills_first(new, call))}
    both = ((name, before.parameters.get(name), each) for name, each in now.parameters.items() if name not in filled)
    return tuple(name for name, was, is_ in both if was is not None and str(was.default) != str(is_.default))


def _by_position(call: Call, theirs: Signature, *, bound: bool) -> list[str]:
    """Return which arguments a call fills by position."""
    names = [each.name for each in theirs.parameters.values() if each.kind in _POSITIONAL]
    return names[bound : bound + call.positional]


def _shifted(use: Use, found: Change, compared: Comparison) -> str | None:
    """Return why an argument that is passed by position reaches another parameter than before."""
    call, old, new = use.call, found.old, found.new
    if call is None or call.stars or old is None or new is None or compared.old is None:
        return None
    before, now = _called_as(old, compared.old), _called_as(new, compared.new)
    if before is None or now is None:
        return None
    was = _by_position(call, before, bound=_fills_first(old, call))
    is_ = _by_position(call, now, bound=_fills_first(new, call))
    places = {each.name for each in now.parameters.values() if each.kind in _POSITIONAL}
    for number, (then, name) in enumerate(zip(was, is_, strict=False), 1):
        # One that has another name alone is the same one.
        if then != name and then in places:
            called = f"{new.home.rpartition(':')[2]}{call}"
            return f"argument {number} of the call {called} is {name!r} now, and was {then!r}"
    return None


def _called_as(thing: Thing, atlas: Atlas) -> Signature | None:
    if thing.kind == "class":
        return constructor(atlas, thing)
    return None if changed_by_decorators(thing) else thing.signature


def a_kind(thing: Thing) -> str:
    """Return what a thing is, with its article."""
    words = nature(thing) if thing.kind == "class" else f"{thing.flavour} {thing.kind}".strip()
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def refusal(call: Call, thing: Thing, atlas: Atlas) -> str | None:
    """Return why a thing cannot be called in this way, or None where it can, or nobody knows."""
    signature = _called_as(thing, atlas)
    return call.refused_by(signature, bound=_fills_first(thing, call)) if signature is not None else None


def _fills_first(thing: Thing, call: Call) -> bool:
    # A method that is called on its class gets the object as an argument, which the source's call counts.
    return thing.kind == "classmethod" or (thing.kind == "method" and call.on_object)


def _called(use: Use, thing: Thing, atlas: Atlas) -> str:
    signature = constructor(atlas, thing) if thing.kind == "class" else None
    shown = str(_plain(signature)) if signature is not None else calls(thing)
    return f"the call {thing.home.rpartition(':')[2]}{use.call} does not fit {shown}:"


def _plain(signature: Signature) -> Signature:
    parameters = [each.replace(annotation=Parameter.empty) for each in signature.parameters.values()]
    return signature.replace(parameters=parameters, return_annotation=Signature.empty)


def _is_bound(signature: Signature) -> bool:
    first = next(iter(signature.parameters), "")
    return first in ("self", "cls")
