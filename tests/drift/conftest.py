"""The two releases, and what the commands say about them, asked once."""

from __future__ import annotations

import pytest
from drift_kit import Answers, Place, ask


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A folder with two releases and a plugin."""
    return Place(tmp_path_factory.mktemp("drift"))


@pytest.fixture(scope="session")
def answers(place: Place) -> Answers:
    """What the commands say about them."""
    return ask(place)
