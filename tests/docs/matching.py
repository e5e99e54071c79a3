"""Whether what a block printed is what the document shows."""

from __future__ import annotations

import re


def matches(expected: str, actual: str) -> bool:
    """Compare; `...` in `expected` stands for anything, and any white space equals any other."""
    parts = [re.escape(" ".join(part.split())) for part in expected.split("...")]
    pattern = r"\s*.*?\s*".join(parts)
    return re.fullmatch(pattern, " ".join(actual.split()), re.DOTALL) is not None
