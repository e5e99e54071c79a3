"""A fixture for pytest: `pytest_plugins = ["ascend_overlay.pytest_plugin"]` in a conftest.py."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from ascend_overlay import testing


@pytest.fixture
def overlays() -> Iterator[Callable[..., None]]:
    """Enable overlays until the end of the test: `overlays("name", role="worker", load=["my_plugin"])`.

    Takes the arguments of ascend_overlay.testing.enabled(); may be called more than once.
    """
    with contextlib.ExitStack() as stack:

        def enable(*names: object, **arguments: object) -> None:
            stack.enter_context(testing.enabled(*names, **arguments))  # type: ignore[arg-type]

        yield enable
