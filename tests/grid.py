"""Grids of slow runs: all of their points are marked `grid`, and those of the reduced form `e2e`, too.

Those that run on each release of vLLM are marked `release`.
"""

from __future__ import annotations

from typing import Any

import pytest


def marks(*, reduced: bool, each_release: bool = False) -> list[pytest.MarkDecorator]:
    """Return the marks of a point of a grid, which may be part of the reduced form, or run on each release of vLLM."""
    found = [pytest.mark.grid]
    if reduced:
        found.append(pytest.mark.e2e)
    if each_release:
        found.append(pytest.mark.release)
    return found


def asked_for(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Return the parameters of each of the selected tests that has any."""
    found = (getattr(item, "callspec", None) for item in request.session.items)
    return [spec.params for spec in found if spec is not None]
