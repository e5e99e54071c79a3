"""Classes derived from others, judged by the names in their headers alone: fast, for thousands of modules."""

from __future__ import annotations

import re
from collections.abc import Iterable

_HEADER = re.compile(r"^class\s+(\w+)\s*\(([^)]*)\)", re.MULTILINE)


def derived_names(texts: Iterable[str], roots: Iterable[str]) -> frozenset[str]:
    """Return `roots` and the names of the classes in `texts` that are derived from a class of such a name."""
    headers = [header for text in texts for header in _HEADER.findall(text)]
    bases = [(name, frozenset(re.findall(r"\w+", between))) for name, between in headers]
    known = frozenset(roots)
    while (more := known | {name for name, above in bases if above & known}) != known:
        known = more
    return known


def defines_any(text: str, names: frozenset[str]) -> bool:
    """Tell whether `text` defines a class of one of these names that has bases."""
    return any(name in names for name, _ in _HEADER.findall(text))
