"""What a ledger file says, looked at before it is believed: anybody may have written it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from ascend_overlay.ledgers.entries import CAUSES, STATES, Entry


def process(data: Any) -> dict[str, Any]:
    """Return what identifies a process.

    Raises:
        ValueError: it does not.
    """
    found = _mapping(data, "process")
    for name, kind in (("pid", int), ("role", str), ("started", str)):
        if not isinstance(found.get(name), kind) or isinstance(found.get(name), bool):
            raise ValueError(f"its process has no {name}")
    for name in ("run", "host"):
        if not isinstance(found.get(name, ""), str):
            raise ValueError(f"the {name} of its process is no text")
    if not _are_texts(items(found.get("roles", []), "roles")):
        raise ValueError("a role of its process is no text")
    for name in ("versions", "settings"):
        if not _are_texts(_mapping(found.get(name, {}), name).values()):
            raise ValueError(f"the {name} of its process are no texts")
    return dict(found)


def entry(data: Any) -> Entry:
    """Return an entry; what a later version has more is left out.

    Raises:
        ValueError: it is none.
    """
    found = _mapping(data, "entry")
    values = {field.name: _value(field, found) for field in dataclasses.fields(Entry) if field.name in found}
    for name, known in (("state", STATES), ("cause", ("", *CAUSES))):
        if values.get(name, known[0]) not in known:
            raise ValueError(f"an entry has the {name} {values[name]!r}")
    try:
        return Entry(**values)
    except TypeError:
        missing = [field.name for field in dataclasses.fields(Entry) if _is_required(field) and field.name not in found]
        raise ValueError(f"an entry has no {missing[0]}") from None


def note(data: Any) -> tuple[str, str]:
    """Return a remark, as (overlay, text).

    Raises:
        ValueError: it is none.
    """
    found = _mapping(data, "note")
    if not isinstance(found.get("overlay"), str) or not isinstance(found.get("text"), str):
        raise ValueError("a note has no overlay or no text")
    return found["overlay"], found["text"]


def operators(data: Any) -> dict[str, int]:
    """Return how often operators ran.

    Raises:
        ValueError: it does not say so.
    """
    found = _mapping(data, "operators")
    if not all(type(count) is int for count in found.values()):
        raise ValueError("the number of calls of an operator is no number")
    return dict(found)


def items(data: Any, name: str) -> list[Any]:
    """Return a list.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(data, list):
        raise ValueError(f"its {name} are no list")
    return data


def _are_texts(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _mapping(data: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise ValueError(f"its {what} is no object")
    return data


def _value(field: dataclasses.Field[Any], found: Mapping[str, Any]) -> Any:
    value = found[field.name]
    if field.default_factory is list:
        right = isinstance(value, list) and _are_texts(value)
    elif field.default is None:
        right = value is None or isinstance(value, bool)
    elif isinstance(field.default, bool):
        right = isinstance(value, bool)
    elif isinstance(field.default, float):
        right = type(value) in (int, float)
    else:
        right = isinstance(value, str)
    if not right:
        raise ValueError(f"the {field.name} of an entry is {type(value).__name__}")
    return value


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
