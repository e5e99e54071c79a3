"""What the tests of reading source share: their throw-away package is called `pack`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Forget the package where a test imports it."""
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "pack"]:
        del sys.modules[name]
