"""Two states of a package `vllm`, and a package `mine` that takes things from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ascend_overlay.couplings.comparison import Comparison
from ascend_overlay.couplings.findings import Finding
from ascend_overlay.couplings.judging import judge
from ascend_overlay.couplings.reading import uses
from ascend_overlay.couplings.uses import Use
from ascend_overlay.source.atlas import Atlas
from ascend_overlay.source.beside import Beside
from ascend_overlay.source.modules import Tree
from ascend_overlay.source.sources import Sources

Files = Mapping[str, str]
"""Path in a package -> source."""


def written(folder: Path, files: Files) -> Path:
    """Write a package, and return its folder."""
    for name, text in {"__init__.py": "", **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for above in path.relative_to(folder).parents:
            (folder / above / "__init__.py").touch()
        path.write_text(text)
    return folder


class World:
    """Writes packages, and reads them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def tree(self, state: str, files: Files, package: str = "vllm") -> Tree:
        """Return one state of a package."""
        return Tree(written(self._folder / state / package, files), package)

    def atlas(self, state: str, files: Files, mine: Files | None = None) -> Atlas:
        """Return all that there is in one state of vllm."""
        trees = [self.tree(state, files)]
        if mine is not None:
            trees.append(self.tree("mine", mine, "mine"))
        return Atlas(Sources(Beside(*trees)), "vllm")

    def uses(self, old: Files, mine: str) -> list[Use]:
        """Return what the module `mine.patches` takes."""
        atlas = self.atlas("old", old, {"patches.py": mine})
        module = atlas.sources.module("mine.patches")
        assert module is not None, "the source parses"
        return uses(module, atlas, of="vllm")

    def findings(self, old: Files, new: Files, mine: str, *, earlier: bool = False) -> list[Finding]:
        """Return what became of what `mine.patches` takes; `earlier`: the state `new` came before `old`."""
        ours = {"patches.py": mine}
        compared = Comparison(self.atlas("old", old, ours), self.atlas("new", new, ours), earlier=earlier)
        return [judge(use, compared) for use in self.uses(old, mine)]
