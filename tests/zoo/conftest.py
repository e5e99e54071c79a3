"""The one set of processes that all tests of the zoo learn from."""

from __future__ import annotations

import pytest
from grid import asked_for
from zoo_kit import Run, Zoo


@pytest.fixture(scope="session")
def zoo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """The results of all runs that the selected tests ask for."""
    wanted = {value for params in asked_for(request) for value in params.values() if isinstance(value, Run)}
    return Zoo(tmp_path_factory.mktemp("zoo"), wanted)
