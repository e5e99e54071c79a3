"""Which files of tests stay in one process, since they share what takes minutes to make."""

from __future__ import annotations

import re

KEPT_TOGETHER = {
    "demo": re.compile(r"tests/e2e/test_(compile|demo_npu|demo_run|serve)\.py"),
    "on_npu": re.compile(r"tests/e2e/test_npu_(cards|features|platform|serve)\.py"),
    "zoo": re.compile(r"tests/zoo/test_(zoo|hugging_face)\.py"),
}
"""The files that take a fixture of the scope "session", by its name."""


def shared_by(file: str) -> str | None:
    """Return the fixture that a file of tests, by its path from the root, shares with others."""
    return next((fixture for fixture, files in KEPT_TOGETHER.items() if files.match(file)), None)
