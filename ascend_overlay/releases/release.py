"""A release of a package: a folder of source, and how to read it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from ascend_overlay.errors import TargetError
from ascend_overlay.source.modules import Missing, Tree
from ascend_overlay.source.sources import Sources


@dataclass(frozen=True)
class Release:
    """The source of one release of a package.

    Attributes:
        label: what people call it: what they asked for.
        version: its version; "" where nothing tells.
        folder: the folder of the package itself.
        package: the name by which it is imported.
    """

    label: str
    version: str
    folder: Path
    package: str = "vllm"

    @functools.cached_property
    def tree(self) -> Tree:
        """Its modules, found in the folder. A source distribution has none of those that a build makes."""
        return Tree(self.folder, self.package)

    @functools.cached_property
    def sources(self) -> Sources:
        """Its modules, read and parsed; all of them are kept."""
        return Sources(self.tree)

    def locate(self, module: str) -> str | None:
        """Return the path of the Python file of `module`; None where it has none.

        Raises:
            TargetError: it has no such module; the message has the nearest names.
        """
        found = self.tree.find(module)
        if isinstance(found, Missing):
            raise TargetError(f"{self.package} {self.version or self.label}: {found.sentence()}")
        return found.file

    def __str__(self) -> str:
        return self.label
