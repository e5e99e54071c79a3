"""What unittest.mock and pytest's monkeypatch have saved of a place, to put it back later.

What they put in the place covers ours. When ours goes meanwhile, what they have saved goes, too: else they would bring
it back.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ascend_overlay.places.holders import attributes_of
from ascend_overlay.places.instances import instances
from ascend_overlay.places.target import MISSING

_OF_ITEMS = (("unittest.mock", "_patch_dict"), ("mock.mock", "_patch_dict"))
_OF_ATTRIBUTES = (("unittest.mock", "_patch"), ("mock.mock", "_patch"))
_OF_BOTH = (("_pytest.monkeypatch", "MonkeyPatch"),)


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
    _due.append(_Correction(owner, name, old, new))
    if not _collecting:
        _correct_all()


def _correct_all() -> None:
    if not _due:
        return
    by_owner: dict[int, list[_Correction]] = {}
    for due in _due:
        by_owner.setdefault(id(due.owner), []).append(due)
    for record in _records([due[0].owner for due in by_owner.values()]):
        for due in by_owner[id(record.owner)]:
            _correct(record, due)
    _due.clear()


def _correct(record: _Record, due: _Correction) -> None:
    owner, name, old, new = due
    if record.saved is not None:
        _, held, value = record.saved[record.at]
        if held == name and value is old:
            record.saved[record.at] = (owner, name, _absent(old) if new is MISSING else new)
        return
    found = record.attributes
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
    for record in _records([owner]):
        found = record.attributes
        if record.saved is not None:
            _, held, value = record.saved[record.at]
            if held == name:
                lost = value is absent or any(value is old for old in before)
                record.saved[record.at] = (to, name, value if not lost else absent if own is MISSING else own)
        elif found.get("target") is owner and found.get("attribute") == name and "temp_original" in found:
            found["target"] = to
            if not found.get("is_local") or any(found["temp_original"] is old for old in before):
                found.update({"is_local": True} | _original_of_mock(own))


class _Record(NamedTuple):
    """What was saved of an owner.

    Attributes:
        owner: the owner.
        attributes: those of who saved it.
        saved: the list of a MonkeyPatch that has the owner, a name and what was there; None: it is of mock.
        at: where in that list.
    """

    owner: Any
    attributes: dict[str, Any]
    saved: list[tuple[Any, Any, Any]] | None = None
    at: int = 0


def _records(owners: Sequence[Any]) -> Iterator[_Record]:
    """Yield what was saved of some owners."""
    wanted = {id(owner) for owner in owners}
    for saver in _savers(owners):
        attributes = attributes_of(saver) or {}
        for part in ("target", "in_dict"):
            if id(owner := attributes.get(part)) in wanted:
                yield _Record(owner, attributes)
        for part in ("_setattr", "_setitem"):
            for index, (owner, *_) in enumerate(saved := attributes.get(part, [])):
                if id(owner) in wanted:
                    yield _Record(owner, attributes, saved, index)


def _savers(owners: Sequence[Any]) -> list[Any]:
    """Return all that may have saved something, each kind by itself: of some there are often none, without a search."""
    kinds = [_OF_ITEMS, _OF_BOTH]
    # A mapping without attributes has none to be saved.
    if any(attributes_of(owner) is not None for owner in owners):
        kinds.append(_OF_ATTRIBUTES)
    return [saver for kind in kinds for saver in instances(kind, _parts())]


def _parts() -> Iterable[Any]:
    """Return what holds the classes, and is none of them: `mock.patch.dict`."""
    for name in ("unittest.mock", "mock.mock"):
        if (module := sys.modules.get(name)) is not None:
            yield vars(module.patch)


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
