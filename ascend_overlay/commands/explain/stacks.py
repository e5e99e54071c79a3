"""The patches on a target, from the outermost to the innermost, as they are planned or as a ledger has them."""

from __future__ import annotations

import graphlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ascend_overlay.commands.explain.asked import Asked
from ascend_overlay.commands.planned import Planned
from ascend_overlay.ledgers import Entry
from ascend_overlay.source.definitions import at_home
from ascend_overlay.source.sources import Sources

_WRAPPERS = ("wrap", "priority")
_IN_THE_CODE = ("edit",)
_NEIGHBOUR = re.compile(r"(around|inside) overlay '(\w+)'")


@dataclass(frozen=True)
class Stacks:
    """What has to do with what is asked about.

    Attributes:
        on_it: the patches of each target, the outermost first; of one target, or of all of a tree.
        above: those on a class that the target is a member of, or inherits it from.
        inside: those on members of the target.
        related: those that name it without being on it: a model class that is registered under its name.
    """

    on_it: dict[str, list[Entry]] = field(default_factory=dict)
    above: list[Entry] = field(default_factory=list)
    inside: list[Entry] = field(default_factory=list)
    related: list[Entry] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether nothing has to do with it."""
        return not (self.on_it or self.above or self.inside or self.related)


class Names:
    """Targets as they are written, and where they are at home."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._homes: dict[str, str] = {}

    def home(self, target: str) -> str:
        """Return a target where it is defined; what is no place is its own home."""
        if ":" not in target:
            return target
        if target not in self._homes:
            self._homes[target] = at_home(target, self._sources)
        return self._homes[target]


def of(asked: Asked, entries: Iterable[Entry], names: Names) -> Stacks:
    """Return the stacks of what is asked about; `entries` are in their order, the outermost first."""
    found = Stacks()
    if asked.is_tree:
        for entry in entries:
            module = entry.target.partition(":")[0]
            if f"{module}.".startswith(f"{asked.module}."):
                found.on_it.setdefault(entry.target, []).append(entry)
        return found
    wanted = asked.home or asked.text
    served = (asked.alias, "module alias")
    # Only what shares a name with it may be it by another way: to see that, sources are read.
    inherited = asked.original.inherited if asked.original is not None else ""
    words = {*asked.path, *wanted.partition(":")[2].split("."), *inherited.partition(":")[2].split(".")}
    for entry in entries:
        target = entry.target
        if target in (wanted, asked.text):
            found.on_it.setdefault(wanted, []).append(entry)
        elif (target, entry.kind) == served:
            found.related.append(entry)
        elif ":" not in target:
            if target in words and entry.kind != "module alias":
                found.related.append(entry)
        elif target.partition(":")[2].partition(".")[0] in words:
            _sort_in(found, entry, names.home(target), wanted, asked)
    return found


def _sort_in(found: Stacks, entry: Entry, home: str, wanted: str, asked: Asked) -> None:
    inherited = asked.original.inherited if asked.original is not None else ""
    bases = {inherited, f"{inherited}.{asked.path[-1]}"} if inherited and asked.path else set()
    if home == wanted:
        found.on_it.setdefault(wanted, []).append(entry)
    elif f"{wanted}.".startswith(f"{home}.") or home in bases:
        found.above.append(entry)
    elif home.startswith(f"{wanted}."):
        found.inside.append(entry)


def planned_order(patches: Iterable[Planned]) -> list[Entry]:
    """Return the entries of planned patches, of one target the outermost first, by the declared order."""
    numbered = list(enumerate(patches))
    numbered.sort(key=lambda each: (_layer(each[1].entry), each[1].rank, each[0]), reverse=True)
    return [each.entry for _, each in numbered]


def recorded_order(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries of a ledger, the outermost first, by what they note of one another."""
    layers = sorted(entries, key=_layer)
    sorter: graphlib.TopologicalSorter[int] = graphlib.TopologicalSorter(dict.fromkeys(range(len(layers)), ()))
    for index, entry in enumerate(layers):
        for note in entry.notes:
            if (match := _NEIGHBOUR.match(note)) is None or match[2] == entry.overlay:
                continue
            for other, neighbour in enumerate(layers):
                if neighbour.overlay == match[2] and neighbour.kind in _WRAPPERS and _tail(neighbour) == _tail(entry):
                    sorter.add(*((index, other) if match[1] == "around" else (other, index)))
    try:
        inside_out = _stable(sorter)
    except graphlib.CycleError:
        # Anybody may have written the file.
        inside_out = list(range(len(layers)))
    return [layers[index] for index in sorted(inside_out, key=lambda index: _layer(layers[index]))[::-1]]


def _tail(entry: Entry) -> str:
    # Two overlays may name one target by different modules.
    return entry.target.rpartition(":")[2]


def _stable(sorter: graphlib.TopologicalSorter[int]) -> list[int]:
    sorter.prepare()
    order: list[int] = []
    ready: list[int] = []
    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()])
        order.append(ready.pop(0))
        sorter.done(order[-1])
    return order


def _layer(entry: Entry) -> int:
    """Return how far out a patch of a kind lies: in the code, in the place, around it."""
    if entry.kind in _IN_THE_CODE:
        return 0
    return 2 if entry.kind in _WRAPPERS else 1
