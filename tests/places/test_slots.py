"""Slots: places, the changes on them in any order, and what others put there meanwhile."""

from __future__ import annotations

import itertools
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from ascend_overlay.places.slots import Attribute, Change, Detached, Item, Slot, Slots, Storage
from ascend_overlay.places.target import MISSING


class Guarded(type):
    def __setattr__(cls, name: str, value: Any) -> None:
        raise AttributeError("nothing is changed here")

    def __delattr__(cls, name: str) -> None:
        raise AttributeError("nothing is removed here")


class Thing(metaclass=Guarded):
    inherited = 0


class Derived(Thing): ...


class Plain: ...


OWNERS: dict[str, Callable[[], Storage]] = {
    "a module": lambda: Attribute(types.ModuleType("lib"), "name"),
    "an object": lambda: Attribute(Plain(), "name"),
    "a class with a metaclass": lambda: Attribute(Derived, "name"),
    "an entry": lambda: Item({"other": 1}, "name"),
    "a place that is no more": lambda: Detached(Plain(), "name", [MISSING]),
}


@pytest.mark.parametrize("kind", OWNERS)
def test_storages(kind: str) -> None:
    storage = OWNERS[kind]()
    assert storage.get() is MISSING and storage.name == ("'name'" if kind == "an entry" else "name")
    storage.put(1)
    assert storage.get() == 1
    storage.put(2)
    assert storage.get() == 2
    storage.delete()
    assert storage.get() is MISSING


def test_what_is_inherited_is_not_held() -> None:
    assert Attribute(Derived, "inherited").get() is MISSING


@dataclass(eq=False, kw_only=True)
class Around(Change):
    mark: str = ""

    def value(self, inner: Any) -> Any:
        return Value(self.mark, inner)


@dataclass(eq=False, kw_only=True)
class Decides(Change):
    decides: bool = True
    mark: str = ""

    def value(self, inner: Any) -> Any:
        return Value(self.mark, None)


class Value:
    def __init__(self, mark: str, inner: Any) -> None:
        self.mark, self.inner = mark, inner

    def __call__(self) -> str:
        return f"{self.mark}({self.inner() if self.inner is not None else ''})"


def stock() -> str:
    return "stock"


def theirs() -> str:
    return "theirs"


@pytest.fixture(params=["an attribute", "an entry"])
def slot(request: pytest.FixtureRequest) -> Slot:
    if request.param == "an entry":
        return Slot(Item({"run": stock}, "run"))
    module: Any = types.ModuleType("lib")
    module.run = stock
    return Slot(Attribute(module, "run"))


def changes() -> dict[str, Change]:
    return {
        "a": Around(rank=1, whose="a", mark="a"),
        "b": Around(rank=2, whose="b", mark="b"),
        "d": Decides(rank=3, whose="d", mark="d"),
    }


EXPECTED = {"": "stock", "a": "a(stock)", "b": "b(stock)", "d": "d()", "ab": "b(a(stock))", "ad": "a(d())"}
EXPECTED |= {"bd": "b(d())", "abd": "b(a(d()))"}


@pytest.mark.parametrize("coming", ["".join(order) for order in itertools.permutations("abd")])
@pytest.mark.parametrize("going", ["".join(order) for order in itertools.permutations("abd")])
def test_in_any_order(slot: Slot, coming: str, going: str) -> None:
    known, there = changes(), ""

    def check() -> None:
        now = "".join(sorted(there))
        assert slot.storage.get()() == EXPECTED[now] and slot.is_met() and slot.foreign() is None
        assert slot.installed is slot.storage.get() and slot.original is stock is slot.under
        assert slot.decider is (known["d"] if "d" in now else None)
        assert slot.wrappers == [known[name] for name in now if name != "d"]
        assert {change.whose for change in slot.changes} == set(now)

    for name in coming:
        slot.add(known[name])
        there += name
        check()
    for name in going:
        slot.remove(known[name])
        there = there.replace(name, "")
        check()
        slot.remove(known[name])
        check()
    assert slot.storage.get() is stock and not slot.is_free
    slot.swept()
    assert slot.is_free


def test_on_what_somebody_put_there(slot: Slot) -> None:
    known = changes()
    slot.add(known["a"])
    slot.storage.put(theirs)
    assert slot.foreign() is theirs and not slot.is_met()
    slot.add(known["b"])
    assert slot.storage.get()() == "b(theirs)" and slot.foreign() is None and len(slot.storeys) == 2
    assert slot.under is theirs and slot.original is stock
    slot.swept()
    lower = slot.storeys[0].installed
    slot.remove(known["a"])
    assert slot.storage.get()() == "b(theirs)"
    assert any(stray.value is lower for stray in slot.strays), "others may hold it"
    slot.remove(known["b"])
    assert slot.storage.get() is theirs and len(slot.storeys) == 1


def test_under_what_somebody_put_there(slot: Slot) -> None:
    known = changes()
    slot.add(known["a"])
    slot.storage.put(theirs)
    slot.remove(known["a"])
    assert slot.storage.get() is theirs and slot.changes == []


@pytest.mark.parametrize("last", ["a", "b"])
def test_what_they_had_put_there_has_gone(slot: Slot, last: str) -> None:
    known = changes()
    slot.add(known["a"])
    ours = slot.storage.get()
    slot.storage.put(theirs)
    assert not slot.fold() and not slot.mend()
    slot.add(known["b"])
    assert not slot.fold()
    upper = slot.storage.get()
    slot.swept()
    slot.storage.put(ours)
    assert slot.fold() and len(slot.storeys) == 1 and slot.is_met() and not slot.fold()
    assert slot.storage.get()() == "b(a(stock))"
    assert any(stray.value is upper for stray in slot.strays), "others may hold it"
    for name in ("b", "a") if last == "a" else ("a", "b"):
        slot.remove(known[name])
    assert slot.storage.get() is stock


def test_an_earlier_value_of_ours_is_mended(slot: Slot) -> None:
    known = changes()
    slot.add(known["a"])
    earlier = slot.storage.get()
    slot.add(known["b"])
    assert not slot.mend()
    slot.storage.put(earlier)
    assert slot.foreign() is None and not slot.is_met() and slot.mend() and slot.is_met()
    assert slot.storage.get()() == "b(a(stock))"


def test_a_value_of_ours_that_comes_back_is_taken_back(slot: Slot) -> None:
    known = changes()
    slot.add(known["a"])
    ours = slot.storage.get()
    assert not slot.take_back()
    slot.remove(known["a"])
    assert not slot.take_back()
    slot.storage.put(theirs)
    assert not slot.take_back() and slot.storage.get() is theirs
    slot.storage.put(ours)
    assert slot.take_back() and slot.storage.get() is stock
    slot.add(known["b"])
    second = slot.storage.get()
    slot.remove(known["b"])
    slot.swept()
    for each in (second, ours):
        slot.storage.put(each)
        assert slot.take_back() and slot.storage.get() is stock


def test_a_place_that_held_nothing(slot: Slot) -> None:
    slot.storage.delete()
    empty, change = Slot(slot.storage), Decides(rank=1, whose="d", mark="d")
    empty.add(change)
    assert empty.storage.get()() == "d()"
    empty.remove(change)
    assert empty.storage.get() is MISSING
    empty.remove(change)
    assert empty.storage.get() is MISSING


def test_removed_by_somebody(slot: Slot) -> None:
    change = changes()["a"]
    slot.add(change)
    slot.storage.delete()
    assert slot.foreign() is MISSING
    slot.remove(change)
    assert slot.storage.get() is MISSING


def test_a_constant_of_ours_is_known_only_while_it_may_be(slot: Slot) -> None:
    """That somebody else has the same number is chance."""

    @dataclass(eq=False, kw_only=True)
    class Number(Decides):
        def value(self, inner: Any) -> Any:
            return 12345

    change = Number(rank=1, whose="n")
    slot.add(change)
    slot.remove(change)
    slot.swept()
    slot.add(changes()["a"])
    slot.swept()
    slot.storage.put(12345)
    assert slot.foreign() == 12345


def test_slots_by_place() -> None:
    module: Any = types.ModuleType("lib")
    module.run = module.again = stock
    slots = Slots()
    one = slots.at(Attribute(module, "run"))
    assert slots.at(Attribute(module, "run")) is one and list(slots) == [one]
    assert slots.at(Attribute(module, "again")) is one, "another name of the same function"
    change = changes()["a"]
    one.add(change)
    module.user = one.installed
    assert slots.at(Attribute(module, "user")) is one
    slots.release(one)
    assert list(slots) == [one]
    one.remove(change)
    one.swept()
    slots.release(one)
    assert list(slots) == []


def test_two_members_of_a_class_are_apart() -> None:
    class Thing:
        def first(self) -> None: ...

        second = first

    slots = Slots()
    one, table = slots.at(Attribute(Thing, "first")), {"key": vars(Thing)["first"]}
    assert slots.at(Item(table, "key")) is slots.at(Item(table, "key")) is not one
    change = changes()["a"]
    one.add(change)
    assert slots.at(Attribute(Thing, "second")) is not one
    one.remove(change)
    one.swept()
    slots.release_free()
    assert list(slots) == []


def test_by_name_alone_it_is_another_place() -> None:
    module: Any = types.ModuleType("lib")
    module.run = module.again = stock
    slots, change = Slots(), Decides(rank=1, whose="d", mark="d", by_name=True)
    one = slots.at(Attribute(module, "run"))
    one.add(change)
    assert slots.at(Attribute(module, "again")) is not one


def test_a_place_that_is_left_to_another() -> None:
    module: Any = types.ModuleType("lib")
    module.run = stock
    slots, change = Slots(), changes()["a"]
    one = slots.at(Attribute(module, "run"))
    one.add(change)
    ours = module.run
    module.run = theirs
    slots.detach(one)
    slots.detach(one)
    assert list(slots) == [] and one.is_met() and one.storage.get() is ours
    another = slots.at(Attribute(module, "run"))
    assert another is not one and another.original is theirs
    one.remove(change)
    assert module.run is theirs and one.storage.get() is stock


def test_the_function_itself_leads_to_the_changes() -> None:
    def run() -> str:
        return "stock"

    module: Any = types.ModuleType("lib")
    module.run = run
    slot, change = Slot(Attribute(module, "run")), changes()["a"]
    assert not slot.redirect(slot.storeys[0])
    slot.add(change)
    code = run.__code__
    assert slot.redirect(slot.storeys[0]) and slot.redirect(slot.storeys[0])
    assert run() == module.run() == "a(stock)" and slot.foreign_code() is None
    run.__code__ = theirs.__code__
    assert slot.foreign_code() is theirs.__code__
    run.__code__ = code
    slot.remove(change)
    assert module.run is run and run() == "stock" and run.__code__ is code


class Interrupted(Attribute):
    """A place whose change is interrupted."""

    left = 0
    done = True

    def put(self, value: Any) -> None:
        if self.done:
            super().put(value)
        if Interrupted.left:
            Interrupted.left -= 1
            raise KeyboardInterrupt
        super().put(value)


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("there", ["", "a"])
def test_a_change_that_was_interrupted_is_taken_back(monkeypatch: pytest.MonkeyPatch, done: bool, there: str) -> None:
    monkeypatch.setattr(Interrupted, "done", done)
    module: Any = types.ModuleType("lib")
    module.run = stock
    slot, known = Slot(Interrupted(module, "run")), changes()
    for name in there:
        slot.add(known[name])
    monkeypatch.setattr(Interrupted, "left", 1)
    with pytest.raises(KeyboardInterrupt):
        slot.add(known["b"])
    slot.remove(known["b"])
    assert module.run() == EXPECTED[there] and slot.is_met()
    monkeypatch.setattr(Interrupted, "left", 1)
    if there:
        with pytest.raises(KeyboardInterrupt):
            slot.remove(known["a"])
        slot.remove(known["a"])
    assert module.run is stock


@dataclass(eq=False, kw_only=True)
class Calling(Change):
    """Puts something in its place by itself, and is interrupted in the middle of that."""

    slot: Slot
    decides: bool = True

    def value(self, inner: Any) -> Any:
        self.slot.storage.put(theirs)
        raise KeyboardInterrupt


@pytest.mark.parametrize("busy", [True, False])
def test_what_a_change_put_there_by_itself_goes_with_it(slot: Slot, busy: bool) -> None:
    change = Calling(rank=1, whose="c", slot=slot, busy=busy)
    with pytest.raises(KeyboardInterrupt):
        slot.add(change)
    slot.remove(change)
    # What is there may have been put there by anybody, where the change says nothing of itself.
    assert slot.storage.get() is (stock if busy else theirs) and slot.changes == []


@dataclass(eq=False, kw_only=True)
class Stepping(Change):
    """Steps aside where it is asked to, and comes to another value then."""

    willing: bool = True
    number: int = 0

    def __post_init__(self) -> None:
        self.asked: list[tuple[Any, Any]] = []

    def value(self, inner: Any) -> Any:
        return made[self, self.number, inner]

    def step_aside(self, value: Any, inner: Any) -> bool:
        self.asked.append((value, inner))
        return self.willing

    def make_anew(self) -> None:
        self.number += 1


class Made(dict[Any, Any]):
    """What a change comes to, always the same for the same."""

    def __missing__(self, key: Any) -> Any:
        value = self[key] = Value(f"s{key[1]}", key[2])
        return value


made = Made()


def stray_of(slot: Slot, value: Any) -> Any:
    return next(stray for stray in slot.strays if stray.value is value)


def test_a_value_that_somebody_keeps_steps_aside(slot: Slot) -> None:
    change, around = Stepping(rank=1, whose="s"), changes()["b"]
    slot.add(change)
    ours = slot.installed
    assert not slot.put_aside(stray_of(slot, ours)), "it is in place"
    assert not slot.put_aside(stray_of(slot, stock)), "no change has made it"
    slot.remove(change)
    stray = stray_of(slot, ours)
    assert slot.put_aside(stray) and change.asked == [(ours, stock)] and change.number == 0
    assert slot.put_aside(stray) and change.asked == [(ours, stock)], "it has done so"
    slot.add(around)
    assert change.asked[1:] == [(ours, slot.installed)], "it follows what is in place"


def test_a_value_that_is_a_part_of_what_is_in_place_steps_aside_for_another(slot: Slot) -> None:
    change, around = Stepping(rank=1, whose="s"), changes()["b"]
    slot.add(change)
    inner = slot.installed
    slot.add(around)
    assert slot.put_aside(stray_of(slot, inner))
    assert change.number == 1 and slot.installed() == "b(s1(stock))" and slot.is_met()
    assert change.asked[-1] == (inner, slot.installed)


def test_a_change_that_does_not_step_aside(slot: Slot) -> None:
    change = Stepping(rank=1, whose="s", willing=False)
    slot.add(change)
    ours = slot.installed
    slot.remove(change)
    assert not slot.put_aside(stray_of(slot, ours)) and not slot.put_aside(stray_of(slot, ours))
    assert change.asked == [(ours, stock)] * 2
    assert not Change(rank=1, whose="c").step_aside(ours, stock)


def swaps(slot: Slot) -> set[tuple[Any, Any, Any]]:
    return {(swap.old, swap.new, swap.only) for swap in slot.swaps()}


def test_what_holders_are_to_have_instead() -> None:
    module: Any = types.ModuleType("lib")
    module.run = stock
    slot, known = Slot(Attribute(module, "run")), changes() | {"a": Stepping(rank=1, whose="s")}
    homes = known["b"].homes = frozenset({"ours"})
    slot.add(known["a"])
    inner = slot.installed
    assert swaps(slot) == {(stock, inner, None)}
    slot.swept()
    assert swaps(slot) == set()
    slot.add(known["b"])
    outer = slot.installed
    # The implementation of the outer one goes on with what that is around.
    assert swaps(slot) == {(inner, outer, None), (stock, outer, None), (outer, inner, homes), (stock, inner, homes)}
    assert {swap.kept for swap in slot.swaps() if swap.only is None} == {homes}
    assert not any(swap.restoring or swap.borrowed or swap.by_name for swap in slot.swaps())
    slot.remove(known["b"])
    slot.remove(known["a"])
    back = slot.swaps()
    assert {(swap.old, swap.new, swap.only) for swap in back} == {(inner, stock, None), (outer, stock, None)}
    assert all(swap.restoring and swap.owner is module and swap.name == "run" for swap in back)
    entry = Slot(Item({"run": stock}, "run"))
    entry.add(changes()["a"])
    assert entry.swaps() == []


def test_what_is_lent_is_said_to_be() -> None:
    module: Any = types.ModuleType("lib")
    module.run = stock
    slot = Slot(Attribute(module, "run"))
    change = Decides(rank=1, whose="d", mark="d", by_name=True, borrowed=True, homes=frozenset({"ours"}))
    slot.add(change, shared=False)
    lent = slot.installed
    (swap,) = [swap for swap in slot.swaps() if swap.only is None]
    assert (swap.old, swap.new, swap.by_name, swap.borrowed, swap.shared) == (stock, lent, True, False, False)
    slot.remove(change)
    (swap,) = slot.swaps()
    assert (swap.old, swap.new, swap.borrowed, swap.restoring) == (lent, stock, True, True)


def test_what_is_in_a_static_method_is_held_too() -> None:
    class Thing:
        run = staticmethod(stock)

    @dataclass(eq=False, kw_only=True)
    class Static(Decides):
        def value(self, inner: Any) -> Any:
            return both[0]

    both = [staticmethod(theirs), classmethod(theirs)]
    slot, change = Slot(Attribute(Thing, "run")), Static(rank=1, whose="s")
    before = vars(Thing)["run"]
    slot.add(change)
    assert swaps(slot) == {(before, both[0], None), (stock, theirs, None)}
    slot.remove(change)
    slot.swept()
    both.reverse()
    slot.add(change)
    assert swaps(slot) == {(before, both[0], None)}, "of another kind"


def test_constants_are_nobody_elses() -> None:
    module: Any = types.ModuleType("lib")
    module.size = 1
    slot = Slot(Attribute(module, "size"))
    slot.add(changes()["d"])
    assert slot.swaps() == []
