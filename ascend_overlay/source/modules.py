"""Modules found without importing them or their packages: their files, or the nearest names there are."""

from __future__ import annotations

import contextlib
import contextvars
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, Protocol, runtime_checkable

from ascend_overlay import finders
from ascend_overlay.errors import TargetError, did_you_mean
from ascend_overlay.source.folders import Folders, Found, of_spec


class Missing(NamedTuple):
    """A module that is not there.

    Attributes:
        wanted: the module.
        name: the first on the way to it that is missing: itself, or a package.
        search: where that was looked for; None for a top-level name.
        blocked: somebody forbids its import, by None in sys.modules.
    """

    wanted: str
    name: str
    search: tuple[str, ...] | None
    blocked: bool = False

    def sentence(self) -> str:
        """Return the sentence that it does not exist, with the nearest names."""
        parent = self.name.rpartition(".")[0]
        if self.blocked:
            return f"the module {self.wanted!r} cannot be imported here: sys.modules has None for {self.name!r}."
        if not parent:
            return f"the module {self.wanted!r} does not exist here: the package {self.name!r} is not installed."
        import pkgutil

        known = [f"{parent}.{info.name}" for info in pkgutil.iter_modules(self.search or ())]
        hint = did_you_mean(self.name, known)
        return f"the module {self.wanted!r} does not exist: {parent!r} has no such module.{hint}"


class Finder(Protocol):
    """Who knows where modules are."""

    def find(self, module: str) -> Found | Missing:
        """Return where `module` is."""


@runtime_checkable
class Lister(Finder, Protocol):
    """Who also knows which modules there are."""

    def modules(self) -> list[str]:
        """Return the names of all modules."""


class Environment:
    """What this process can import.

    Args:
        aliases: find what stands for a module by another name, too, as our own finders do.
    """

    def __init__(self, *, aliases: bool = False) -> None:
        self._aliases = aliases

    def find(self, module: str) -> Found | Missing:
        """Return where `module` is."""
        memory = _remembered.get() or _Memory()
        name, rest = module, []
        # What is loaded needs no package above it.
        while name and name not in sys.modules and name not in memory.found:
            name, _, tail = name.rpartition(".")
            rest.append(tail)
        if name and name in sys.modules and sys.modules[name] is None:
            return Missing(module, name, None, blocked=True)
        found = _loaded(sys.modules[name]) if name in sys.modules else memory.found.get(name)
        search = found.search or () if found is not None else None
        for tail in reversed(rest):
            name = f"{name}.{tail}" if name else tail
            # Whoever is known to import nothing is asked first.
            found = _seen(name, search, memory) or self._by_others(name, search, memory)
            if found is None:
                return Missing(module, name, search)
            search = found.search or ()
        return found or Missing(module, name, search)

    def _by_others(self, name: str, search: tuple[str, ...] | None, memory: _Memory) -> Found | None:
        """Ask finders of strangers, once."""
        if (name, self._aliases) in memory.unknown:
            return None
        found = _by_finders(name, search, finders.others(ours=self._aliases))
        if found is None:
            memory.unknown.add((name, self._aliases))
        return found


class Tree:
    """A package in a folder that need not be on sys.path, as in a checkout.

    Args:
        folder: the folder of the package itself.
        package: the package's name.
    """

    def __init__(self, folder: Path, package: str) -> None:
        self.folder, self.package = folder, package
        self._folders = Folders()
        self._found: dict[str, Found | Missing] = {}

    def find(self, module: str) -> Found | Missing:
        """Return where `module` is."""
        if module not in self._found:
            self._found[module] = self._find(module)
        return self._found[module]

    def modules(self) -> list[str]:
        """Return the names of the package and of all modules with Python source below it, sorted."""
        names = []
        for path in self.folder.rglob("*.py"):
            parts = path.relative_to(self.folder).with_suffix("").parts
            name = ".".join([self.package, *(parts[:-1] if parts[-1] == "__init__" else parts)])
            if all(part.isidentifier() for part in parts) and path.is_file():
                names.append(name)
        return sorted(set(names))

    def _find(self, module: str) -> Found | Missing:
        parent, _, _ = module.rpartition(".")
        if module == self.package:
            file = self.folder / "__init__.py"
            return Found(str(file) if file.is_file() else None, (str(self.folder),))
        if not parent:
            return Missing(module, module, None)
        above = self.find(parent)
        if isinstance(above, Missing):
            return Missing(module, above.name, above.search)
        return self._folders.find(module, above.search or ()) or Missing(module, module, above.search or ())


class _Memory:
    """What was listed and found so far."""

    def __init__(self) -> None:
        self.folders = Folders()
        self.found: dict[str, Found] = {}
        self.unknown: set[tuple[str, bool]] = set()


HERE = Environment()
_remembered: contextvars.ContextVar[_Memory | None] = contextvars.ContextVar("ascend_overlay_remembered", default=None)


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """Let this thread list each folder once until the block is left, in which nothing may change."""
    token = _remembered.set(_remembered.get() or _Memory())
    try:
        yield
    finally:
        _remembered.reset(token)


def locate(module: str, finder: Finder = HERE) -> None:
    """Check that `module` can be imported, without importing it or its parent packages.

    Raises:
        TargetError: no such module; the message has the nearest names that exist.
    """
    found = finder.find(module)
    if isinstance(found, Missing):
        raise TargetError(found.sentence())


def exists(module: str, finder: Finder = HERE) -> bool:
    """Tell whether `module` can be imported, without importing anything."""
    return isinstance(finder.find(module), Found)


def source_of(module: str, finder: Finder = HERE) -> str | None:
    """Return the path of the Python file of `module`, without importing anything; None where there is none."""
    found = finder.find(module)
    return found.file if isinstance(found, Found) else None


def _loaded(module: object) -> Found:
    # A module that makes its names on demand may answer anything when it is asked for its path.
    search = vars(module).get("__path__") if type(module) is ModuleType else getattr(module, "__path__", None)
    spec = getattr(module, "__spec__", None)
    file = getattr(spec, "origin", None) if spec is not None else getattr(module, "__file__", None)
    python = file if isinstance(file, str) and file.endswith(".py") else None
    return Found(python, tuple(search) if isinstance(search, Iterable) else None)


def _seen(name: str, search: tuple[str, ...] | None, memory: _Memory) -> Found | None:
    """Ask only finders that import nothing; editable installs bring their own."""
    found = None if search is None else memory.folders.find(name, search)
    found = found or _by_finders(name, search)
    if found is not None:
        memory.found[name] = found
    return found


def _by_finders(name: str, search: tuple[str, ...] | None, asked: Iterable[object] | None = None) -> Found | None:
    path = None if search is None else list(search)
    spec = finders.find(name, path) if asked is None else finders.found_by(asked, name, path)
    return None if spec is None else of_spec(spec)
