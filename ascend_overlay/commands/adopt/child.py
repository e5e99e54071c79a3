"""The process that runs somebody's function: python -m ascend_overlay.commands.adopt.child REQUEST ANSWER."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ascend_overlay.commands.adopt.namespaces import Snapshot, changes


class _Stop(Exception):
    """It cannot be done, for this reason."""


def main(request: Path, answer: Path) -> None:
    """Do what the request asks, and write the answer."""
    asked = json.loads(request.read_text(encoding="utf-8"))
    try:
        told = _answer(asked["function"], asked["package"], asked["imports"], compare=asked["compare"])
    except _Stop as error:
        told = {"error": str(error)}
    answer.write_text(json.dumps(told), encoding="utf-8")


def _answer(function: str, package: str, imports: list[str], *, compare: bool) -> dict[str, Any]:
    try:
        importlib.import_module(package)
    except BaseException as error:
        raise _Stop(f"{package} cannot be imported: {_said(error)}.") from error
    skipped = [name for name in imports if not _imported(name)]
    if not compare:
        _call(function)
        return {"modules": [name for name in sys.modules if name.startswith(f"{package}.")], "skipped": skipped}
    before = Snapshot(package)
    _call(function)
    found = changes(before, Snapshot(package))
    return {"changes": [each.to_dict() for each in found], "modules": len(before.modules), "skipped": skipped}


def _imported(name: str) -> bool:
    try:
        # What a patch entered in sys.modules is nowhere to be found.
        if importlib.util.find_spec(name) is None:
            return False
        importlib.import_module(name)
    except Exception:
        return False
    return True


def _call(function: str) -> None:
    module, _, path = function.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except SystemExit as error:
        raise _Stop(f"the module {module!r} calls sys.exit({error.code!r}) when it is imported.") from error
    except BaseException as error:
        raise _Stop(f"the module {module!r} cannot be imported: {_said(error)}.") from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise _Stop(f"there is no {function!r}: {_named(found)} has no {part!r}.")
        found = getattr(found, part)
    if not callable(found):
        raise _Stop(f"{function!r} is of type {type(found).__name__}: name a function without arguments.")
    _run(found, function)


def _run(found: Callable[[], object], function: str) -> None:
    try:
        found()
    except SystemExit as error:
        raise _Stop(f"{function!r} calls sys.exit({error.code!r}) instead of returning.") from error
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)[1:]
        where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        raise _Stop(f"{function!r} raises {_said(error)}{where}.") from error


def _named(value: Any) -> str:
    return str(getattr(value, "__name__", type(value).__name__))


def _said(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".: ")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
