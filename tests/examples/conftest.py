"""Scratch environments with the examples installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from scratch import EXAMPLES, Scratch


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    """An environment with no plugin in it."""
    return Scratch(tmp_path)


@pytest.fixture(scope="session")
def with_examples(tmp_path_factory: pytest.TempPathFactory) -> Scratch:
    """An environment with all examples installed; tests leave it as it is."""
    environment = Scratch(tmp_path_factory.mktemp("examples"))
    for example in sorted(EXAMPLES.glob("*/setup.cfg")):
        environment.install(example.parent)
    return environment
