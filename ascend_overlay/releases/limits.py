"""How large a package's source may be: neither a hostile archive nor a stray file fills a disk or the memory."""

from __future__ import annotations

ARCHIVE = 4 * 1024**3
"""Bytes of an archive once decompressed, or of a file that is downloaded."""
RATIO = 200
"""An archive of some size may hold this many times as much. Source text compresses to a fourth or an eighth."""
ENTRIES = 100_000
"""Files and folders in an archive."""
FILES = 50_000
"""Python files of a package. vLLM 0.33 has 3,000."""
FILE = 16 * 1024**2
"""Bytes of one Python file, whose syntax tree takes fifty times as much. The largest of vLLM 0.33 has 0.3 MB."""
SOURCE = 512 * 1024**2
"""Bytes of all Python files of a package."""


def megabytes(count: float) -> str:
    """Return a size for people."""
    return f"{count / 1e6:,.0f} MB"
