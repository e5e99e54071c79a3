"""Holders that are found without a search of the heap, which takes a tenth of a second in a process that has vLLM.

Most of what a patch replaces is held by the module or class that it is in, by modules that copied it under its name,
and by the records that are kept here. Where these account for all references to an object, nobody else holds it.
"""

from __future__ import annotations

import functools
import gc
import types
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ascend_overlay.places import modules, references
from ascend_overlay.places.holders import PLAIN, attributes_of, is_of, is_ours, is_ours_by_file

_LARGE = 1000
"""A container of so many things is none of our records."""
_MANY = 20_000
_DESCRIPTORS = (staticmethod, classmethod, property)
_OF_A_CLASS = (types.GetSetDescriptorType, types.MemberDescriptorType)


class Accounts:
    """The holders of some objects that are known without a search.

    Args:
        objects: the objects.
        probe: held by the search as they are.
        classes: the classes that some of them are members of.
        records: what leads to the records that hold some of them.

    Attributes:
        holders: what was found.
        owners: what a container among them is a part of, by the id of the container.
        modules: the modules whose namespaces are among them, by the id of the namespace.
        kept: ids of those that are records as a whole, and are to stay as they are.
    """

    def __init__(
        self,
        objects: Sequence[Any],
        probe: references.Probe,
        classes: Iterable[type],
        records: Iterable[Any],
    ) -> None:
        self._objects, self._probe = objects, probe
        self._ids = {id(item) for item in objects}
        self._holders: dict[int, Any] = {}
        self.owners: dict[int, list[Any]] = {}
        self.modules: dict[int, types.ModuleType] = {}
        self.kept: set[int] = set()
        self._inside: list[Any] = []
        for cls in classes:
            self._add_class(cls)
        # The probe with them: whoever counts must hold it as often.
        self._add_parts([*records, *objects, probe.subject])

    @property
    def holders(self) -> list[Any]:
        """What holds any of the objects, as far as is known."""
        return list(self._holders.values())

    def complete(self, own: Sequence[Any]) -> set[int]:
        """Return the ids of the objects that nobody else holds.

        Args:
            own: what else the search holds the objects by.
        """
        wanted = [*self._objects, *self._inside, self._probe.subject]
        more = [*own, *self.owners.values(), self._inside, self._probe, self._probe.held, wanted]
        every = {id(item): item for item in (*self._holders.values(), *more)}
        unseen, running = references.unseen(wanted, list(every.values()), self._probe)
        # A part of a record that is something else's part, too, has a holder that is not known.
        shared = [part for part in self._inside if id(part) in unseen]
        return self._ids - unseen - set(running) - {id(held) for part in shared for held in gc.get_referents(part)}

    def add_modules(self, among: Iterable[types.ModuleType]) -> None:
        """Look through the namespaces of modules."""
        for module in modules.holding(self._ids, among):
            self._add_module(module)

    def _add_module(self, module: types.ModuleType) -> None:
        namespace = vars(module)
        self._holders[id(namespace)] = namespace
        self.modules[id(namespace)] = module

    def _add_class(self, cls: type) -> None:
        for part in gc.get_referents(cls):
            # Its namespace; vars() gives a view of it alone.
            if type(part) is dict:
                self._holders[id(part)] = part
                self.owners[id(part)] = [cls]

    def _add_parts(self, roots: list[Any]) -> None:
        """Follow what our records, and the objects themselves, consist of."""
        todo = roots
        seen: set[int] = set()
        while todo and len(seen) < _MANY:
            item = todo.pop()
            if id(item) in seen:
                continue
            seen.add(id(item))
            self._holders[id(item)] = item
            for part in self._parts(item):
                if isinstance(part, PLAIN):
                    self.owners.setdefault(id(part), []).append(item)
                todo.append(part)

    def _parts(self, item: Any) -> Iterator[Any]:
        if isinstance(item, type):
            yield from self._parts_of_class(item)
        elif isinstance(item, types.FunctionType):
            yield from (
                part
                for part in gc.get_referents(item)
                if type(part) in (dict, tuple) and part is not item.__globals__ and len(part) < _LARGE
            )
        elif isinstance(item, _DESCRIPTORS):
            yield from (part for part in gc.get_referents(item) if isinstance(part, (dict, types.FunctionType)))
        elif is_ours(item):
            yield from self._parts_of_record(item)
        elif isinstance(item, PLAIN):
            # A record in a mapping is not a part of what has the mapping: that has all records of the process.
            for part in gc.get_referents(item):
                if self._is_known(part) and not (type(item) is dict and is_ours(part)):
                    yield part
                elif isinstance(item, (functools.partial, types.CellType)) and type(part) in (tuple, dict):
                    # One of our steps to undo something, which keeps what it was told.
                    self._keep(part)

    def _parts_of_class(self, cls: type) -> Iterator[Any]:
        self._add_class(cls)
        yield cls.__mro__
        for member in list(vars(cls).values()):
            if isinstance(member, (types.FunctionType, *_DESCRIPTORS, *_OF_A_CLASS)):
                yield member
        for derived in _descendants(cls):
            # The class refers to its base, too.
            self._holders[id(derived)] = derived
            for part in (derived.__bases__, derived.__mro__):
                self._holders[id(part)] = part
                self.owners.setdefault(id(part), []).append(derived)

    def _parts_of_record(self, record: Any) -> Iterator[Any]:
        attributes = attributes_of(record)
        if type(attributes) is dict:
            self._holders[id(attributes)] = attributes
            self.owners[id(attributes)] = [record]
        for part in gc.get_referents(record) if attributes is None else list(attributes.values()):
            if isinstance(part, PLAIN):
                # What a record is of is somebody else's.
                if len(gc.get_referents(part)) < _LARGE and not is_of(record, part):
                    yield part
            elif self._is_known(part):
                yield part

    def _keep(self, part: Any) -> None:
        if id(part) in self.kept or len(part) > _LARGE:
            return
        self.kept.add(id(part))
        self._inside.append(part)
        self._holders[id(part)] = part
        for inside in gc.get_referents(part):
            if type(inside) is tuple:
                self._keep(inside)

    def _is_known(self, part: Any) -> bool:
        if isinstance(part, (types.CellType, functools.partial, *_DESCRIPTORS)):
            return True
        if isinstance(part, types.FunctionType):
            return is_ours_by_file(part.__code__)
        return is_ours(part)


def _descendants(cls: type) -> Iterator[type]:
    children: list[type] = type.__subclasses__(cls)
    for derived in children:
        yield derived
        yield from _descendants(derived)
