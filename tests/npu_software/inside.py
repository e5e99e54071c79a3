"""How a file of cases runs in a process with the software NPU: each case returns what is wrong, or nothing."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable

_cases: dict[str, Callable[[], str | None]] = {}


def case(function: Callable[[], str | None]) -> Callable[[], str | None]:
    """Mark a case."""
    _cases[function.__name__] = function
    return function


def raised(function: Callable[[], object], *words: str, kind: type[Exception] = RuntimeError) -> str | None:
    """Return what is wrong if `function` does not raise an error that has all of the `words`."""
    try:
        function()
    except kind as error:
        text = f"{error} {error.__context__ or ''}"
        missing = [word for word in words if word not in text]
        return f"the error {text[:500]!r} lacks {missing}" if missing else None
    return "nothing was raised"


def differs(got: object, expected: object) -> str | None:
    """Return what is wrong if the two are not equal."""
    return None if got == expected else f"{got!r} instead of {expected!r}"


def main() -> None:
    """Run all cases; the last line of the output says what became of them."""
    found: dict[str, str | None] = {}
    for name, function in _cases.items():
        try:
            found[name] = function()
        except Exception:
            found[name] = traceback.format_exc()[-1500:]
    sys.stdout.write("\n" + json.dumps(found) + "\n")
