"""Carrying the overlays into child processes, by the environment that they inherit."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

_WAYS_IN = "ascend_overlay.hooks"
"""By its name alone: the ways in stand above the engine."""
_PATH = "PYTHONPATH"
_PREFIX = "ASCEND_OVERLAY"
# Read by vLLM when it starts Ray actors, which do not inherit this environment.
_RAY = "VLLM_RAY_EXTRA_ENV_VAR_PREFIXES_TO_COPY"


def startup_folder() -> str:
    """Return the folder whose sitecustomize switches the overlays on in every Python process started with it."""
    found = importlib.util.find_spec(_WAYS_IN)
    assert found is not None and found.origin is not None
    return str(Path(found.origin).parent / "startup")


class _Change(NamedTuple):
    """One variable that was set: what it was before (None: not set), and what it was set to."""

    before: str | None
    ours: str


class Propagation:
    """The changes to os.environ that carry the overlays into child processes, and their undoing."""

    def __init__(self) -> None:
        self._changes: dict[str, _Change] = {}

    @property
    def active(self) -> bool:
        """Whether os.environ is changed."""
        return bool(self._changes)

    def variables(self) -> dict[str, str]:
        """Return what tells a process the same that does not inherit os.environ; what the program has changed wins."""
        ours = {name: change.ours for name, change in self._changes.items()}
        return {name: text for name, text in {**ours, **os.environ}.items() if name.startswith(_PREFIX)}

    def original(self) -> dict[str, str]:
        """Return os.environ as it would be without the changes."""
        environment = dict(os.environ)
        for name in self._changes:
            value = self._without_ours(name)
            if value is None:
                environment.pop(name, None)
            else:
                environment[name] = value
        return environment

    def start(self, variables: Mapping[str, str]) -> None:
        """Set `variables`, put the start-up folder first on PYTHONPATH, and let Ray copy the variables.

        What an earlier start() set is taken back first.
        """
        self.stop()
        wanted = dict(variables)
        wanted[_PATH] = prepended(os.environ.get(_PATH, ""), startup_folder())
        wanted[_RAY] = _with_item(os.environ.get(_RAY, ""), _PREFIX)
        for name, value in wanted.items():
            self._changes[name] = _Change(os.environ.get(name), value)
            os.environ[name] = value

    def stop(self) -> None:
        """Take the changes back; what the program itself has changed in a variable since then stays."""
        for name in list(self._changes):
            value = self._without_ours(name)
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
            del self._changes[name]

    def _without_ours(self, name: str) -> str | None:
        change, now = self._changes[name], os.environ.get(name)
        if now in (None, change.ours, change.before):
            # As it was set; removed by the program; or the setting of it was interrupted.
            return change.before if now is not None else None
        take_out = _TAKE_OUT.get(name)
        if take_out is None or _has_ours(name, change.before or ""):
            # What was there before is not ours to take.
            return now
        return take_out(now)


def prepended(path: str, folder: str) -> str:
    """Return the search path `path` with `folder` first, and there only; an empty part is the current folder."""
    return os.pathsep.join([folder, *_other_parts(path, folder)])


def _other_parts(path: str, folder: str) -> list[str]:
    return [part for part in path.split(os.pathsep) if part != folder] if path else []


def _without_folder(path: str) -> str | None:
    parts = _other_parts(path, startup_folder())
    return os.pathsep.join(parts) if parts else None


def _with_item(text: str, item: str) -> str:
    items = [part for part in text.split(",") if part]
    return ",".join(items if item in items else [*items, item])


def _without_item(text: str) -> str | None:
    return ",".join(part for part in text.split(",") if part and part != _PREFIX) or None


def _has_ours(name: str, text: str) -> bool:
    if name == _PATH:
        return startup_folder() in text.split(os.pathsep)
    return _PREFIX in text.split(",")


_TAKE_OUT: dict[str, Callable[[str], str | None]] = {_PATH: _without_folder, _RAY: _without_item}
"""How our part is taken out of a variable that the program has changed, too."""
