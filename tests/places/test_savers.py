"""What others have saved of a place, to put it back later: what is not to come back is put right there."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

from ascend_overlay.places import instances, savers
from ascend_overlay.places.target import MISSING


def stock() -> None: ...


def ours() -> None: ...


def theirs() -> None: ...


OWNERS: dict[str, Callable[[], Any]] = {
    "a module": lambda: types.ModuleType("lib"),
    "a class": lambda: type("Thing", (), {}),
    "an object": lambda: type("Thing", (), {})(),
}


def there(owner: Any) -> Any:
    """Return what is in the place."""
    return (owner if isinstance(owner, dict) else vars(owner)).get("run", MISSING)


def by_mock(owner: Any) -> Callable[[], Any]:
    if isinstance(owner, dict):
        patcher: Any = mock.patch.dict(owner, {"run": theirs, "other": theirs})
    else:
        patcher = mock.patch.object(owner, "run", theirs)
    patcher.start()
    return patcher.stop  # type: ignore[no-any-return]


def by_pytest(owner: Any) -> Callable[[], Any]:
    monkeypatch = pytest.MonkeyPatch()
    if isinstance(owner, dict):
        monkeypatch.setitem(owner, "other", theirs)
        monkeypatch.setitem(owner, "run", theirs)
        monkeypatch.setitem(owner, "third", theirs)
    else:
        monkeypatch.setattr(owner, "other", theirs, raising=False)
        monkeypatch.setattr(owner, "run", theirs)
        monkeypatch.setattr(owner, "third", theirs, raising=False)
    return monkeypatch.undo


WAYS = [by_mock, by_pytest]
KINDS = {**OWNERS, "a mapping": dict}


def held(kind: str, name: str = "run") -> Any:
    """Return an owner with `ours` in its place."""
    owner = KINDS[kind]()
    if isinstance(owner, dict):
        owner[name] = ours
    else:
        setattr(owner, name, ours)
    return owner


@pytest.mark.parametrize("new", [stock, MISSING], ids=["another", "nothing"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_saved_is_put_right(kind: str, way: Any, new: Any) -> None:
    owner = held(kind)
    undo = way(owner)
    savers.correct(owner, "run", ours, new)
    assert there(owner) is theirs
    undo()
    assert there(owner) is new
    assert "other" not in (owner if isinstance(owner, dict) else vars(owner))


# what is said to have been saved, which is not so
OTHERS: dict[str, Callable[[Any], tuple[Any, str, Any]]] = {
    "of another owner": lambda owner: (held("an object"), "run", ours),
    "by another name": lambda owner: (owner, "other", ours),
    "another value": lambda owner: (owner, "run", stock),
}


@pytest.mark.parametrize("case", OTHERS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_else_was_saved_stays(kind: str, way: Any, case: str) -> None:
    owner = held(kind)
    undo = way(owner)
    savers.correct(*OTHERS[case](owner), stock)
    undo()
    assert there(owner) is ours


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_two_that_saved_it_one_after_the_other(kind: str, way: Any) -> None:
    owner = held(kind)
    first = way(owner)
    second = way(owner)
    savers.correct(owner, "run", ours, stock)
    second()
    assert there(owner) is theirs
    first()
    assert there(owner) is stock


def test_tuples_and_dicts_of_the_same_look_are_left_alone() -> None:
    owner = held("an object")
    longer, loose = [(owner, "run", ours, 1)], (owner, "run", ours)
    looks: list[Any] = [{"temp_original": ours, "target": owner}, {"in_dict": owner, "_original": [("run", ours)]}]
    before = [dict(look) for look in looks]
    savers.correct(owner, "run", ours, stock)
    assert longer == [(owner, "run", ours, 1)] and loose == (owner, "run", ours)
    assert looks == before


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list of which classes' instances were asked for."""
    asked: list[Any] = []
    instances = savers.instances
    monkeypatch.setattr(
        savers, "instances", lambda kinds, parts: asked.extend(name for _, name in kinds) or instances(kinds, parts)
    )
    return asked


@pytest.mark.parametrize("way", WAYS)
def test_several_places_are_put_right_at_once(way: Any, looks: list[Any]) -> None:
    owners = [held(kind) for kind in KINDS]
    undos = [way(owner) for owner in owners]
    with savers.together():
        for owner in owners:
            savers.correct(owner, "run", ours, stock)
        assert not looks
    assert looks == ["_patch_dict", "_patch_dict", "MonkeyPatch", "_patch", "_patch"]
    for owner, undo in zip(owners, undos, strict=True):
        undo()
        assert there(owner) is stock


def test_who_saves_attributes_is_not_asked_for_where_there_are_none(looks: list[Any]) -> None:
    savers.correct(held("a mapping"), "run", ours, stock)
    assert looks == ["_patch_dict", "_patch_dict", "MonkeyPatch"]


def test_a_mapping_with_attributes() -> None:
    class Mapping(dict[str, Any]):
        run: Any = None

    owner = Mapping()
    owner.run = ours
    undo = by_mock_of_attribute(owner)
    savers.correct(owner, "run", ours, stock)
    undo()
    assert owner.run is stock


def by_mock_of_attribute(owner: Any) -> Callable[[], Any]:
    patcher: Any = mock.patch.object(owner, "run", theirs)
    patcher.start()
    return patcher.stop  # type: ignore[no-any-return]


def test_where_nobody_saves_anything_the_heap_is_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "_searched", lambda family: pytest.fail(f"it was searched for {family}"))
    monkeypatch.setattr(savers, "_OF_BOTH", ())  # pytest has made some for itself
    savers.correct(held("a mapping"), "run", ours, stock)


def test_what_was_interrupted_is_put_right_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    owner, other = held("a class"), held("a class")
    undo = by_mock(owner)

    def interrupted(kinds: Any, parts: Any) -> list[Any]:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(savers, "instances", interrupted)
        with pytest.raises(KeyboardInterrupt), savers.together():
            savers.correct(owner, "run", ours, stock)
    savers.correct(other, "run", ours, stock)
    undo()
    assert there(owner) is stock


def test_nothing_is_looked_for_where_there_is_no_correction(looks: list[Any]) -> None:
    with savers.together():
        pass
    assert not looks
