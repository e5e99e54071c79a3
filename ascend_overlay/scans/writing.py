"""A plugin module that declares as overlays what was patched by hand."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from ascend_overlay.releases import Release
from ascend_overlay.scans.judging import WRONG, Verdict
from ascend_overlay.scans.noting import EVERY, UNKNOWN_NAME
from ascend_overlay.scans.releases import GONE, Judged
from ascend_overlay.scans.values import Local, Outside, Scope
from ascend_overlay.source.statements import dotted

FUNCTION, CLASS, VALUE = "function", "class", "value"
_RESERVED = {"true", "false", "yes", "no", "on", "off", "ref", "overlay", "hookimpl", "overlays"}


@dataclass(frozen=True)
class Change:
    """One patch to declare.

    Attributes:
        target: "module:Name".
        kind: one of finding.KINDS.
        place: where it is made now.
        name: "module:Name" of what is put there; "" where it cannot be imported by a name.
        literal: its source, where it is a literal.
        text: its source, shortened.
        shape: what it is: FUNCTION, CLASS, VALUE, or "".
        there: what the target is, likewise.
        derived: it is a class that is derived from the target.
        fits: it is a literal of the type that is there.
        adds: the target is not there.
        key: the key of an item or a registration, as source.
        function: the function of a registry that is called.
        follows: the copy of a name, which follows by itself.
        lost: why it cannot be declared for any of the releases.
        vllm: the range of releases; "" for any.
        conditions: what the code around it asks, as source.
    """

    target: str
    kind: str
    place: str
    name: str = ""
    literal: str = ""
    text: str = ""
    shape: str = ""
    there: str = ""
    derived: bool = False
    fits: bool = False
    adds: bool = False
    key: str = ""
    function: str = ""
    follows: bool = False
    lost: str = ""
    vllm: str = ""
    conditions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Written:
    """The source of a plugin module.

    Attributes:
        text: the whole of it.
        declared: the name of each overlay -> the position of its change, and the statements that declare it.
    """

    text: str
    declared: Mapping[str, tuple[int, str]]


def changes_of(verdicts: Sequence[Verdict], releases: Sequence[Release]) -> list[Change]:
    """Return what is to be declared in the place of patches, for the releases that they were held against."""
    latest = Judged(releases[-1]) if releases else None
    return [_change(each, releases, latest) for each in verdicts]


def written(changes: Iterable[Change], origin: str) -> Written:
    """Return the source of a plugin module with an overlay a change, and which overlay is of which."""
    parts: list[str] = []
    declared: dict[str, tuple[int, str]] = {}
    names: set[str] = set()
    places: dict[str, str] = {}
    for position, change in enumerate(changes):
        head = f"# {_one_line(change.place)}: {_one_line(change.target)}"
        call, why = _declared(change)
        place = change.target + (change.key if change.kind != "attribute" else "")
        if call and place in places:
            call, why = "", f"{places[place]} is on the same target: decide which of them is to be"
        if not call:
            parts.append(f"{head}\n# not declared: {_one_line(why)}.")
            continue
        places[place] = change.place
        name = _name(change.target, change.key if change.kind in ("item", "registration", "remove") else "", names)
        lines = [head, *(f"# only where: {_one_line(text)}" for text in change.conditions)]
        if why:
            lines.append(f"# {_one_line(why)}.")
        vllm = f"\n    vllm={change.vllm!r}," if change.vllm else ""
        reason = f"TODO: why {_one_line(change.target)} is patched"
        lines.append(f"{name} = Overlay(\n    {name!r},{vllm}\n    reason={reason!r},\n)")
        lines.append(f"{name}.{call}")
        lines.append(f"OVERLAYS.append({name})")
        declared[name] = position, "\n".join(lines)
        parts.append("\n".join(lines))
    body = "\n\n".join(parts)
    imports = "Overlay, ref" if " ref(" in body or "(ref(" in body else "Overlay"
    text = _HEAD.format(origin=_one_line(origin).replace('"""', "'''"), imports=imports) + body + _TAIL
    compile(text, "plugin", "exec")
    return Written(text, declared)


_HEAD = '''"""Overlays in the place of patches that were made by hand.

Written by `{origin}`. Give each its reason; take the lines that are named above each out of the package: a module that
an overlay takes its replacement from must not patch anything itself when it is imported.
"""

from ascend_overlay import {imports}
from ascend_overlay.hooks import hookimpl

OVERLAYS: list[Overlay] = []

'''
_TAIL = """


@hookimpl
def ascend_overlay_overlays() -> list[Overlay]:
    return OVERLAYS
"""


def _declared(change: Change) -> tuple[str, str]:
    """Return the call that declares a change, and a remark; "" and the reason where there is none."""
    if change.follows:
        return "", "a copy of the name, which follows the patch of its home by itself"
    if change.lost:
        return "", change.lost
    if EVERY in change.target or UNKNOWN_NAME in change.target.partition(":")[2]:
        return "", "which names it changes is worked out when it runs; name them"
    if "[" in change.target:
        return "", "it changes an entry inside an object: for a field of a dataclass see overlay.field"
    if "__dict__" in change.target:
        return "", "it changes a __dict__"
    made = _MAKERS.get(change.kind)
    return made(change) if made is not None else ("", f"there is no overlay for a patch of the kind {change.kind!r}")


def _attribute(change: Change) -> tuple[str, str]:
    target = repr(change.target)
    if ":" not in change.target:
        return "", "it changes a module, not a name in it"
    if change.adds:
        value = _value(change)
        return (f"add({target}, {value})", "") if value else ("", _unnamed(change))
    if change.shape == FUNCTION and change.name:
        if change.there == CLASS:
            return f"factory({target}, {change.name!r})", "a function in the place of a class"
        remark = "it calls what was there: as a wrapper, overlay.wrap, it would not have to keep it" * (
            change.kind == "wrap"
        )
        if change.there == VALUE:
            return f"attribute({target}, ref({change.name!r}), as_is=True)", remark
        return f"replace({target}, {change.name!r})", remark
    if change.shape == CLASS and change.name:
        if change.derived and change.there == CLASS:
            return f"subclass({target}, {change.name!r})", ""
        return f"attribute({target}, ref({change.name!r}), as_is=True)", "it is not derived from what was there"
    value = _value(change)
    as_is = "" if change.fits else ", as_is=True"
    return (f"attribute({target}, {value}{as_is})", "") if value else ("", _unnamed(change))


def _value(change: Change) -> str:
    if change.name:
        return f"ref({change.name!r})"
    if change.literal:
        return change.literal + (", as_is=True" if _is_name(change.literal) and change.adds else "")
    return ""


def _is_name(literal: str) -> bool:
    return ":" in literal and literal[:1] in "'\""


def _unnamed(change: Change) -> str:
    what = change.text or "what is put there"
    return f"{what} has no name by which it can be imported; put it at the top of a module, and name that"


def _remove(change: Change) -> tuple[str, str]:
    key = f", key={change.key}" if change.key else ""
    if change.key and not _literal(change.key):
        return "", f"the key {change.key} is worked out when it runs"
    return f"remove({change.target!r}{key})", ""


def _item(change: Change) -> tuple[str, str]:
    value = _value(change)
    if not _literal(change.key):
        return "", f"the key {change.key} is worked out when it runs"
    return (f"item({change.target!r}, {change.key}, {value})", "") if value else ("", _unnamed(change))


def _entry(change: Change) -> tuple[str, str]:
    value = _value(change)
    if not value or change.text.startswith(("[", "{", "(")):
        return "", f"{change.text or 'what is entered'}: declare each entry with overlay.entry or overlay.item"
    return f"entry({change.target!r}, {value})", ""


def _member(change: Change) -> tuple[str, str]:
    return (f"member({change.target!r}, {change.literal})", "") if change.literal else ("", _unnamed(change))


def _registration(change: Change) -> tuple[str, str]:
    key = change.key
    implementation = change.name or (ast.literal_eval(change.literal) if change.literal else "")
    named = isinstance(implementation, str) and re.fullmatch(r"[\w.]+:[\w.]+", implementation)
    kinds = {
        "register_model": "model",
        "register_quantization_config": "quantization",
        "register_backend": "attention_backend",
    }
    if change.function in kinds and named and key:
        return f"{kinds[change.function]}({key}, {implementation!r})", ""
    if change.function == "register_oot" and named and change.there == CLASS:
        return f"subclass({change.target!r}, {implementation!r})", ""
    module = change.target.partition(":")[0]
    return (
        "",
        f"write functions that call {change.function} and take it back, for overlay.call({module!r}, do=..., undo=...)",
    )


def _module(change: Change) -> tuple[str, str]:
    if not change.adds or not change.name or ":" in change.name:
        return (
            "",
            "it hides a module, or is made when it runs; overlay.module_alias serves a module that is not there",
        )
    return f"module_alias({change.target!r}, {change.name!r})", ""


_MAKERS: dict[str, Callable[[Change], tuple[str, str]]] = {
    "attribute": _attribute,
    "wrap": _attribute,
    "remove": _remove,
    "item": _item,
    "entry": _entry,
    "member": _member,
    "registration": _registration,
    "module": _module,
    "mock": lambda change: ("", "it is taken back when a block is left: ascend_overlay.enabled() does that"),
    "file": lambda change: ("", "it rewrites a file: overlay.edit changes lines of a function, in memory"),
}


def _literal(source: str) -> bool:
    try:
        ast.literal_eval(source)
    except (ValueError, SyntaxError):
        return False
    return True


def _name(target: str, key: str, taken: set[str]) -> str:
    """Return a name for the overlay, which nobody has yet."""
    module, _, path = target.partition(":")
    words = [*(path.split(".") or [""]), key] if key else [module.rpartition(".")[2], *path.split(".")]
    text = re.sub(r"[^A-Za-z0-9]+", "_", "_".join(words))
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).lower().strip("_")
    text = re.sub(r"_+", "_", text)[:60].rstrip("_")
    text = text if text[:1].isalpha() else f"patch_{text}"
    text = f"{text}_overlay" if text in _RESERVED else text
    unique = next(each for each in (text, *(f"{text}_{count}" for count in range(2, 10_000))) if each not in taken)
    taken.add(unique)
    return unique


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _change(verdict: Verdict, releases: Sequence[Release], latest: Judged | None) -> Change:
    finding = verdict.finding
    replacement = finding.replacement
    local = replacement.local if replacement is not None else None
    target, there = verdict.target, _shape(verdict.node)
    name = replacement.name if replacement is not None else ""
    if replacement is not None and not name and replacement.outside is not None and latest is not None:
        found = latest.target(replacement.outside)
        home = found.home if found.path or finding.kind == "module" else ""
        name = home if found.state != GONE and "[" not in home else ""
    lost, vllm = _range(verdict, releases)
    if finding.function == "register_oot" and latest is not None:
        home = latest.layer(ast.literal_eval(finding.key) if finding.key else (local.path[-1] if local else ""))
        target, there = (home, CLASS) if home else (target, "")
        lost = lost or ("" if home else "its key is the name of no layer")
    return Change(
        target,
        finding.kind,
        str(finding.place),
        name,
        replacement.literal if replacement is not None else "",
        replacement.text if replacement is not None else "",
        CLASS
        if local is not None and isinstance(local.node, ast.ClassDef)
        else FUNCTION
        if local is not None
        else VALUE,
        there,
        local is not None and isinstance(local.node, ast.ClassDef) and _derives(local, finding.target),
        replacement is not None and _fits(replacement.literal, verdict.node),
        verdict.adds,
        finding.key,
        finding.function,
        verdict.handled,
        lost,
        vllm,
        finding.conditions,
    )


def _fits(literal: str, node: ast.stmt | None) -> bool:
    there = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
    if not literal or not isinstance(there, ast.Constant):
        return False
    return type(ast.literal_eval(literal)) is type(there.value)


def _shape(node: ast.stmt | None) -> str:
    if isinstance(node, ast.ClassDef):
        return CLASS
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return FUNCTION
    return VALUE if node is not None else ""


def _derives(cls: Local, target: Outside) -> bool:
    """Tell whether a base of a class is the target, by the name that it is imported by."""
    node = cls.node
    assert isinstance(node, ast.ClassDef)
    outer: Scope = cls.scope.parent or cls.scope
    for base in node.bases:
        path = dotted(base)
        for value in outer.get(path[0]) if path else ():
            if isinstance(value, Outside) and (*value.parts, *path[1:])[-1] == target.parts[-1]:
                return True
            if isinstance(value, Local) and isinstance(value.node, ast.ClassDef) and value.node is not node:
                found = _derives(value, target)
                if found:
                    return True
    return False


def _range(verdict: Verdict, releases: Sequence[Release]) -> tuple[str, str]:
    """Return why no release will do, and the range of those that do."""
    bad = {
        label
        for fault in verdict.faults
        if fault.kind in ("dead", "key") and fault.level == WRONG
        for label in fault.releases
    }
    good = [each for each in releases if each.label not in bad]
    if not good:
        first = next(fault.text for fault in verdict.faults if fault.kind in ("dead", "key"))
        return first.rstrip("."), ""
    versions = sorted(_versions(good))
    if not versions:
        return "", ""
    between = [each for each in _versions(releases) if versions[0] < each < versions[-1] and each not in versions]
    outside = "".join(f",!={each}" for each in sorted(between))
    return "", f">={versions[0]},<={versions[-1]}{outside}"


def _versions(releases: Iterable[Release]) -> Iterator[Version]:
    for each in releases:
        try:
            yield Version(Version(each.version).public)
        except InvalidVersion:
            continue
