"""Every test that enables overlays has an engine of its own."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _own_engine(engine: object) -> None:
    """See the fixture `engine`."""
