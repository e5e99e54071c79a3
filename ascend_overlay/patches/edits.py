"""The patch that changes a few lines inside a function, found by what they say."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from ascend_overlay.errors import ConflictError, SignatureError, TargetError
from ascend_overlay.patches.base import Applied, Context, Patch, definer, shown
from ascend_overlay.patches.reach import seen
from ascend_overlay.places import code as code_module
from ascend_overlay.places.definitions import innermost
from ascend_overlay.places.storages import Attribute
from ascend_overlay.places.target import MISSING, Place, Target, find, lookup, require
from ascend_overlay.settings import advice

if TYPE_CHECKING:
    from ascend_overlay.source.edited import Change, EditedSource
    from ascend_overlay.source.functions import FunctionSource
    from ascend_overlay.source.snippets import Snippet

logger = logging.getLogger("ascend_overlay")

_KINDS = {0: "a plain function", 0x20: "a generator", 0x80: "a coroutine", 0x200: "an asynchronous generator"}
_SHOWN = 60
_LONGEST_NOTE = 400
_HEADERS = ("---", "+++")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Edit(Patch):
    """Put other statements in the place of some statements of a function, which are found by what they say.

    The function object gets new code, so that whoever holds it, in whatever way, runs the edited function; calls cost
    what they cost by hand. Several edits of one function are each found in the function as it was, and may not touch
    the same lines. Wrappers go around an edited function; a replaced function cannot be edited.
    """

    find: str
    put: str

    kind: ClassVar[str] = "edit"
    decides: ClassVar[bool] = False

    def check(self) -> None:
        self._snippet("put", self.put)
        from ascend_overlay.source.snippets import is_gap

        wanted = self._snippet("find", self.find)
        if not wanted.statements:
            raise TargetError(f"the edit of {self.target} finds nothing: `find` has no statement in it.")
        if len(wanted.statements) > 1 and any(is_gap(wanted.statements[end]) for end in (0, -1)):
            raise TargetError(
                f"`find` of the edit of {self.target} begins or ends with `...`, which stands for the statements "
                f"between two others; say where it begins and where it ends."
            )

    def resolve(self, module: ModuleType, context: Context) -> Place:
        target = Target.parse(self.target)
        place = require(find(module, target), target)
        if not isinstance(place.owner, type):
            return place
        # Where a subclass stands in for a class, the code to edit is still that of the class.
        for owner in place.owner.__mro__:
            if context.stand_ins.get(id(owner)) is place.owner:
                raw, own = lookup(owner, place.name)
                return Place(owner, place.name, raw, own, place.shared)
        return place

    def apply(self, module: ModuleType, implementation: Any, context: Context, applied: Applied) -> None:
        # Imported here, as below: who edits nothing never pays for it.
        from ascend_overlay.source.edited import Change

        place = self.resolve(module, context)
        function = self._function(place, context)
        change = Change(
            find=self._snippet("find", self.find),
            put=self._snippet("put", self.put),
            whose=context.whose,
            key=self,
        )
        changed = _edited.get(id(function))
        if changed is None:
            changed = _edited[id(function)] = _Edited(function, self._source(function))
        applied.seam = "code of the function"
        applied.undo.append(functools.partial(changed.remove, change))
        alone, result = self._compiled(changed, change)
        changed.add(change, result)
        applied.notes.append(_note(changed.source, alone))
        if note := _overridden(place, function, context):
            applied.notes.append(note)

    def effect(self, applied: Applied) -> str | None:
        """Return why the callers of the target do not run the edited code, or None where they do."""
        return seen(self.target, self._passed)

    def _passed(self, module: ModuleType, target: Target) -> str | None:
        place = find(module, target)
        owners = place.owner.__mro__ if isinstance(place.owner, type) else [place.owner]
        functions = [innermost(getattr(owner, "__dict__", {}).get(place.name), place.name) for owner in owners]
        changed = next((each for each in map(_edited.get, map(id, functions)) if each and each.has(self)), None)
        if changed is None:
            return f"{self.target} leads to another function now: {_located(functions[0], place.raw)}"
        if (foreign := changed.body.foreign) is not None:
            return f"somebody else has given {self.target} other code since, from {_origin(foreign)}"
        return None

    def describe(self) -> str:
        """Return the first lines of what is found and of what takes its place.

        A digest stands for the rest: what two overlays put in place is never described alike.
        """
        import hashlib

        wanted, put = _in_a_line(self.find), _in_a_line(self.put) or "pass"
        if len(wanted) <= _SHOWN and len(put) <= _SHOWN:
            return f"`{wanted}` becomes `{put}`"
        digest = hashlib.sha256(f"{self.find}\0{self.put}".encode()).hexdigest()[:8]
        return f"`{_short(wanted)}` becomes `{_short(put)}` ({digest})"

    def _snippet(self, which: str, text: str) -> Snippet:
        from ascend_overlay.source.snippets import snippet

        try:
            return snippet(text)
        except SyntaxError as error:
            line = (error.text or "").strip()
            raise TargetError(
                f"`{which}` of the edit of {self.target} is not Python: {error.msg} (line {error.lineno}"
                f"{f': {line}' if line else ''}). It must be complete statements, or one expression."
            ) from None

    def _function(self, place: Place, context: Context) -> FunctionType:
        slot = context.slots.at(Attribute(place.owner, place.name))
        decider, inherited = slot.decider, slot.original is MISSING and bool(slot.changes)
        context.slots.release(slot)
        if decider is not None:
            raise ConflictError(
                f"{self.target} cannot be edited: {decider.whose} puts something else in its place. Leave one of the "
                f"two overlays out with {advice('exclude')}."
            )
        if inherited or not place.own:
            raise TargetError(
                f"{self.target} is inherited, and an edit would change it for every class that inherits it; edit "
                f"{definer(place)}, or replace {self.target}."
            )
        if isinstance(place.raw, type):
            raise TargetError(f"the target {self.target} is a class; name one of its methods.")
        function = innermost(place.raw, place.name)
        if function is None:
            raise TargetError(
                f"the target {self.target} cannot be edited: {shown(place.raw)} leads to no Python function whose code "
                f"is what runs. Use overlay.replace."
            )
        return function

    def _source(self, function: FunctionType) -> FunctionSource:
        from ascend_overlay.source.functions import NoSource, source_of_function

        body = code_module.known(function)
        try:
            # While its calls are sent on, a twin has what it says.
            return source_of_function((body and body.twin) or function)
        except NoSource as error:
            raise TargetError(
                f"the target {self.target} cannot be edited: {error}. Use overlay.replace or overlay.wrap."
            ) from None

    def _compiled(self, changed: _Edited, change: Change) -> tuple[EditedSource, EditedSource]:
        """Return the function with `change` alone and with `change` among the others."""
        from ascend_overlay.source.edited import CannotEdit, edited

        if changed.body.foreign is not None:
            raise ConflictError(
                f"{self.target} cannot be edited: somebody else has changed its code since overlays did, to code from "
                f"{_origin(changed.body.foreign)}."
            )
        try:
            # Alone, too: the others may be taken back first.
            alone = edited(changed.source, [change])
            result = edited(changed.source, [*changed.changes, change])
        except CannotEdit as error:
            kind = ConflictError if error.other is not None else TargetError
            raise kind(f"{self.target} cannot be edited: {error}") from None
        was, now = (code.co_flags & sum(_KINDS) for code in (changed.source.code, result.code))
        if was != now:
            raise SignatureError(
                f"{self.target} cannot be edited: it is {_KINDS.get(was, was)}, and with what `put` says it would be "
                f"{_KINDS.get(now, now)}, which its callers do not expect."
            )
        return alone, result


class _Edited:
    """A function and the edits of it that are in force."""

    def __init__(self, function: FunctionType, source: FunctionSource) -> None:
        self.body = code_module.body(function)
        self.source = source
        self.changes: list[Change] = []

    def add(self, change: Change, result: EditedSource) -> None:
        """Bring `change` into force; `result` is the function with it."""
        self.changes.append(change)
        self._install(result)

    def has(self, key: object) -> bool:
        """Tell whether a change that `key` asked for is in force."""
        return any(change.key is key for change in self.changes)

    def remove(self, change: Change) -> None:
        """Take `change` out of force, if it is in force."""
        from ascend_overlay.source.edited import edited

        if _edited.get(id(self.body.function)) is not self:
            return
        self.changes = [other for other in self.changes if other is not change]
        if self.changes:
            self._install(edited(self.source, self.changes))
            return
        self.body.owners = []
        if not self.body.undo():
            _say_left(self.body)
        code_module.release(self.body)
        _edited.pop(id(self.body.function), None)

    def _install(self, result: EditedSource) -> None:
        import linecache

        lines = result.text.splitlines(keepends=True)
        # Without a time of change, linecache.checkcache() leaves the entry alone.
        linecache.cache[result.file] = (len(result.text), None, lines, result.file)
        self.body.owners = [change.whose for change in self.changes]
        if not self.body.put(result.code):
            _say_left(self.body)


_edited: dict[int, _Edited] = {}


def _overridden(place: Place, function: FunctionType, context: Context) -> str | None:
    stand_in = context.stand_ins.get(id(place.owner))
    if stand_in is None or innermost(lookup(stand_in, place.name)[0], place.name) is function:
        return None
    return (
        f"{shown(stand_in)}, which stands in for the class, has a {place.name} of its own; the edit is met where that "
        f"calls super()"
    )


def _note(source: FunctionSource, alone: EditedSource) -> str:
    """Return what the edit changes, as the changed lines of a diff."""
    import difflib

    match = alone.matches[0]
    diff = list(difflib.unified_diff(source.lines, alone.lines, n=0, lineterm=""))
    changed = " | ".join(
        f"{line[0]} {line[1:].strip()}" for line in diff if line[0] in "-+" and line[:3] not in _HEADERS
    )
    count = match.last - match.first + 1
    now = len(alone.lines) - len(source.lines) + count
    what = f"{count} line{'s' if count > 1 else ''} at line {match.first} replaced by {now}"
    return f"{what}: {changed if len(changed) <= _LONGEST_NOTE else changed[: _LONGEST_NOTE - 3] + '...'}"


def _say_left(body: code_module.Body) -> None:
    function, foreign = body.function, body.foreign
    logger.warning(
        "somebody else has given %s:%s other code since it was edited, from %s; that is left as it is.",
        function.__module__,
        function.__qualname__,
        _origin(foreign) if foreign is not None else "?",
    )


def _located(function: FunctionType | None, raw: Any) -> str:
    if function is None:
        return shown(raw)
    return f"{function.__module__}:{function.__qualname__} from {_origin(function.__code__)}"


def _origin(code: CodeType) -> str:
    return f"{code.co_filename}:{code.co_firstlineno}"


def _in_a_line(text: str) -> str:
    return " | ".join(line.strip() for line in text.split("\n") if line.strip())


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
