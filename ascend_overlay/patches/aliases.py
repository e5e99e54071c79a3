"""The patch that serves the import of a module which vLLM no longer has."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from ascend_overlay.errors import TargetError
from ascend_overlay.patches.base import Applied, Context, Patch
from ascend_overlay.target import exists, locate


@dataclass(frozen=True, kw_only=True)
class ModuleAlias(Patch):
    """Serve `import alias` with another module. Nothing is imported until somebody imports the alias.

    It is in force at once rather than after an import, and the ledger notes when it is first used.
    """

    implementation: str

    kind: ClassVar[str] = "module alias"

    @property
    def module(self) -> str:
        # The alias must be served from the moment the package that it pretends to be part of can be imported.
        return ""

    def check(self) -> None:
        if _is_real(self.target):
            raise TargetError(
                f"the module {self.target} exists, so it cannot be an alias of {self.implementation}; "
                f"give the overlay the vLLM range in which it is missing."
            )
        locate(self.implementation)

    def apply(self, module: ModuleType, implementation: Any, context: Context) -> Applied:
        applied = Applied(seam="import")
        finder = _AliasFinder(self.target, self.implementation, applied.notes.append)
        sys.meta_path.append(finder)
        applied.undo.append(finder.remove)
        return applied

    def describe(self) -> str:
        return f"is {self.implementation}"


def _is_real(name: str) -> bool:
    loaded = sys.modules.get(name)
    if loaded is not None:
        return True
    return exists(name)


class _AliasFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Asked last, so a module that really exists always wins."""

    def __init__(self, alias: str, name: str, note: Callable[[str], None]) -> None:
        self._alias, self._name, self._note = alias, name, note
        self._before_in_parent: bool = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Answer for the alias alone."""
        return importlib.machinery.ModuleSpec(fullname, self) if fullname == self._alias else None

    def exec_module(self, module: ModuleType) -> None:
        """Let the other module stand in sys.modules under the alias."""
        real = importlib.import_module(self._name)
        sys.modules[self._alias] = real
        self._note(f"used: something imported {self._alias}, which is now {self._name}")

    def remove(self) -> None:
        """Stop serving the alias, and take it out of sys.modules and its parent package."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        sys.modules.pop(self._alias, None)
        parent, _, child = self._alias.rpartition(".")
        real = sys.modules.get(self._name)
        if real is not None and getattr(sys.modules.get(parent), child, None) is real:
            delattr(sys.modules[parent], child)
