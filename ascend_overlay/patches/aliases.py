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
from ascend_overlay.places.target import MISSING
from ascend_overlay.source.modules import exists, locate


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
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

    def apply(self, module: ModuleType, implementation: Any, context: Context, applied: Applied) -> None:
        applied.seam = "import"
        finder = _AliasFinder(self.target, self.implementation, applied.notes.append)
        applied.undo.append(finder.remove)
        sys.meta_path.append(finder)

    def effect(self, applied: Applied) -> str | None:
        """Return why who imports the alias does not get the module, or None; an alias nobody imported yet is met."""
        there, real = sys.modules.get(self.target), sys.modules.get(self.implementation)
        if there is None or there is real:
            return None
        return f"sys.modules has another module under {self.target}"

    def describe(self) -> str:
        return f"is {self.implementation}"


def _is_real(name: str) -> bool:
    return sys.modules.get(name) is not None or exists(name)


class _AliasFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Serves the alias, and what is below it.

    Asked last for the alias, so a module that really exists wins. Once the alias is in use it is asked first: other
    finders would load what is below the alias a second time, from the folder of the real package.
    """

    def __init__(self, alias: str, name: str, note: Callable[[str], None]) -> None:
        self._alias, self._name, self._note = alias, name, note
        self._in_parent: dict[str, Any] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Answer for the alias and for the modules below it that exist below the real one."""
        below = fullname.startswith(f"{self._alias}.") and exists(self._real(fullname))
        return importlib.machinery.ModuleSpec(fullname, self) if below or fullname == self._alias else None

    def exec_module(self, module: ModuleType) -> None:
        """Let the other module stand in sys.modules under the alias."""
        alias = module.__name__
        real = importlib.import_module(self._real(alias))
        parent, _, child = alias.rpartition(".")
        holder = sys.modules.get(parent)
        self._in_parent[alias] = MISSING if holder is None else vars(holder).get(child, MISSING)
        sys.modules[alias] = real
        if alias == self._alias:
            sys.meta_path.remove(self)
            sys.meta_path.insert(0, self)
            self._note(f"used: something imported {alias}, which is now {self._name}")

    def remove(self) -> None:
        """Stop serving the alias, and take it out of sys.modules and its parent package."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        for alias, before in reversed(self._in_parent.items()):
            real = sys.modules.pop(alias, None)
            parent, _, child = alias.rpartition(".")
            holder = sys.modules.get(parent)
            if holder is None or vars(holder).get(child) is not real:
                continue
            if before is MISSING:
                delattr(holder, child)
            else:
                setattr(holder, child, before)

    def _real(self, alias: str) -> str:
        return self._name + alias.removeprefix(self._alias)
