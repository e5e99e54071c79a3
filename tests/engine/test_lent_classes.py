"""What a program sets by hand on a class `subclass` lends to it: said while that is in force, kept when it goes."""

from __future__ import annotations

import functools
import importlib
import sys
import textwrap
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import wrapt

import ascend_overlay
from ascend_overlay import Overlay

FILES = {
    "lib.py": """
        class Queue:
            limit = 1
            def peek(self): return "stock"
            def other(self): return "stock"
            @property
            def size(self): return "stock"
            @staticmethod
            def make(): return "stock"
            @classmethod
            def named(cls): return "stock"
        class Derived(Queue): pass
    """,
    "ours.py": """
        import lib
        class Ours(lib.Queue):
            hits = 0
            def peek(self): return f"ours over {super().peek()}"
            @property
            def size(self): return f"ours over {super().size}"
            @staticmethod
            def make(): return "ours over stock"
            @classmethod
            def named(cls): return f"ours over {super().named()}"
            def note(self): type(self).hits += 1
    """,
}


def use(lib: Any) -> dict[str, object]:
    """Return what each member of the class does."""
    queue = lib.Queue()
    return {
        **{name: getattr(queue, name)() for name in ("peek", "other", "make", "named")},
        **{name: getattr(queue, name) for name in ("size", "limit")},
        "derived": lib.Derived().peek(),
    }


STOCK = dict.fromkeys(("peek", "other", "make", "named", "size", "derived"), "stock") | {"limit": 1}


@pytest.fixture
def lib(site: Any, offer: Any) -> Any:
    site.write(FILES)
    overlay = Overlay("one", reason="a test")
    overlay.subclass("lib:Queue", "ours:Ours")
    offer(overlay)
    return importlib.import_module("lib")


def around(before: Any) -> Callable[..., str]:
    """Return a function that goes around a method, as a program writes one."""

    def theirs(self: Any) -> str:
        return f"theirs over {before(self)}"

    return theirs


FRESH: dict[str, tuple[str, Any, object]] = {
    "a method": ("peek", lambda self: "theirs", "theirs"),
    "a method that ours leaves alone": ("other", lambda self: "theirs", "theirs"),
    "a property": ("size", property(lambda self: "theirs"), "theirs"),
    "a static method": ("make", staticmethod(lambda: "theirs"), "theirs"),
    "a class method": ("named", classmethod(lambda cls: "theirs"), "theirs"),
    "a number": ("limit", 2, 2),
}


def entry() -> Any:
    (found,) = ascend_overlay.ledger()
    return found


@pytest.mark.parametrize("kind", FRESH)
def test_what_is_set_stays_in_force(lib: Any, kind: str) -> None:
    name, value, result = FRESH[kind]
    ascend_overlay.enable()
    setattr(lib.Queue, name, value)
    assert use(lib)[name] == result
    displaced = name not in ("other", "limit")
    assert entry().state == ("displaced" if displaced else "applied")
    if displaced:
        assert f"ours.Ours.{name}" in str(entry()), entry()
        assert "stands in place of this patch" in str(entry())
    ascend_overlay.disable()
    derived = {"derived": "theirs"} if name == "peek" else {}
    assert use(lib) == STOCK | {name: result} | derived
    assert use(lib)["peek"] != "theirs" or "peek" in vars(lib.Queue)
    ours: Any = importlib.import_module("ours").Ours
    assert vars(ours).get(name) is not value, "the implementation is as it was written"


def test_what_goes_around_ours_goes_around_the_original_then(lib: Any) -> None:
    ascend_overlay.enable()
    lib.Queue.peek = around(lib.Queue.peek)
    assert use(lib)["peek"] == "theirs over ours over stock"
    assert entry().state == "applied"
    assert "goes around this patch" in str(entry())
    ascend_overlay.disable()
    assert use(lib) == STOCK | {"peek": "theirs over stock", "derived": "theirs over stock"}
    ascend_overlay.enable()
    assert use(lib)["peek"] == "ours over theirs over stock"


def test_what_is_removed_is_removed(lib: Any) -> None:
    ascend_overlay.enable()
    del lib.Queue.make
    assert entry().state == "displaced"
    ascend_overlay.disable()
    assert not hasattr(lib.Queue, "make")


def test_what_ours_notes_in_its_own_class_is_no_change_by_hand(lib: Any) -> None:
    ascend_overlay.enable()
    lib.Queue().note()
    assert entry().state == "applied"
    ascend_overlay.disable()
    assert not hasattr(lib.Queue, "hits")
    assert importlib.import_module("ours").Ours.hits == 1


def test_what_takes_over_the_names_of_ours_is_theirs_all_the_same(lib: Any) -> None:
    ascend_overlay.enable()
    before = lib.Queue.peek

    @functools.wraps(before)
    def theirs(self: Any) -> str:
        return f"theirs over {before(self)}"

    lib.Queue.peek = theirs
    lib.Queue.size = lib.Queue.size.setter(lambda self, value: None)
    wrapt.wrap_function_wrapper(lib, "Queue.named", lambda wrapped, instance, args, kwargs: f"theirs over {wrapped()}")
    assert all(f"ours.Ours.{name}" in str(entry()) for name in ("peek", "size", "named"))
    ascend_overlay.disable()
    lib.Queue().size = 5
    assert use(lib)["peek"] == "theirs over stock"
    assert use(lib)["named"] == "theirs over stock"
    ours: Any = importlib.import_module("ours").Ours
    assert not any(getattr(value, "__code__", None) is theirs.__code__ for value in vars(ours).values())


def test_what_marks_a_class_as_patched_by_hand_goes_with_the_patch(lib: Any) -> None:
    ascend_overlay.enable()
    lib.Queue.patched_by_us, lib.Queue.other = True, lambda self: "theirs"
    ascend_overlay.disable()
    assert lib.Queue.patched_by_us and use(lib)["other"] == "theirs"
    assert "patched_by_us" not in vars(importlib.import_module("ours").Ours)


@pytest.mark.parametrize("name", ["peek", "other"])
@pytest.mark.parametrize("last", [["one"], ["two"], ["one", "two"], None])
def test_another_overlay_that_comes_later_goes_around_theirs(
    lib: Any, offer: Any, name: str, last: list[str] | None
) -> None:
    second = Overlay("two", reason="a test")
    second.wrap(f"lib:Queue.{name}")(lambda wrapped, instance, args, kwargs: f"wrapped {wrapped(*args, **kwargs)}")
    offer(second)
    ascend_overlay.enable(only=["one"])
    setattr(lib.Queue, name, lambda self: "theirs")
    ascend_overlay.enable(only=["one", "two"])
    assert use(lib)[name] == "wrapped theirs"
    if name == "peek":
        (first,) = ascend_overlay.ledger().of("one")
        assert first.state == "displaced" and "ours.Ours.peek" in str(first)
    ascend_overlay.disable(only=last)
    assert str(use(lib)[name]).endswith("theirs")
    ascend_overlay.disable()
    assert use(lib)[name] == "theirs"
    ours: Any = importlib.import_module("ours").Ours
    assert vars(lib.Queue)[name] not in vars(ours).values()


def test_an_inherited_member_that_monkeypatch_removes_comes_back(site: Any, offer: Any) -> None:
    text = FILES["lib.py"].replace("class Queue:", "class Base:").replace("class Derived(Queue)", "class Queue(Base)")
    site.write({"lib.py": text, "ours.py": FILES["ours.py"]})
    overlay = Overlay("one", reason="a test")
    overlay.subclass("lib:Queue", "ours:Ours")
    offer(overlay)
    lib: Any = importlib.import_module("lib")
    ascend_overlay.enable()
    patcher = pytest.MonkeyPatch()
    patcher.delattr(lib.Queue, "peek")
    assert lib.Queue().peek() == "stock"
    ascend_overlay.disable()
    patcher.undo()
    assert lib.Queue().peek() == "stock" and "peek" not in vars(lib.Queue)
    ascend_overlay.enable()
    assert lib.Queue().peek() == "ours over stock"


def by_hand(owner: Any, name: str) -> Callable[[], object]:
    before = vars(owner)[name]
    setattr(owner, name, lambda self: "theirs")
    return lambda: setattr(owner, name, before)


def by_mock(owner: Any, name: str) -> Callable[[], object]:
    patcher = mock.patch.object(owner, name, lambda self: "theirs")
    patcher.start()
    return patcher.stop


def by_monkeypatch(owner: Any, name: str) -> Callable[[], object]:
    patcher = pytest.MonkeyPatch()
    patcher.setattr(owner, name, lambda self: "theirs")
    return patcher.undo


WAYS = {"by hand": by_hand, "mock.patch": by_mock, "monkeypatch": by_monkeypatch}
ENABLE, CHANGE, UNDO, DISABLE = "enable", "change", "undo", "disable"
ORDERS = [
    (ENABLE, CHANGE, UNDO, DISABLE),
    (ENABLE, CHANGE, DISABLE, UNDO),
    (CHANGE, ENABLE, UNDO, DISABLE),
    (CHANGE, ENABLE, DISABLE, UNDO),
    (ENABLE, CHANGE, DISABLE, ENABLE, UNDO, DISABLE),
    (ENABLE, CHANGE, DISABLE, ENABLE, DISABLE, UNDO),
    (CHANGE, ENABLE, DISABLE, ENABLE, UNDO, DISABLE),
]


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["peek", "other"])
def test_in_any_order_the_world_ends_as_it_was(lib: Any, name: str, way: str, order: tuple[str, ...]) -> None:
    stock = dict(vars(lib.Queue))
    if name == "other" and way == "by hand" and order[0] == ENABLE:
        pytest.skip("ours has no such member of its own, whose value a program could save from its namespace")
    undo: Callable[[], object] = ascend_overlay.disable
    changed = False
    for step in order:
        if step == CHANGE:
            undo, changed = WAYS[way](lib.Queue, name), True
        elif step == UNDO:
            undo()
            changed = False
        else:
            getattr(ascend_overlay, step)()
        assert ("theirs" in str(use(lib)[name])) == changed, step
    assert use(lib) == STOCK
    assert {key: value for key, value in vars(lib.Queue).items() if stock.get(key) is not value} == {}
    assert set(vars(lib.Queue)) == set(stock)


def test_a_member_that_another_overlay_wraps(lib: Any, offer: Any) -> None:
    second = Overlay("two", reason="a test")
    second.wrap("lib:Queue.peek")(lambda wrapped, instance, args, kwargs: f"wrapped({wrapped(*args, **kwargs)})")
    offer(second)
    ascend_overlay.enable()
    assert use(lib)["peek"] == "wrapped(ours over stock)"
    lib.Queue.peek = around(lib.Queue.peek)
    assert use(lib)["peek"] == "theirs over wrapped(ours over stock)"
    ascend_overlay.disable(only=["one"])
    assert use(lib)["peek"] == "wrapped(theirs over stock)"
    ascend_overlay.disable()
    assert use(lib)["peek"] == "theirs over stock"


HELD = {
    "a closure": "def keep(held):\n    return lambda: held\nkept = keep(lib.Queue)\nget = lambda: kept()",
    "an attribute": "class Keeper: pass\nkeeper = Keeper()\nkeeper.held = lib.Queue\nget = lambda: keeper.held",
    "a slot": "class Keeper: __slots__ = 'held'\nkeeper = Keeper()\nkeeper.held = lib.Queue\nget = lambda: keeper.held",
    "a list": "kept = [lib.Queue]\nget = lambda: kept[0]",
    "a tuple": "kept = (lib.Queue,)\nget = lambda: kept[0]",
}


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("changes", [False, True])
def test_who_was_lent_the_class_has_the_original_when_it_goes(lib: Any, site: Any, held: str, changes: bool) -> None:
    ascend_overlay.enable()
    ours: Any = importlib.import_module("ours").Ours
    site.write({"holder.py": f"import lib\n{HELD[held]}\n"})
    holder: Any = importlib.import_module("holder")
    assert holder.get() is ours
    if changes:
        holder.get().peek = lambda self: "theirs"
    ascend_overlay.disable()
    if not changes and held in ("a closure", "an attribute", "a slot"):
        # It may be somebody's who means the implementation.
        assert holder.get() is ours
        assert any("holder" in text for text in entry().stale)
    else:
        assert holder.get() is lib.Queue
    assert lib.Queue is not ours


def test_a_package_has_its_own_class_for_good(site: Any, offer: Any) -> None:
    files = {"lib.py": FILES["lib.py"], "mine/__init__.py": "", "mine/ours.py": FILES["ours.py"]}
    keeps = "from mine.ours import Ours\ndef keep(held):\n    return lambda: held\nget = keep(Ours)\n"
    site.write(files | {"mine/registry.py": keeps})
    overlay = Overlay("one", reason="a test")
    overlay.subclass("lib:Queue", "mine.ours:Ours")
    offer(overlay)
    importlib.import_module("lib")
    ascend_overlay.enable()
    registry: Any = importlib.import_module("mine.registry")
    sys.modules["lib"].Queue.peek = lambda self: "theirs"  # type: ignore[attr-defined]
    ascend_overlay.disable()
    assert registry.get() is registry.Ours is importlib.import_module("mine.ours").Ours


@pytest.mark.parametrize(("name", "value"), [("__doc__", "theirs"), ("__hash__", None)])
def test_what_only_a_program_sets_afterwards_is_by_hand(lib: Any, name: str, value: Any) -> None:
    ours = importlib.import_module("ours").Ours
    ascend_overlay.enable()
    before = vars(ours).get(name)
    setattr(lib.Queue, name, value)
    ascend_overlay.disable()
    assert vars(lib.Queue)[name] == value and lib.Queue is not ours
    assert vars(ours).get(name) == before


def test_what_counts_as_the_implementations_own_is_named(site: Any, engine: object) -> None:
    site.write({**FILES, "ours.py": f"{textwrap.dedent(FILES['ours.py'])}def beside(self): return 'beside'\n"})
    lib, ours = importlib.import_module("lib"), importlib.import_module("ours")
    overlay = Overlay("lending", reason="a test")
    overlay.subclass("lib:Queue", "ours:Ours")
    ascend_overlay.enable(overlay, propagate=False)
    assert ascend_overlay.ledger().of("lending")[-1].notes == []
    lib.Queue.other = ours.beside
    assert lib.Queue().other() == "beside"
    (note,) = ascend_overlay.ledger().of("lending")[-1].notes
    assert note.startswith("ours.Ours.other, set meanwhile with a function of ours: it counts as the implementation's")
    ascend_overlay.disable()
    (stale,) = ascend_overlay.ledger().of("lending")[-1].stale
    assert stale == "ours.Ours.other, set meanwhile with a function of ours, went with the class"
    assert use(lib) == STOCK
