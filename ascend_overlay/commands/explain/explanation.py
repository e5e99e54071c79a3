"""What there is to say of a target: its original, who has copies, and the patches on it, planned or recorded."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ascend_overlay import versions
from ascend_overlay.commands.explain import stacks
from ascend_overlay.commands.explain.asked import Asked, asked
from ascend_overlay.commands.explain.holders import holders
from ascend_overlay.commands.explain.stacks import Names, Stacks
from ascend_overlay.commands.folder import ledgers_of
from ascend_overlay.commands.planned import planned
from ascend_overlay.errors import TargetError
from ascend_overlay.ledgers import Entry, Ledger
from ascend_overlay.patches.aliases import ModuleAlias
from ascend_overlay.releases import Release
from ascend_overlay.settings import Settings
from ascend_overlay.source.beside import Beside
from ascend_overlay.source.folders import Found
from ascend_overlay.source.modules import Tree
from ascend_overlay.source.sources import Sources

_NEAREST = 5


@dataclass(frozen=True)
class View:
    """The stacks as one process has them, or as they are planned.

    Attributes:
        process: what the ledger says of the process; None where nothing runs.
        stacks: what has to do with what is asked about.
    """

    process: dict[str, Any] | None
    stacks: Stacks


@dataclass(frozen=True)
class Place:
    """A target in a tree.

    Attributes:
        asked: the target; None where there is none in the source.
        missing: why there is none; "" where there is one.
        holders: the modules that import it by name.
    """

    asked: Asked | None
    missing: str
    holders: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        original = self.asked.original if self.asked is not None else None
        return {
            "target": self.asked.home if self.asked is not None else None,
            "original": None if original is None else asdict(original),
            "missing": self.missing or None,
            "imported_by": list(self.holders),
        }


@dataclass(frozen=True)
class Explanation:
    """What there is to say.

    Attributes:
        asked: what is asked about.
        vllm: the release whose source was read; None where there is none.
        views: the plan alone, or one for each process.
        holders: the modules that import the target by name.
        places: of a tree, each target in it that has a patch: where it is at home, and who imports it by name.
        release: the vLLM that all of it is told for; None: the installed one.
        nearest: targets with patches that are near, where this one has none.
    """

    asked: Asked
    vllm: str | None
    views: Sequence[View]
    holders: Sequence[str]
    nearest: Sequence[str]
    places: Mapping[str, Place]
    release: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        original = self.asked.original
        return {
            "asked": self.asked.text,
            "target": self.asked.home,
            "tree": self.asked.is_tree,
            "imported_by_way_of": self.asked.by_way_of or None,
            "served_by_alias": self.asked.alias or None,
            "original": None if original is None else asdict(original),
            "vllm": self.vllm,
            "imported_by": list(self.holders),
            "views": [_view(view) for view in self.views],
            "nearest": list(self.nearest),
            "places": {target: place.to_dict() for target, place in sorted(self.places.items())},
            "as_if_installed": self.release,
        }


def explain(
    text: str,
    settings: Settings,
    folder: Path | None,
    tell: Callable[[str], object],
    release: Release | None = None,
) -> Explanation:
    """Return what there is to say of the target `text`.

    Args:
        text: the target, or a module or package.
        settings: what would be enabled.
        folder: the ledgers of a run; None: what would be.
        tell: is given a sentence on each file of the folder that is no ledger.
        release: the vLLM whose source is read, and for which it is judged what would be; None: the installed one.

    Raises:
        OverlayError: there is no such target, or what would be enabled cannot be told.
    """
    sources = Sources() if release is None else Sources(Beside(release.tree))
    with contextlib.nullcontext() if release is None else versions.assumed(release.package, release.version):
        _, patches = planned(settings)
    ledgers = [] if folder is None else ledgers_of(folder, tell)
    entries = [entry for ledger in ledgers for entry in ledger] or [each.entry for each in patches]
    # What a process had patched is found by its name also where it is not installed here.
    known = {entry.target for entry in (*entries, *(each.entry for each in patches)) if entry.overlay}
    aliases = {each.patch.target: each.patch.implementation for each in patches if isinstance(each.patch, ModuleAlias)}
    registered = {target for target in known if ":" not in target} - _modules(entries)
    found = _asked(text, sources, registered, aliases, release)
    names = Names(sources)
    if folder is None:
        views = [View(None, stacks.of(found, stacks.planned_order(patches), names))]
    else:
        views = [View(ledger.process, stacks.of(found, _recorded(ledger), names)) for ledger in ledgers]
    bare = all(view.stacks.is_empty for view in views)
    targets = {target for view in views for target in view.stacks.on_it} if found.is_tree else set()
    return Explanation(
        asked=found,
        vllm=versions.installed("vllm") if release is None else release.version,
        views=views,
        holders=_holders([found], sources).get(found.home, []),
        nearest=_nearest(found, [entry.target for entry in entries if entry.overlay]) if bare else [],
        places=_places(targets, sources, registered, aliases),
        release=None if release is None else release.version,
    )


def _asked(
    text: str, sources: Sources, names: Collection[str], aliases: Mapping[str, str], release: Release | None
) -> Asked:
    try:
        return asked(text, sources, names=names, aliases=aliases)
    except TargetError as error:
        if release is None:
            raise
        raise TargetError(f"in {release.package} {release.version}, {error}") from error


def _places(
    targets: Iterable[str], sources: Sources, names: Collection[str], aliases: Mapping[str, str]
) -> dict[str, Place]:
    """Return where each target of a tree is."""
    places: dict[str, Place] = {}
    for target in targets:
        try:
            places[target] = Place(asked(target, sources, names=names, aliases=aliases), "")
        except TargetError as error:
            places[target] = Place(None, str(error))
    holding = _holders([place.asked for place in places.values() if place.asked is not None], sources)
    return {
        target: replace(place, holders=holding.get(place.asked.home, ()) if place.asked is not None else ())
        for target, place in places.items()
    }


def _recorded(ledger: Ledger) -> list[Entry]:
    by_name: dict[str, list[Entry]] = {}
    for entry in ledger:
        if entry.overlay:
            by_name.setdefault(entry.target.rpartition(":")[2], []).append(entry)
    return [entry for entries in by_name.values() for entry in stacks.recorded_order(entries)]


def _modules(entries: Iterable[Entry]) -> set[str]:
    return {entry.target for entry in entries if entry.kind in ("module alias", "call")}


def _holders(every: Iterable[Asked], sources: Sources) -> dict[str, list[str]]:
    """Return who imports each target by name, in the package that it belongs to."""
    homes: dict[str, set[str]] = {}
    for found in every:
        # Of a member of a class nobody has a copy that an import makes.
        if found.path and ":" in found.home and "." not in found.home.partition(":")[2]:
            homes.setdefault(found.home.partition(".")[0].partition(":")[0], set()).add(found.home)
    holding: dict[str, list[str]] = {}
    for name, wanted in homes.items():
        package = sources.finder.find(name)
        if isinstance(package, Found) and package.search:
            holding |= holders(wanted, sources, Tree(Path(package.search[0]), name))
    return holding


def _nearest(found: Asked, targets: Sequence[str]) -> list[str]:
    """Return the patched targets that are near: of its class and module, of a like name, of its package."""
    unique = list(dict.fromkeys(targets))
    module, _, name = found.home.partition(":")
    beside = [target for target in unique if name and target.partition(":")[0] == module]
    alike = difflib.get_close_matches(found.home, unique, n=_NEAREST, cutoff=0.6)
    tails = {target: target.rpartition(":")[2] for target in unique}
    close = difflib.get_close_matches(name, list(tails.values()), n=_NEAREST, cutoff=0.75) if name else []
    same = [target for target in unique if tails[target] in close]
    near = list(dict.fromkeys([*beside, *same, *alike]))
    while not near and "." in module:
        module = module.rpartition(".")[0]
        near = [target for target in unique if target.startswith(f"{module}.")]
    return near[:_NEAREST]


def _view(view: View) -> dict[str, Any]:
    found = view.stacks
    return {
        "process": view.process,
        "stacks": {target: [_entry(entry) for entry in entries] for target, entries in sorted(found.on_it.items())},
        "on_its_class": [_entry(entry) for entry in found.above],
        "on_its_members": [_entry(entry) for entry in found.inside],
        "by_its_name": [_entry(entry) for entry in found.related],
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {**asdict(entry), "foreign": entry.foreign()}
