"""What a history plays in: modules, the overlays that patch them, and how one sees what they do."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Probe:
    """One way to use a target, through one holder of it.

    Attributes:
        held: expression for the function, class or value that the user holds.
        use: what is done with it, written behind it.
        targets: the targets whose patches must show.
        words: how the ledger may name the holder where it says that it is stale.
    """

    held: str
    use: str
    targets: tuple[str, ...]
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """A place that a program may change by hand.

    Attributes:
        owner: expression for the module, class or mapping.
        name: attribute or key.
        sort: "function", "method", "static", "property", "value", "item" or "class".
    """

    owner: str
    name: str
    sort: str


@dataclass(frozen=True)
class Scene:
    """Everything that a history needs to know of the place it plays in.

    Attributes:
        name: what it is called.
        modules: short name -> full name of the modules that the history may import.
        files: what is written to the folder of the history: path -> text.
        plugin: the module that contributes the overlays.
        overlays: name -> targets of its patches -> whether the patch decides the target. In the order of their ranks.
        faulty: overlays that cannot be applied.
        probes: how the targets are used; the first of a target is the target itself.
        places: what the program changes by hand.
        copied: expressions of which copies are made.
        reloaded: short names of the modules that may be reloaded or forgotten.
        package: the package whose modules are all watched, where that is more than `modules`.
        aliases: overlay -> the name of a module that only it serves.
    """

    name: str
    modules: Mapping[str, str]
    files: Mapping[str, str]
    plugin: str
    overlays: Mapping[str, Mapping[str, bool]]
    probes: Sequence[Probe]
    places: Mapping[str, Place]
    copied: Sequence[str]
    reloaded: Sequence[str] = ()
    faulty: frozenset[str] = frozenset()
    aliases: Mapping[str, str] = field(default_factory=dict)
    package: str = ""

    def watched(self) -> list[str]:
        """Return the names of the loaded modules in which nothing may be left behind."""
        inside = tuple(name for name in sys.modules if self.package and f"{name}.".startswith(f"{self.package}."))
        return [name for name in {*self.modules.values(), *inside} if name in sys.modules]

    def rank(self, overlay: str) -> int:
        """Return the order of an overlay's wrappers: the higher, the further out."""
        return list(self.overlays).index(overlay)

    def primary(self, target: str) -> Probe:
        """Return the probe that is the target itself."""
        return next(probe for probe in self.probes if target in probe.targets)


WRAPS, DECIDES = False, True
