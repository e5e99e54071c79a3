"""Whether what a package takes from another still fits."""

from __future__ import annotations

import ast
import re
from inspect import Parameter, Signature

from ascend_overlay.couplings.changes import WORDS, Change, calls
from ascend_overlay.couplings.comparison import Comparison
from ascend_overlay.couplings.findings import Finding, Sureness, Weight
from ascend_overlay.couplings.uses import Call, Use
from ascend_overlay.patches.signatures import mismatch
from ascend_overlay.source.atlas import Atlas, Thing
from ascend_overlay.source.constructors import constructor

_COMMON = frozenset({"load_weights", "get_name", "get_input", "embed_input_ids", "compute_logits", "state_dict"})
"""Names that so many classes have that a call of them tells nothing about one of these."""
_BOUND = ("method", "classmethod")


def judge(use: Use, compared: Comparison) -> Finding:
    """Tell what became of what `use` takes; where there is nothing to compare with, whether it fits."""
    found = compared.change(use.target)
    weight, sure, why = _judged(use, found, compared)
    if use.guarded and weight == "breaking":
        weight, why = "behavioural", f"{why}; the source goes on without it"
    if not use.sure:
        sure = "likely"
    return Finding(weight, sure, why, use.target, found, use)


def _judged(use: Use, found: Change, compared: Comparison) -> tuple[Weight, Sureness, str]:
    if found.what == "gone":
        return _gone(use, found)
    if found.what == "unknown" or found.new is None:
        return "unknown", "certain", WORDS["unknown"]
    if found.what == "kind" and found.old is not None:
        return "breaking", "certain", f"was {a_kind(found.old)}, is {a_kind(found.new)}"
    old, new = compared.old, compared.new
    if use.call is not None and (why := refusal(use.call, found.new, new)) is not None:
        was = refusal(use.call, found.old, old) if found.old is not None and old is not None else None
        # What cannot be called in the old state either was not understood.
        if was is None:
            return "breaking", "certain", f"{_called(use, found.new, new)} {why}"
    if use.kind == "override":
        judged = _override(use, found, compared)
        if judged is not None:
            return judged
    return _mild(use, found)


def _gone(use: Use, found: Change) -> tuple[Weight, Sureness, str]:
    assert found.gone is not None
    sure: Sureness = "certain" if found.gone.certain else "likely"
    instead = f"; perhaps {found.candidates[0]}" if found.candidates else ""
    if use.kind == "override":
        return "breaking", sure, f"is not there to be overridden any more: nobody may call ours{instead}"
    missing = f" (no {found.gone.missing})" if found.gone.missing != use.target else ""
    return "breaking", sure, f"gone{missing}{instead}"


def _override(use: Use, found: Change, compared: Comparison) -> tuple[Weight, Sureness, str] | None:
    assert found.new is not None
    if use.offers is None:
        return None
    name = use.target.rpartition(".")[2]
    if name != "__init__" and found.new.signature is not None:
        why = mismatch(found.new.signature, use.offers, narrowing=True)
        was = found.old.signature if found.old is not None else None
        if why is not None and (was is None or mismatch(was, use.offers, narrowing=True) is None):
            return "breaking", "certain", f"ours does not take every call any more: {why} ({name}{calls(found.new)})"
    takes_any = any(each.kind is Parameter.VAR_KEYWORD for each in use.offers.parameters.values())
    if compared.old is None or takes_any or name in _COMMON or "_" not in name.strip("_"):
        return None
    known = {keyword for shape in compared.calls_before(name) for keyword in shape.keywords}
    for shape, where in compared.calls_now(name).items():
        if not set(shape.keywords) - known:
            continue
        why = shape.refused_by(use.offers, bound=_is_bound(use.offers))
        if why is not None:
            return "breaking", "likely", f"is called as {name}{shape} now, and ours refuses that: {why} ({where})"
    return None


def _mild(use: Use, found: Change) -> tuple[Weight, Sureness, str]:
    words = WORDS[found.what]
    if found.moved_to:
        words = f"{words}; defined in {found.moved_to}" if found.what != "moved" else f"moved to {found.moved_to}"
    if found.what == "signature" and found.old is not None and found.new is not None:
        return "additive", "certain", f"{words}: {calls(found.old)} -> {calls(found.new)}; this use fits"
    if found.what == "members":
        return (
            "additive",
            "certain",
            f"{words}: {_few(found.members)}" if found.members else f"{words}: bases or decorators",
        )
    if found.what == "body" and use.kind in ("override", "super call", "call", "construct", "registration", "patch"):
        return "behavioural", "certain", words
    return ("additive" if found.what in ("body", "moved") else "none"), "certain", words


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def a_kind(thing: Thing) -> str:
    """Return what a thing is, with its article."""
    words = f"{thing.flavour} {thing.kind}".strip()
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def refusal(call: Call, thing: Thing, atlas: Atlas) -> str | None:
    """Return why a thing cannot be called in this way, or None where it can, or nobody knows."""
    if thing.kind == "class":
        signature = constructor(atlas, thing)
        return call.refused_by(signature, bound=False) if signature is not None else None
    if thing.signature is None or _changed_by_decorators(thing):
        return None
    return call.refused_by(thing.signature, bound=_fills_first(thing, call))


def _fills_first(thing: Thing, call: Call) -> bool:
    # A method that is called on its class gets the object as an argument, which the source's call counts.
    return thing.kind == "classmethod" or (thing.kind == "method" and call.on_object)


_KEEPING = frozenset(
    {"staticmethod", "classmethod", "abstractmethod", "override", "final", "inference_mode", "no_grad", "wraps"}
    | {"cache", "lru_cache", "deprecated", "instrument", "compile", "overload"}
)
"""Decorators that leave the way in which a function is called as it is."""


def _changed_by_decorators(thing: Thing) -> bool:
    node = thing.nodes[-1]
    decorators = getattr(node, "decorator_list", [])
    words = {
        re.split(r"[.(]", ast.unparse(each))[-1] if "(" not in ast.unparse(each) else _word(each) for each in decorators
    }
    return bool(words - _KEEPING)


def _word(node: ast.expr) -> str:
    function = node.func if isinstance(node, ast.Call) else node
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "?")


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
