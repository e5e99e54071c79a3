"""What is installed, as metadata has it: nothing is imported."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement


@dataclass(frozen=True)
class Point:
    """An entry point.

    Attributes:
        distribution: who brings it.
        version: its version.
        name: the name of the entry point.
        value: what it loads.
    """

    distribution: str
    version: str
    name: str
    value: str

    def __str__(self) -> str:
        return f"{self.name} of {self.distribution} {self.version}"


class Installed:
    """The distributions of this environment, each name once: the first on sys.path hides the others."""

    def __init__(self) -> None:
        self._found: dict[str, metadata.Distribution] = {}
        for distribution in metadata.distributions():
            try:
                name = canonical(distribution.name)
            except (KeyError, TypeError, AttributeError, UnicodeDecodeError):
                # An installation that was interrupted.
                continue
            self._found.setdefault(name, distribution)

    def version(self, name: str) -> str | None:
        """Return the version of a distribution; None where it is not installed."""
        found = self._found.get(canonical(name))
        return None if found is None else found.version

    def points(self, group: str) -> Iterator[Point]:
        """Yield the entry points of a group."""
        for distribution in self._found.values():
            try:
                if group not in (distribution.read_text("entry_points.txt") or ""):
                    continue
                chosen = list(distribution.entry_points.select(group=group))
            except (UnicodeDecodeError, TypeError, ValueError):
                continue
            for point in chosen:
                yield Point(distribution.name, distribution.version, point.name, point.value)

    def requirement(self, name: str, wanted: str) -> Requirement | None:
        """Return what the distribution `name` asks of another on this machine; None where nothing."""
        found = self._found.get(canonical(name))
        for text in (found.requires or []) if found is not None else []:
            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                continue
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if canonical(requirement.name) == canonical(wanted) and applies:
                return requirement
        return None


def canonical(name: str) -> str:
    """Return a name as distributions are compared: Evil.Dist, evil_dist and evil-dist are one."""
    return re.sub(r"[-_.]+", "-", name).lower()
