"""Fixtures for the tests of overlays. pytest finds them by itself where ascend_overlay is installed.

Every pytest of the environment imports this module, so it imports nothing more before a fixture is used.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture
def overlays() -> Iterator[Callable[..., None]]:
    """Enable overlays until the end of the test: `overlays("name", role="worker", load=["my_plugin"])`.

    Takes the arguments of ascend_overlay.testing.enabled(); may be called more than once.
    """
    from ascend_overlay import testing

    with contextlib.ExitStack() as stack:

        def enable(*names: object, **arguments: object) -> None:
            stack.enter_context(testing.enabled(*names, **arguments))  # type: ignore[arg-type]

        yield enable
