"""Holders that are built anew, and come back as the very objects that they were."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from ascend_overlay.places import immutable


def old() -> str:
    return "old"


def new() -> str:
    return "new"


def newer() -> str:
    return "newer"


def exchange(before: Any, after: Any) -> Any:
    return lambda value, suffix: after if value is before else value


HOLDERS: list[Any] = [
    (old, 1, old),
    (old,),
    frozenset({old, 1}),
    staticmethod(old),
    classmethod(old),
    property(old, new, None, "words"),
    property(None, old, None),
    property(None, None, old),
]


def parts(holder: Any) -> list[Any]:
    if isinstance(holder, (tuple, frozenset)):
        return list(holder)
    return [holder.fget, holder.fset, holder.fdel] if isinstance(holder, property) else [holder.__func__]


@pytest.mark.parametrize("holder", HOLDERS, ids=lambda holder: type(holder).__name__)
def test_built_anew_and_back(holder: Any) -> None:
    assert immutable.is_rebuildable(holder)
    fresh = immutable.rebuilt(holder, exchange(old, newer))
    assert type(fresh) is type(holder) and fresh is not holder
    assert set(parts(fresh)) == {newer if part is old else part for part in parts(holder)}
    if not isinstance(holder, frozenset):
        assert parts(fresh) == [newer if part is old else part for part in parts(holder)]
    again = immutable.rebuilt(fresh, exchange(newer, run))
    assert again is not fresh and again is not holder
    assert immutable.rebuilt(again, exchange(run, old)) is holder
    assert immutable.rebuilt(fresh, exchange(newer, old)) is holder
    assert immutable.rebuilt(holder, exchange(run, new)) is holder


def run() -> None: ...


def test_words_of_a_property_stay() -> None:
    assert immutable.rebuilt(property(old, doc="words"), exchange(old, new)).__doc__ == "words"


def test_each_part_is_asked_for_by_its_index() -> None:
    asked: list[tuple[Any, str]] = []

    def ask(value: Any, suffix: str) -> Any:
        asked.append((value, suffix))
        return value

    immutable.rebuilt((old, 1), ask)
    assert asked == [(old, "[0]"), (1, "[1]")]


def test_a_part_less_is_another() -> None:
    """Where two become one, what was there before is not what is meant."""
    holder = frozenset({old, new})
    fewer = immutable.rebuilt(holder, exchange(old, new))
    assert fewer == {new} and immutable.rebuilt(fewer, exchange(new, newer)) == {newer}


def test_the_same_parts_in_another_order_are_another() -> None:
    other = {old: new, new: old}
    assert immutable.rebuilt((old, new), lambda value, _: other[value]) == (new, old)


class List(tuple[Any, ...]): ...


@pytest.mark.parametrize(
    "holder", [[old], {old: 1}, List((old,)), old, None], ids=["list", "dict", "tuple subclass", "function", "None"]
)
def test_what_is_not_built_anew(holder: Any) -> None:
    assert not immutable.is_rebuildable(holder)


def test_what_nobody_holds_is_forgotten() -> None:
    class Marked:
        def __call__(self) -> None: ...

    def count() -> int:
        return len(immutable._origins)

    immutable.forget_unheld()
    before, marked = count(), Marked()
    kept = immutable.rebuilt((old, 1), exchange(old, marked))
    inner = immutable.rebuilt((old, 2), exchange(old, marked))
    outer = immutable.rebuilt((old, (old, 2)), lambda value, _, inner=inner: inner if type(value) is tuple else value)
    immutable.forget_unheld()
    assert count() == before + 3 and outer[1] is inner
    del inner
    immutable.forget_unheld()
    assert count() == before + 3
    del outer
    immutable.forget_unheld()
    assert count() == before + 1 and kept[0] is marked
    there = weakref.ref(marked)
    del kept, marked
    immutable.forget_unheld()
    gc.collect()
    assert count() == before and there() is None
