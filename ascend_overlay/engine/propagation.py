"""Carrying the overlays into child processes, by the environment that they inherit."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

_WAYS_IN = "ascend_overlay.hooks"
"""By its name alone: the ways in stand above the engine."""


def startup_folder() -> str:
    """Return the folder whose sitecustomize switches the overlays on in every Python process started with it."""
    found = importlib.util.find_spec(_WAYS_IN)
    assert found is not None and found.origin is not None
    return str(Path(found.origin).parent / "startup")


class Propagation:
    """The changes to os.environ that carry the overlays into child processes, and their undoing."""

    def __init__(self) -> None:
        self._before: dict[str, str | None] = {}

    @property
    def active(self) -> bool:
        """Whether os.environ is changed."""
        return bool(self._before)

    def original(self) -> dict[str, str]:
        """Return os.environ as it would be without the changes."""
        environment: dict[str, str | None] = {**os.environ, **self._before}
        return {name: value for name, value in environment.items() if value is not None}

    def start(self, variables: Mapping[str, str]) -> None:
        """Set `variables`, put the start-up folder first on PYTHONPATH, and let Ray copy the variables.

        What an earlier start() set is taken back first.
        """
        self.stop()
        wanted = dict(variables)
        wanted["PYTHONPATH"] = prepended(os.environ.get("PYTHONPATH", ""), startup_folder())
        # Read by vLLM when it starts Ray actors, which do not inherit this environment.
        wanted["VLLM_RAY_EXTRA_ENV_VAR_PREFIXES_TO_COPY"] = _with_item(
            os.environ.get("VLLM_RAY_EXTRA_ENV_VAR_PREFIXES_TO_COPY", ""), "ASCEND_OVERLAY"
        )
        for name, value in wanted.items():
            self._before[name] = os.environ.get(name)
            os.environ[name] = value

    def stop(self) -> None:
        """Put every variable back to what it was before the first start()."""
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._before.clear()


def prepended(path: str, folder: str) -> str:
    """Return the search path `path` with `folder` first, and there only."""
    return os.pathsep.join([folder, *(part for part in path.split(os.pathsep) if part and part != folder)])


def _with_item(text: str, item: str) -> str:
    items = [part for part in text.split(",") if part]
    return ",".join(items if item in items else [*items, item])
