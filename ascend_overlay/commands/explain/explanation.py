"""What there is to say of a target: its original, who has copies, and the patches on it, planned or recorded."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ascend_overlay import versions
from ascend_overlay.commands.explain import stacks
from ascend_overlay.commands.explain.asked import Asked, asked
from ascend_overlay.commands.explain.holders import holders
from ascend_overlay.commands.explain.stacks import Names, Stacks
from ascend_overlay.commands.folder import ledgers_of
from ascend_overlay.commands.planned import planned
from ascend_overlay.ledgers import Entry, Ledger
from ascend_overlay.patches.aliases import ModuleAlias
from ascend_overlay.settings import Settings
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
class Explanation:
    """What there is to say.

    Attributes:
        asked: what is asked about.
        vllm: the release whose source was read; None where there is none.
        views: the plan alone, or one for each process.
        holders: the modules that import the target by name.
        nearest: targets with patches that are near, where this one has none.
    """

    asked: Asked
    vllm: str | None
    views: Sequence[View]
    holders: Sequence[str]
    nearest: Sequence[str]

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
        }


def explain(text: str, settings: Settings, folder: Path | None, tell: Callable[[str], object]) -> Explanation:
    """Return what there is to say of the target `text`.

    Args:
        text: the target, or a module or package.
        settings: what would be enabled.
        folder: the ledgers of a run; None: what would be.
        tell: is given a sentence on each file of the folder that is no ledger.

    Raises:
        OverlayError: there is no such target, or what would be enabled cannot be told.
    """
    sources = Sources()
    _, patches = planned(settings)
    ledgers = [] if folder is None else ledgers_of(folder, tell)
    entries = [entry for ledger in ledgers for entry in ledger] or [each.entry for each in patches]
    # What a process had patched is found by its name also where it is not installed here.
    known = {entry.target for entry in (*entries, *(each.entry for each in patches)) if entry.overlay}
    aliases = {each.patch.target: each.patch.implementation for each in patches if isinstance(each.patch, ModuleAlias)}
    registered = {target for target in known if ":" not in target} - _modules(entries)
    found = asked(text, sources, names=registered, aliases=aliases)
    names = Names(sources)
    if folder is None:
        views = [View(None, stacks.of(found, stacks.planned_order(patches), names))]
    else:
        views = [View(ledger.process, stacks.of(found, _recorded(ledger), names)) for ledger in ledgers]
    bare = all(view.stacks.is_empty for view in views)
    return Explanation(
        asked=found,
        vllm=versions.installed("vllm"),
        views=views,
        holders=_holders(found, sources),
        nearest=_nearest(found, [entry.target for entry in entries if entry.overlay]) if bare else [],
    )


def _recorded(ledger: Ledger) -> list[Entry]:
    by_name: dict[str, list[Entry]] = {}
    for entry in ledger:
        if entry.overlay:
            by_name.setdefault(entry.target.rpartition(":")[2], []).append(entry)
    return [entry for entries in by_name.values() for entry in stacks.recorded_order(entries)]


def _modules(entries: Iterable[Entry]) -> set[str]:
    return {entry.target for entry in entries if entry.kind in ("module alias", "call")}


def _holders(found: Asked, sources: Sources) -> list[str]:
    """Return who imports the target by name, in the package that it belongs to."""
    if not found.path or ":" not in found.home:
        return []
    module, _, qualified = found.home.partition(":")
    package = sources.finder.find(module.partition(".")[0])
    # Of a member of a class nobody has a copy that an import makes.
    if "." in qualified or not isinstance(package, Found) or not package.search:
        return []
    return holders(module, qualified, sources, Tree(Path(package.search[0]), module.partition(".")[0]))


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
