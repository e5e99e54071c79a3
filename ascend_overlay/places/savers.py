"""What unittest.mock and pytest's monkeypatch have saved of a place, to put it back later.

What they put in the place covers ours. When ours goes meanwhile, what they have saved goes, too: else they would bring
it back.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import Any

from ascend_overlay.places.target import MISSING


def correct(owner: Any, name: Any, old: Any, new: Any) -> None:
    """Have those who have saved `old`, as what `owner` holds under `name`, put `new` back instead.

    Args:
        owner: a module, class, object or mapping.
        name: the name, or the key.
        old: what they saved.
        new: what is to be there; MISSING: nothing.
    """
    for found in gc.get_referrers(owner):
        if type(found) is tuple:
            _correct_tuple(found, owner, name, old, new)
            continue
        attributes = found if type(found) is dict else getattr(found, "__dict__", None)
        if type(attributes) is not dict:
            continue
        if attributes.get("temp_original") is old and attributes.get("attribute") == name:
            attributes.update(_original_of_mock(new))
        saved = attributes.get("_original")
        if attributes.get("in_dict") is owner and type(saved) is dict and saved.get(name, MISSING) is old:
            _put(saved, name, new)


def _correct_tuple(found: tuple[Any, ...], owner: Any, name: Any, old: Any, new: Any) -> None:
    if len(found) != 3 or found[0] is not owner or found[2] is not old or found[1] != name:
        return
    for saved in _lists_with(found):
        index = next(index for index, item in enumerate(saved) if item is found)
        saved[index] = (owner, name, _absent(old) if new is MISSING else new)


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
