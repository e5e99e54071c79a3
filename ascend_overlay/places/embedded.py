"""Fields of classes that pydantic compiled, and whose type or default is a class that another stands in for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ascend_overlay.places import hints, pydantic_models


class _Exchange:
    """One attribute or entry that was exchanged. Re-binding does not reach into what is a record of ours."""

    __slots__ = ("name", "new", "old", "owner")

    def __init__(self, owner: Any, name: str, old: Any, new: Any) -> None:
        self.owner, self.name, self.old, self.new = owner, name, old, new


class Embedded:
    """Has the classes that embed `original` embed `stand_in`, and those compiled meanwhile `original` again.

    Args:
        original: a class that pydantic compiled.
        stand_in: what stands in for it.
    """

    def __init__(self, original: type, stand_in: type) -> None:
        self.original, self.new = original, stand_in
        self._done: list[_Exchange] = []

    @property
    def _package(self) -> str:
        return self.original.__module__.partition(".")[0]

    def follow(self) -> list[str]:
        """Exchange, and have the validators built anew; return the names of the classes.

        Raises:
            TargetError: pydantic cannot build one of them.
        """
        for owner, name, old in list(_holders(self.original, self._package)):
            self._done.append(_Exchange(owner, name, old, _exchanged(old, self.original, self.new)))
            _put(owner, name, self._done[-1].new)
        return pydantic_models.rebuild_classes(self, [self.original, self.new])

    def leave(self) -> None:
        """Take it back; harmless where nothing was done."""
        for done in self._done:
            if _get(done.owner, done.name) is done.new:
                _put(done.owner, done.name, done.old)
        for owner, name, now in list(_holders(self.new, self._package)):
            _put(owner, name, _exchanged(now, self.new, self.original))
        pydantic_models.release(self)


def _holders(wanted: type, package: str) -> Iterator[tuple[Any, str, Any]]:
    """Yield owner, attribute and value where a field of an embedding class of a package mentions `wanted`."""
    seen: set[int] = set()
    for cls in pydantic_models.embedding([wanted], package):
        declared = vars(cls).get("__dataclass_fields__", {}).values()
        models = vars(cls).get("__pydantic_fields__", {}).values()
        infos = [field.default for field in declared if type(field.default).__name__ == "FieldInfo"]
        for holder in (*declared, *models, *infos):
            if id(holder) in seen:
                continue
            seen.add(id(holder))
            for name in ("type", "annotation", "default_factory"):
                value = getattr(holder, name, None)
                if _mentions(value, wanted):
                    yield holder, name, value
            explicit = getattr(holder, "_attributes_set", {})
            for key in ("annotation", "default_factory"):
                if _mentions(explicit.get(key), wanted):
                    yield explicit, key, explicit[key]


def _get(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, dict) else getattr(holder, name, None)


def _put(holder: Any, name: str, value: Any) -> None:
    if isinstance(holder, dict):
        holder[name] = value
    else:
        setattr(holder, name, value)


def _mentions(annotation: Any, wanted: type) -> bool:
    return any(part is wanted for part in hints.parts(annotation))


def _exchanged(annotation: Any, old: type, new: type) -> Any:
    return hints.exchanged(annotation, lambda part: new if part is old else part)
