"""Whether a call that one schema of an operator accepts means the same to another schema of it.

The reference kernels have the schemas of one release of torch_npu; another release may have other ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ascend_overlay.npu.calls import Call

Verdict = Literal["same", "compatible", "different", "absent"]


@dataclass(frozen=True)
class Difference:
    """One thing in which another schema differs from ours.

    Attributes:
        text: what, with the other schema as the subject: "has no argument 'rotate'".
        argument: the argument of ours that it is about; None if every call is concerned.
        passed: the calls that pass the argument are concerned; False: those that do not.
        breaks: a call that is concerned is refused there, or means something else.
        none: what it is about is that None is not taken; a call that passes anything else is not concerned.
        passable: a function written for our schema can be called with what the other schema hands on, which leaves out
            arguments that have their defaults.
    """

    text: str
    argument: str | None = None
    passed: bool = True
    breaks: bool = True
    none: bool = False
    passable: bool = False


def differences(ours: str, theirs: str) -> tuple[Difference, ...]:
    """Return how the schema `theirs` differs from `ours`; both without the namespace.

    Raises:
        RuntimeError: one of them is not a schema.
    """
    import torch

    return tuple(_compare(torch._C.parse_schema(ours), torch._C.parse_schema(theirs)))


def verdict(ours: str, theirs: str | None) -> Verdict:
    """Return in one word whether calls of `ours` fit `theirs`.

    "compatible": every call that fits ours fits theirs and means the same; "different": some calls do not.
    """
    if theirs is None:
        return "absent"
    found = differences(ours, theirs)
    if not found:
        return "same"
    return "different" if any(difference.breaks for difference in found) else "compatible"


def refusal(ours: str, theirs: str, call: Call | None = None) -> str | None:
    """Return why `call`, written for the schema `ours`, does not fit `theirs`; None if it does.

    Args:
        ours: our schema.
        theirs: the other schema.
        call: what is passed; None: what is known of no call in particular concerns every call.

    Returns:
        What is wrong with the other schema, as the rest of a sentence that begins with its operator.
    """
    passed = passed_arguments(ours, call) if call is not None else frozenset()
    found = []
    for difference in differences(ours, theirs):
        name = difference.argument
        concerned = name is None or (call is not None and (name in passed) == difference.passed)
        if difference.none and call is not None and name in call.filled:
            continue
        if difference.breaks and concerned:
            found.append(difference.text)
    if call is not None:
        found += _unknown(ours, theirs, call)
    return "; it ".join(found) or None


def passable(ours: str, theirs: str) -> bool:
    """Tell whether a kernel written for the schema `ours` can stand behind `theirs`."""
    return all(difference.passable for difference in differences(ours, theirs))


def passed_arguments(schema: str, call: Call) -> frozenset[str]:
    """Return the names of the arguments that `call` passes, or may pass where it unpacks something."""
    import torch

    names = [argument.name for argument in torch._C.parse_schema(schema).arguments]
    positional = len(names) if call.unpacks else call.positional
    return frozenset(names[:positional]) | call.keywords


def _unknown(ours: str, theirs: str, call: Call) -> Iterator[str]:
    """Yield what is wrong with a call that does not even fit our own schema."""
    import torch

    mine, yours = (torch._C.parse_schema(schema).arguments for schema in (ours, theirs))
    known = {argument.name for argument in (*mine, *yours)}
    yield from (f"has no argument {name!r}" for name in sorted(call.keywords - known))
    places = sum(not argument.kwarg_only for argument in yours)
    if call.positional > max(places, sum(not argument.kwarg_only for argument in mine)):
        yield f"takes {places} arguments by position, not {call.positional}"


def _compare(ours: Any, theirs: Any) -> Iterator[Difference]:
    mine, yours = ours.arguments, {argument.name: argument for argument in theirs.arguments}
    places = _places(theirs)
    for place, argument in enumerate(mine):
        other = yours.get(argument.name)
        required = not argument.has_default_value()
        # Every call passes what has no default.
        concerned = None if required else argument.name
        if other is None:
            yield Difference(f"has no argument {argument.name!r}", concerned, passable=not required)
        elif not argument.kwarg_only and places.get(argument.name) != place:
            where = "by keyword only" if argument.name not in places else f"in place {places[argument.name] + 1}"
            yield Difference(f"takes {argument.name!r} {where}, not in place {place + 1}", concerned)
        elif argument.kwarg_only and not other.kwarg_only:
            yield Difference(f"takes {argument.name!r} by position, too", breaks=False)
        elif not _accepts(other.type, argument.type):
            text = f"takes {argument.name!r} as {other.type}, not as {argument.type}"
            yield Difference(text, concerned, none=f"Optional[{other.type}]" == str(argument.type))
        elif required and other.has_default_value():
            yield Difference(f"has a default for {argument.name!r}", breaks=False)
        elif not required and not other.has_default_value():
            yield Difference(f"requires {argument.name!r}", argument.name, passed=False)
        elif not required and other.default_value != argument.default_value:
            defaults = f"{other.default_value!r}, not {argument.default_value!r}"
            yield Difference(f"has {defaults}, as the default of {argument.name!r}", argument.name, passed=False)
        elif _written(other) != _written(argument):
            verb = "writes to" if _written(other) else "does not write to"
            yield Difference(f"{verb} {argument.name!r}")
    known = {argument.name for argument in mine}
    for name, other in yours.items():
        if name not in known:
            optional = other.has_default_value()
            text = f"{'also takes' if optional else 'requires'} {name!r}"
            yield Difference(text, breaks=not optional, passable=optional)
    returns = [[str(item.type) for item in schema.returns] for schema in (theirs, ours)]
    if returns[0] != returns[1]:
        yield Difference(f"returns ({', '.join(returns[0])}), not ({', '.join(returns[1])})")


def _places(schema: Any) -> dict[str, int]:
    """Return the position of each argument that can be passed by position."""
    return {argument.name: place for place, argument in enumerate(schema.arguments) if not argument.kwarg_only}


def _accepts(wide: Any, narrow: Any) -> bool:
    return bool(narrow.isSubtypeOf(wide))


def _written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write
