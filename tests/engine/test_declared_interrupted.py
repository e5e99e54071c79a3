"""Ctrl-C at any line of applying or taking back a change of a declared member leaves nothing behind."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
from declared_members import LIB, USER, World
from interrupting import Interruption

from ascend_overlay.patches import Applied, Context, Patch
from ascend_overlay.patches.entries import Entry
from ascend_overlay.patches.fields import Field
from ascend_overlay.patches.members import Member
from ascend_overlay.patches.names import Wrap
from ascend_overlay.places import fields, keys, pydantic_models
from ascend_overlay.places.slots import Slots

_TRACED = (
    "patches/fields.py",
    "patches/generated.py",
    "patches/literals.py",
    "patches/members.py",
    "places/declared.py",
    "places/enumerations.py",
    "places/fields.py",
    "places/generated.py",
    "places/keys.py",
    "places/literals.py",
    "places/pydantic_models.py",
)


def _wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return wrapped(*args, **kwargs)


PATCHES: dict[str, Callable[[], Patch]] = {
    "default": lambda: Field(target="declaring.lib:Plain.count", default=5),
    "new field": lambda: Field(target="declaring.lib:Frozen.site", default=5, annotation=int),
    "pydantic default": lambda: Field(target="declaring.lib:Compiled.count", default=5),
    "pydantic field": lambda: Field(target="declaring.lib:Compiled.site", default=5, annotation=int),
    "model field": lambda: Field(target="declaring.lib:Model.site", default=5, annotation=int),
    "key": lambda: Field(target="declaring.lib:Keys.site", annotation=int),
    "tuple": lambda: Field(target="declaring.lib:Pair.second", default=5),
    "member": lambda: Member(target="declaring.lib:Number.THREE", value=3),
    "flag": lambda: Member(target="declaring.lib:Colour.BLUE", value=4),
    "literal": lambda: Entry(target="declaring.lib:Size", value="huge"),
    "constructor": lambda: Wrap(target="declaring.lib:Plain.__init__", wrapper=_wrapper),
}


@pytest.mark.parametrize("interrupted", ["applying", "taking back"])
@pytest.mark.parametrize("make", PATCHES.values(), ids=PATCHES)
def test_an_interruption_at_any_line(site: Any, make: Callable[[], Patch], interrupted: str) -> None:
    site.write({"declaring/lib.py": LIB, "declaring/user.py": USER})
    importlib.import_module("declaring.user")
    lib: Any = importlib.import_module("declaring.lib")
    assert lib.Colour.RED | lib.Colour.GREEN
    before = World(lib)

    def attempt(at: int | None) -> Interruption:
        slots = Slots()
        done, context = Applied(slots), Context(slots, 0, "a test", {})
        if interrupted == "taking back":
            make().apply(lib, make().load(), context, done)
        with Interruption(at, _TRACED) as interruption:
            if interrupted == "applying":
                make().apply(lib, make().load(), context, done)
            else:
                done.revert()
        done.revert()
        return interruption

    points = attempt(None).firsts()
    assert len(points) > 3
    for at in points:
        where = attempt(at).lines[-1]
        assert (before.differences(), _rest()) == ([], []), f"after an interruption at {where}"


def _rest() -> list[Any]:
    """Return what the tables in which the changes are kept have left."""
    return [
        *fields._state.changes,
        *fields._state.stock,
        *keys._state.changes,
        *keys._state.stock,
        *pydantic_models._causes,
        *pydantic_models._before,
        *pydantic_models._roots,
    ]
