"""What a name is in the source of a release, and how that differs from what a lock has of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, Protocol

from ascend_overlay.lockfile import ABSENT, ATTRIBUTE, MODULE, UNKNOWN, Locked, LockedRelease

if TYPE_CHECKING:
    from ascend_overlay.releases import Release
    from ascend_overlay.source.module import Module
    from ascend_overlay.source.sources import Sources
    from ascend_overlay.source.statements import Function


class Named(Protocol):
    """Whatever has a target, such as a patch."""

    @property
    def target(self) -> str:
        """What it changes: "package.module:Qualified.name", or another text, which has no source."""


def locked(patches: Iterable[Named], release: Release) -> dict[str, Locked]:
    """Return what the targets of `patches` are in a release, as far as they are in its package."""
    targets = dict.fromkeys(patch.target for patch in patches)
    return {target: found for target in targets if (found := look(release.sources, target, release.package))}


def look(sources: Sources, target: str, package: str = "vllm") -> Locked | None:
    """Return what "module:Qualified.name" or a module is, by its source; None where it is none of `package`."""
    module, colon, qualified = target.partition(":")
    path = tuple(qualified.split(".")) if colon else ()
    if module.partition(".")[0] != package or not all(map(str.isidentifier, (*module.split("."), *path))):
        return None
    if not path:
        from ascend_overlay.source.modules import exists

        return Locked("", kind=MODULE if exists(module, sources.finder) else ABSENT)
    from ascend_overlay.source.definitions import Absent, Definition, definition

    found = definition(sources, module, path)
    if isinstance(found, Definition):
        return _defined(found.node, inside=len(found.path) > 1)
    if isinstance(found, Absent):
        return _on_objects(sources, target, package) or Locked("", kind=ABSENT)
    return _uncertain(sources, module, path[0])


def difference(before: Locked | None, now: Locked) -> str | None:
    """Return how what is here differs from what was locked, as a phrase; None where it does not."""
    if before is None:
        return "is not in the lock"
    if now.kind == ABSENT != before.kind:
        return "is gone"
    if before.kind == ABSENT != now.kind:
        return "is there, and was not"
    if now.kind != before.kind:
        return f"is of the kind {now.kind!r}, and was {before.kind!r}"
    if now.signature != before.signature:
        return f"is called as {now.signature}, and was as {before.signature}"
    return "has another body" if now.fingerprint != before.fingerprint else None


def changes(
    release: LockedRelease, targets: Iterable[str], overlay: str, look_at: Callable[[str], Locked | None]
) -> Iterator[tuple[str, str]]:
    """Yield what of `targets`, and of what `overlay` leans on, is not as a lock has it of a release, and how.

    Args:
        release: what the lock has.
        targets: those of the patches of the overlay.
        overlay: its name.
        look_at: returns what a name is now; None where it is none of the package.
    """
    for target in dict.fromkeys(targets):
        if (now := look_at(target)) and (why := difference(release.targets.get(target), now)):
            yield target, why
    for name, before in release.leans_on.items():
        if overlay in before.by and (now := look_at(name)) and (why := difference(before, now)):
            yield name, why


def asked_for(targets: Iterable[str], release: LockedRelease, *, own: bool) -> tuple[list[str], bool]:
    """Return which targets of an overlay a lock is asked for, and whether that is less than all.

    Whoever locks may lock his own overlays alone: then the library's own, for whose releases it answers itself, are not
    asked for.

    Args:
        targets: those of the patches of the overlay.
        release: what the lock has.
        own: the overlay is one of the library's own.
    """
    every = list(dict.fromkeys(targets))
    found = [target for target in every if not own or target in release.targets]
    return found, len(found) < len(every)


def stranger(distribution: str, version: str, plugins: Mapping[str, str], *, own: bool = False) -> str | None:
    """Return why a plugin is not one that a lock has; None for one that it has, or that no distribution brought.

    Args:
        distribution: which one brought the plugin; "" for none.
        version: its version.
        plugins: what the lock has: distribution -> version.
        own: it is the library itself, which a lock need not have.
    """
    from packaging.utils import canonicalize_name

    if not distribution:
        return None
    known = {canonicalize_name(name): number for name, number in plugins.items()}
    number = known.get(canonicalize_name(distribution))
    if number is None:
        return None if own else f"the lock has no plugin of {distribution}"
    if number == version:
        return None
    return f"the lock has {distribution} {number}, and {version} is installed"


def _defined(node: Any, *, inside: bool) -> Locked:
    import ast

    from ascend_overlay.source.fingerprints import fingerprint
    from ascend_overlay.source.signatures import binding_of

    if isinstance(node, ast.ClassDef):
        init = next((each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"), None)
        return Locked(fingerprint(node), _signature(init) if init else "", "class")
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        how = binding_of(node) or "decorated"
        return Locked(fingerprint(node), _signature(node), "function" if how == "method" and not inside else how)
    return Locked(fingerprint(node), kind="import" if isinstance(node, (ast.Import, ast.ImportFrom)) else "value")


def _on_objects(sources: Sources, target: str, package: str) -> Locked | None:
    """Return what the objects of a class have and the class itself has not: what it declares, what methods set."""
    from ascend_overlay.source.atlas import Atlas, Thing

    found = Atlas(sources, package).look(target)
    if not isinstance(found, Thing) or not found.nodes:
        return None
    return Locked("", kind=ATTRIBUTE)


def _uncertain(sources: Sources, module: str, name: str) -> Locked:
    """Return the fingerprint of all that may decide a name: the statements that bind it, or its whole module."""
    from ascend_overlay.source.modules import exists

    if not exists(module, sources.finder):
        return Locked("", kind=ABSENT)
    home, first = sources.origin(module, name)
    source: Module | None = sources.module(home)
    if source is None:
        # What has no Python source is compiled: that it is there is all that can be said.
        return Locked("", kind=UNKNOWN)
    import ast

    from ascend_overlay.source.fingerprints import fingerprint

    nodes = [binding.node for binding in source.names.get(first, ())]
    return Locked(fingerprint(ast.Module(nodes, []) if nodes else source.tree), kind=UNKNOWN)


def _signature(function: Function) -> str:
    from ascend_overlay.source.signatures import signature

    full = signature(function)
    plain = [each.replace(annotation=Parameter.empty) for each in full.parameters.values()]
    return str(full.replace(parameters=plain, return_annotation=Signature.empty))
