"""Any Python package, read for what it takes from another."""

from __future__ import annotations

from dataclasses import dataclass

from ascend_overlay.couplings.reading import uses
from ascend_overlay.couplings.uses import Use
from ascend_overlay.scans.package import Package
from ascend_overlay.source.atlas import Atlas
from ascend_overlay.source.beside import Beside
from ascend_overlay.source.folders import Found
from ascend_overlay.source.module import Module
from ascend_overlay.source.modules import Finder, Missing, Tree
from ascend_overlay.source.sources import Sources


class Here(Sources):
    """A package that was opened, from wherever it comes, and others that a finder knows.

    Args:
        package: the package.
        finder: knows all other modules.
        trees: see Sources.
    """

    def __init__(self, package: Package, finder: Finder, trees: object = None) -> None:
        super().__init__(_Beside(package, finder), trees=trees)  # type: ignore[arg-type]
        self._package = package

    def text(self, module: str) -> str | None:
        """Return the source of `module`."""
        if module in self._package.names:
            found = self._package.module(module)
            return found.text if found is not None else None
        return super().text(module)

    def module(self, module: str) -> Module | None:
        """Return `module`, parsed."""
        return self._package.module(module) if module in self._package.names else super().module(module)


class _Beside:
    def __init__(self, package: Package, finder: Finder) -> None:
        self._package, self._finder = package, finder
        self._packages = {name.rpartition(".")[0] for name in package.names}

    def find(self, module: str) -> Found | Missing:
        if module in self._package.names:
            return Found(self._package.file(module), () if module in self._packages else None)
        if module.partition(".")[0] in self._package.tops:
            return Missing(module, module, None)
        return self._finder.find(module)

    def modules(self) -> list[str]:
        return self._finder.modules()  # type: ignore[attr-defined, no-any-return]


@dataclass(frozen=True)
class Couplings:
    """What a package takes from another.

    Attributes:
        uses: all of it, in the order of modules and lines.
        read: how many modules mention the other package.
    """

    uses: tuple[Use, ...]
    read: int


def atlas(package: Package, tree: Tree, trees: object = None) -> Atlas:
    """Return what there is with a package and a state of the one that it takes from."""
    return Atlas(Here(package, Beside(tree), trees), tree.package)


def couplings(package: Package, world: Atlas, *, of: str) -> Couplings:
    """Return what `package` takes from the package `of`, as far as `world` tells what there is."""
    found: list[Use] = []
    read = 0
    for name in sorted(package.names):
        if name.partition(".")[0] == of or not package.speaks_of(name, of):
            continue
        module = package.module(name)
        if module is not None:
            read += 1
            try:
                found += uses(module, world, of=of)
            except RecursionError:
                package.lost.add(name)
                package.unread.append(f"{module.file} is not read: it is nested deeper than can be followed.")
    return Couplings(tuple(found), read)
