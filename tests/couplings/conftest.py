"""What the tests of couplings share."""

from __future__ import annotations

from pathlib import Path

import pytest
from two_states import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return a writer and reader of packages."""
    return World(tmp_path)
