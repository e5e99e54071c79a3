"""Modules of one package in a tree, and all others where this process finds them."""

from __future__ import annotations

from ascend_overlay.source.folders import Found
from ascend_overlay.source.modules import HERE, Finder, Missing, Tree


class Beside:
    """Finds the packages of some trees there, and whatever else elsewhere.

    Args:
        trees: the trees, each of one package.
        rest: who knows where all other modules are.
    """

    def __init__(self, *trees: Tree, rest: Finder = HERE) -> None:
        self._trees = {tree.package: tree for tree in trees}
        self._rest = rest
        self._found: dict[str, Found | Missing] = {}

    def find(self, module: str) -> Found | Missing:
        """Return where `module` is."""
        tree = self._trees.get(module.partition(".")[0])
        if tree is not None:
            return tree.find(module)
        # Nothing changes while a command reads.
        if module not in self._found:
            self._found[module] = self._rest.find(module)
        return self._found[module]

    def modules(self) -> list[str]:
        """Return the names of all modules in the trees."""
        return [module for tree in self._trees.values() for module in tree.modules()]
