"""Patches that implementations make by hand in ways that no assignment spells: by vars(), in loops over tables."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from inspect import Signature

from ascend_overlay.couplings.uses import Use
from ascend_overlay.scans.finding import POSSIBLE
from ascend_overlay.scans.package import Package
from ascend_overlay.scans.reading import read
from ascend_overlay.scans.values import Local, Outside
from ascend_overlay.source.atlas import Atlas, Thing
from ascend_overlay.source.module import Module
from ascend_overlay.source.signatures import changed_by_decorators, signature

_WAYS = ("setattr", "vars(", "__dict__", "sys.modules")
"""What the source of one that is not spelled as an assignment has."""


def patches(modules: Iterable[Module], atlas: Atlas, *, of: str) -> list[Use]:
    """Return the attributes of the package `of` that `modules`, which are read together, put something in place of."""
    files = {module.name: (module.file, module.text.encode("utf-8", "surrogatepass")) for module in modules}
    if not any(way.encode() in text for _, text in files.values() for way in _WAYS):
        return []
    return list(_uses(Package(of, files), atlas, of))


def _uses(package: Package, atlas: Atlas, of: str) -> Iterator[Use]:
    for found in read(package, of).findings:
        label = _label(found.target, atlas)
        if found.kind not in ("attribute", "wrap") or found.sure == POSSIBLE or label is None:
            continue
        if atlas.look(label) is None:
            # Whether it is anything of the package nobody can tell.
            continue
        local = found.replacement.local if found.replacement is not None else None
        offers = _signature(local, atlas) if local is not None else None
        by = f"{found.module}:{found.within}" if found.within else found.module
        yield Use("patch", label, by, found.place.file, found.place.line, offers=offers)


def _label(way: Outside, atlas: Atlas) -> str | None:
    """Return "module:Name" of the way to something."""
    for count in range(len(way.parts) - 1, 0, -1):
        found = atlas.look(".".join(way.parts[:count]))
        if isinstance(found, Thing) and found.kind == "module":
            rest = way.parts[count:]
            return f"{found.home}:{'.'.join(rest)}" if all(part.isidentifier() for part in rest) else None
    return None


def _signature(local: Local, atlas: Atlas) -> Signature | None:
    node = local.node
    if isinstance(node, ast.ClassDef):
        return None
    if isinstance(node, ast.Lambda):
        return signature(ast.FunctionDef("", node.args, [], [], None))
    thing = atlas.look(local.name) if local.name else None
    return None if isinstance(thing, Thing) and changed_by_decorators(thing) else signature(node)
