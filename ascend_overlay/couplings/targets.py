"""What became of the target of a patch, and whether the patch can still change it as its kind does."""

from __future__ import annotations

import ast
from inspect import Signature
from typing import Any

from ascend_overlay.couplings.changes import HEAD, WORDS, Change, calls, not_told, openness
from ascend_overlay.couplings.comparison import Comparison
from ascend_overlay.couplings.findings import Finding, Sureness, Weight
from ascend_overlay.couplings.fitting import unmet
from ascend_overlay.couplings.judging import a_kind
from ascend_overlay.couplings.refusals import refused, refused_new, unfound
from ascend_overlay.errors import ConfigError
from ascend_overlay.overlay import Overlay
from ascend_overlay.patches.backends import REGISTRY as BACKENDS
from ascend_overlay.patches.base import NOT_GIVEN, Patch, Ref, shown
from ascend_overlay.patches.registries import MODEL_REGISTRY, QUANTIZATION
from ascend_overlay.patches.signatures import mismatch
from ascend_overlay.patches.signatures import of as signature_of
from ascend_overlay.places.target import MISSING
from ascend_overlay.source.atlas import Atlas, Gone, Thing
from ascend_overlay.source.constructors import constructor, declares_fields
from ascend_overlay.source.matching import matches, nearest
from ascend_overlay.source.signatures import changed_by_decorators
from ascend_overlay.source.snippets import snippet

BRINGING = ("add", "module alias")
"""Kinds of patch that bring something."""
_THROUGH = {"model": MODEL_REGISTRY, "quantization": QUANTIZATION, "attention backend": BACKENDS}
"""Kinds of patch whose target is a name that is registered -> where."""
_CALLABLE = ("function", "method", "staticmethod", "classmethod", "class")


def judge_patch(
    patch: Patch, compared: Comparison, brought: frozenset[str] = frozenset(), overlay: Overlay | None = None
) -> Finding:
    """Tell what became of the target of a patch.

    Args:
        patch: the patch.
        compared: the state that is asked about, and the one that it is compared with.
        brought: the targets of all patches that bring something, to which others may bring more.
        overlay: the overlay that it is of, whose condition counts as well.
    """
    label = target_of(patch)
    if label is None:
        return Finding("none", "certain", "has no target in source", patch.target, Change("unchanged"))
    found = compared.change(label)
    weight, sure, why = _judged(patch, label, found, compared, brought, overlay)
    return Finding(weight, sure, why, label, found)


def target_of(patch: Patch) -> str | None:
    """Return the name that a patch needs, "module:Name" or a module; None where it needs none."""
    if ":" in patch.target:
        return patch.target.partition("[")[0]
    if patch.kind == "module alias":
        return patch.target
    return _THROUGH.get(patch.kind, patch.module)


def _judged(
    patch: Patch,
    label: str,
    found: Change,
    compared: Comparison,
    brought: frozenset[str],
    overlay: Overlay | None,
) -> tuple[Weight, Sureness, str]:
    if (lost := _unfound(patch, overlay, compared)) is not None:
        return lost
    if _brings(patch, label, compared):
        return _brought(patch, label, found, compared, brought)
    if found.what == "gone":
        assert found.gone is not None
        top = label.partition(":")[0].partition(".")[0]
        if found.gone.missing == top != compared.new.package:
            # It waits for an import, which may be one on another machine.
            try:
                why_not = unmet(overlay, patch)
            except ConfigError as error:
                # It may need what only a run has.
                return "unknown", "certain", f"{top} is not installed here, and {error}"
            if why_not is not None:
                return "none", "certain", f"{top} is not installed here, and its condition leaves it out: {why_not}"
            return "unknown", "certain", f"{top} is not installed here, so that nobody can tell"
        sure: Sureness = "certain" if found.gone.certain else "likely"
        missing = f" (no {found.gone.missing})" if found.gone.missing != label else ""
        instead = f"; perhaps {', '.join(map(str, found.candidates))}" if found.candidates else ""
        return "breaking", sure, f"gone{missing}{instead}"
    if found.what == "unknown" or found.new is None:
        return "unknown", "certain", not_told(label, (compared.old, compared.new))
    resorted = found.what == "kind" and found.old is not None and found.old.kind == found.new.kind == "class"
    if found.what == "kind" and found.old is not None and not resorted:
        return "breaking", "certain", f"was {a_kind(found.old)}, is {a_kind(found.new)}"
    if (unfit := _unfit(patch, found, compared)) is not None:
        return "breaking", *unfit
    words = WORDS[found.what]
    if resorted and found.old is not None:
        return "behavioural", "certain", f"was {a_kind(found.old)}, is {a_kind(found.new)}"
    if found.moved_to:
        words = f"moved to {found.moved_to}" if found.what == "moved" else f"{words}; defined in {found.moved_to}"
    if found.what == "signature" and found.old is not None:
        words = f"{words}: {calls(found.old)} -> {calls(found.new)}"
        return "behavioural", "certain", words
    if found.what == "members":
        return (
            "additive",
            "certain",
            f"{words}: {', '.join(found.members[:6]) or HEAD}",
        )
    if found.what == "body":
        return ("additive" if found.new.kind == "module" else "behavioural"), "certain", words
    return ("additive" if found.what == "moved" else "none"), "certain", words


def _unfound(patch: Patch, overlay: Overlay | None, compared: Comparison) -> tuple[Weight, Sureness, str] | None:
    """Judge a patch that names what does not exist, unless its condition leaves it out here."""
    found = unfound(patch, compared.new)
    if found is None:
        return None
    try:
        why_not = unmet(overlay, patch)
    except ConfigError as error:
        # It may need what only a run has.
        return "unknown", "certain", f"{found[1]}, and {error}"
    return ("breaking", *found) if why_not is None else None


def _brings(patch: Patch, label: str, compared: Comparison) -> bool:
    """Tell whether a patch brings what its target names, rather than to change it."""
    if patch.kind in (*BRINGING, "member"):
        return True
    if patch.kind != "field" or getattr(patch, "annotation", MISSING) is MISSING:
        return False
    # With a type, a field may be a new one.
    return compared.old is None or isinstance(compared.old.look(label), Gone)


def _brought(
    patch: Patch, label: str, found: Change, compared: Comparison, brought: frozenset[str]
) -> tuple[Weight, Sureness, str]:
    module, _, path = label.partition(":")
    above = (f"{module}:{path.rpartition('.')[0]}" if "." in path else module) if path else module.rpartition(".")[0]
    holder = compared.change(above) if above and above not in brought else None
    served = str(getattr(patch, "implementation", "")) if patch.kind == "module alias" else ""
    if served and isinstance(gone := compared.new.look(served), Gone):
        return "breaking", "certain", f"there is no {served} to serve it with (no {gone.missing})"
    if holder is not None and holder.what == "gone":
        assert holder.gone is not None
        sure: Sureness = "certain" if holder.gone.certain else "likely"
        instead = f"; perhaps {', '.join(map(str, holder.candidates))}" if holder.candidates else ""
        return "breaking", sure, f"there is no {above} to bring it to (no {holder.gone.missing}){instead}"
    if holder is not None and holder.new is not None and (why := _cannot_hold(patch, holder, compared)) is not None:
        return "breaking", "likely", why
    if holder is not None and holder.new is not None and found.new is None:
        name = label.rpartition(":")[2].rpartition(".")[2]
        if (refusal := refused_new(patch, holder.new, name, compared.new)) is not None:
            return "breaking", *refusal
    if found.what == "gone":
        return "none", "certain", "not there, as it should be"
    if found.new is None:
        return "unknown", "certain", f"{WORDS['unknown']}, and the patch is to bring it"
    if patch.kind == "field" and found.old is None and compared.old is None:
        return "none", "certain", WORDS["unchanged"]
    word = "the module is" if patch.kind == "module alias" else "is"
    return "breaking", "certain", f"{word} there now, and the patch is to bring it"


def _cannot_hold(patch: Patch, holder: Change, compared: Comparison) -> str | None:
    """Return why the class of a field or member has none any more."""
    now = holder.new
    assert now is not None
    if patch.kind in ("field", "member") and now.kind != "class":
        return f"{now.label} is {a_kind(now)}, not a class"
    declared = compared.old is not None and holder.old is not None and declares_fields(compared.old, holder.old)
    if patch.kind == "field" and declared and not declares_fields(compared.new, now):
        return f"{now.label} declares no fields any more"
    if patch.kind == "member" and holder.old is not None and holder.old.is_enum and not now.is_enum:
        return f"{now.label} is no enumeration any more"
    return None


def _unfit(patch: Patch, found: Change, compared: Comparison) -> tuple[Sureness, str] | None:
    """Return why a patch of its kind cannot change what is there now."""
    now = found.new
    assert now is not None
    if patch.kind == "factory" and (narrow := _narrower(patch, now, compared)) is not None:
        return narrow
    if patch.kind == "field":
        holder = compared.change(now.label.rpartition(".")[0])
        if holder.new is not None and (why := _cannot_hold(patch, holder, compared)) is not None:
            return "likely", why
    if (why := _misfit(patch, now)) is not None:
        return "certain" if len(now.nodes) < 2 else "likely", why
    if (said := refused(patch, now, compared.new)) is not None:
        return said
    # What decorators make of the original is not known.
    return _narrower(patch, now, compared) if patch.kind == "replace" and changed_by_decorators(now) else None


def _narrower(patch: Patch, now: Thing, compared: Comparison) -> tuple[Sureness, str] | None:
    """Return why what stands in for a function or a class does not take every call."""
    if patch.kind == "factory" and now.kind != "class":
        return "certain", f"is {a_kind(now)}, and factory is for classes"
    theirs = constructor(compared.new, now) if now.kind == "class" else now.signature
    ours = _offered(patch, compared.new)
    if theirs is None or ours is None or (why := mismatch(theirs, ours)) is None:
        return None
    if patch.kind == "factory":
        # It may do without what nobody passes.
        return "likely", f"our function does not take every call: {why}"
    # What decorators make of the original is not known.
    sure: Sureness = "likely" if changed_by_decorators(now) else "certain"
    return sure, f"our replacement does not take every call: {why} (now {calls(now)})"


def _offered(patch: Patch, atlas: Atlas) -> Signature | None:
    value = getattr(patch, "replacement", None) or getattr(patch, "implementation", None)
    if isinstance(value, Ref):
        # It is named, and not imported.
        there = atlas.look(value.text)
        if not isinstance(there, Thing) or there.signature is None or changed_by_decorators(there):
            return None
        return there.signature
    return _signature(value)


def _misfit(patch: Patch, now: Thing) -> str | None:
    if patch.kind == "subclass" and now.kind != "class":
        instead = "; use overlay.replace" if now.kind == "function" else ""
        return f"is {a_kind(now)}, and {patch.kind} is for classes{instead}"
    if patch.kind == "subclass" and now.is_enum:
        return "is an enumeration, and nothing derives from one that has members"
    if patch.kind in ("wrap", "priority") and now.kind == "value" and now.nodes and not openness(now):
        return "is a value, which is not called"
    if patch.kind in ("wrap", "priority") and now.kind not in (*_CALLABLE, "property", "value") and now.nodes:
        return f"is {a_kind(now)}, which is not called"
    if patch.kind == "edit":
        return _edit(patch, now)
    if patch.kind == "field" and now.kind not in ("field", "value", "attribute"):
        return f"is {a_kind(now)}, not a field"
    if patch.kind in ("item", "entry", "remove"):
        return _in_container(patch, now)
    return None


def _in_container(patch: Patch, now: Thing) -> str | None:
    """Return why an entry cannot be set, entered or removed, where the source spells the container."""
    value = getattr(now.nodes[-1], "value", None) if len(now.nodes) == 1 else None
    try:
        holds = ast.literal_eval(value) if isinstance(value, ast.expr) else None
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    if holds is None or now.kind not in ("value", "field", "attribute"):
        return None
    key = getattr(patch, "item", NOT_GIVEN)
    if patch.kind == "item":
        return None if isinstance(holds, dict) else f"is a {type(holds).__name__}, and item is for mappings"
    if not isinstance(holds, (list, tuple, set, dict)):
        return None
    try:
        if patch.kind == "remove":
            return f"has no {key!r} to remove" if key is not NOT_GIVEN and key not in holds else None
        if getattr(patch, "value", None) in holds:
            return f"has {shown(getattr(patch, 'value', None))} already"
        beside = (getattr(patch, name, NOT_GIVEN) for name in ("before", "after"))
        lost = [each for each in beside if each is not NOT_GIVEN and each not in holds]
    except Exception:  # whatever the equality of somebody's object raises
        return None
    return f"has no {lost[0]!r} any more, beside which the entry goes" if lost else None


def _signature(replacement: Any) -> Signature | None:
    return signature_of(replacement) if callable(replacement) else None


def _edit(patch: Patch, now: Thing) -> str | None:
    wanted = snippet(getattr(patch, "find", ""))
    if not now.nodes or now.module is None:
        return None
    # Of definitions in branches, one is there.
    every = [matches(node, wanted) for node in now.nodes if not _is_overload(node)]
    if any(len(each) == 1 for each in every) or not every:
        return None
    node, found = now.nodes[-1], every[-1]
    head = next((line.strip() for line in wanted.text.split("\n") if line.strip()), "")
    if found:
        lines = ", ".join(map(str, sorted(each.first for each in found)))
        return f"the lines to edit (`{head}` ...) are found {len(found)} times, at {lines}"
    close = nearest(wanted, now.module.lines[node.lineno - 1 : node.end_lineno], node.lineno)
    near = "; the nearest:\n" + "\n".join(close) if close else ""
    return f"the lines to edit (`{head}` ...) are not in it{near}"


def _is_overload(node: ast.stmt) -> bool:
    return any(ast.unparse(each).rpartition(".")[2] == "overload" for each in getattr(node, "decorator_list", ()))
