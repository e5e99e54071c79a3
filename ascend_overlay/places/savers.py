"""What unittest.mock and pytest's monkeypatch have saved of a place, to put it back later.

What they put in the place covers ours. When ours goes meanwhile, what they have saved goes, too: else they would bring
it back.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ascend_overlay.places.holders import referrers
from ascend_overlay.places.target import MISSING


class _Correction(NamedTuple):
    owner: Any
    name: Any
    old: Any
    new: Any


_due: list[_Correction] = []
"""What an interruption kept from being corrected is still here for whoever comes next."""
_collecting = False


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Correct what is given meanwhile at the end, in one search of the heap; the caller keeps other threads out."""
    global _collecting
    _collecting = True
    try:
        yield
    finally:
        _collecting = False
        _correct_all()


def correct(owner: Any, name: Any, old: Any, new: Any) -> None:
    """Have those who have saved `old`, as what `owner` holds under `name`, put `new` back instead.

    Args:
        owner: a module, class, object or mapping.
        name: the name, or the key.
        old: what they saved.
        new: what is to be there; MISSING: nothing.
    """
    if not _is_anybody_there():
        return
    _due.append(_Correction(owner, name, old, new))
    if not _collecting:
        _correct_all()


def _correct_all() -> None:
    if not _due:
        return
    by_owner: dict[int, list[_Correction]] = {}
    for due in _due:
        by_owner.setdefault(id(due.owner), []).append(due)
    for owner, found in _held_with([due[0].owner for due in by_owner.values()]):
        for due in by_owner[id(owner)]:
            _correct(found, due)
    _due.clear()


def _correct(found: tuple[Any, ...] | dict[Any, Any], due: _Correction) -> None:
    owner, name, old, new = due
    if isinstance(found, tuple):
        if found[1] == name and found[2] is old:
            _exchange(found, (owner, name, _absent(old) if new is MISSING else new))
        return
    if found.get("temp_original") is old and found.get("attribute") == name:
        found.update(_original_of_mock(new))
    saved = found.get("_original")
    if found.get("in_dict") is owner and type(saved) is dict and saved.get(name, MISSING) is old:
        _put(saved, name, new)


def move(owner: Any, to: Any, name: str, own: Any, before: Sequence[Any]) -> None:
    """Have those who have saved what the class `owner` holds under `name` put it back on the class `to` instead.

    Args:
        owner: the class that they changed.
        to: the class that they shall change back.
        name: the name.
        own: what `to` itself has under the name; MISSING: nothing.
        before: what `owner` had, which they shall put back no more: `own` comes back in place of it.
    """
    absent = _absent(MISSING)
    if not _is_anybody_there():
        return
    for _, found in _held_with([owner]):
        if isinstance(found, tuple):
            if found[1] == name:
                lost = found[2] is absent or any(found[2] is value for value in before)
                _exchange(found, (to, name, found[2] if not lost else absent if own is MISSING else own))
        elif found.get("target") is owner and found.get("attribute") == name and "temp_original" in found:
            found["target"] = to
            if not found.get("is_local") or any(found["temp_original"] is value for value in before):
                found.update({"is_local": True} | _original_of_mock(own))


def _is_anybody_there() -> bool:
    return bool(sys.modules.keys() & {"unittest.mock", "_pytest.monkeypatch"})


def _held_with(owners: Sequence[Any]) -> Iterator[tuple[Any, tuple[Any, ...] | dict[Any, Any]]]:
    """Yield each owner with what may be a record of what it had: a tuple of monkeypatch, the attributes of a mock."""
    wanted = {id(owner): owner for owner in owners}
    for found in referrers(list(owners)):
        if type(found) is tuple:
            if len(found) == 3 and id(found[0]) in wanted:
                yield found[0], found
            continue
        attributes = found if type(found) is dict else getattr(found, "__dict__", None)
        if type(attributes) is dict:
            for part in ("target", "in_dict"):
                if id(owner := attributes.get(part)) in wanted:
                    yield owner, attributes


def _exchange(found: tuple[Any, ...], new: tuple[Any, ...]) -> None:
    for saved in _lists_with(found):
        index = next(index for index, item in enumerate(saved) if item is found)
        saved[index] = new


def _lists_with(found: Any) -> Iterator[list[Any]]:
    for holder in gc.get_referrers(found):
        if type(holder) is list and any(item is found for item in holder):
            yield holder


def _original_of_mock(new: Any) -> dict[str, Any]:
    # What was inherited, or not there, is deleted when it is put back.
    return {"temp_original": new} if new is not MISSING else {"is_local": False, "create": True}


def _absent(old: Any) -> Any:
    """Return what pytest has for what was not there: `NOTSET`, in earlier releases `notset`."""
    module = sys.modules.get("_pytest.monkeypatch")
    return getattr(module, "NOTSET", getattr(module, "notset", old))


def _put(saved: dict[Any, Any], name: Any, new: Any) -> None:
    if new is MISSING:
        saved.pop(name, None)
    else:
        saved[name] = new
