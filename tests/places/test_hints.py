"""Type hints: what is inside of them is found, and exchanged, wherever it is."""

from __future__ import annotations

import collections.abc
from typing import Annotated, Any, Callable, Concatenate, List, Optional, ParamSpec, Union  # noqa: UP035

import pytest

from ascend_overlay.places import hints

P = ParamSpec("P")


class Old: ...


class New: ...


def of(part: Any) -> list[Any]:
    """Return hints of all sorts that have `part` inside."""
    return [
        part,
        list[part],
        List[part],  # noqa: UP006
        dict[str, part],
        tuple[part, ...],
        type[part],
        part | None,
        Optional[part],  # noqa: UP045
        Union[int, list[part]],  # noqa: UP007
        Annotated[part, "kept"],
        collections.abc.Callable[[part], int],
        collections.abc.Callable[[int, list[part]], part],
        collections.abc.Callable[..., part],
        collections.abc.Callable[[], part],
        Callable[[part], int],
        Callable[..., part],
        Callable[Concatenate[part, P], int],
        Optional[Callable[[part], None]],  # noqa: UP045
        dict[str, collections.abc.Callable[[part], part]],
    ]


CASES = list(zip(of(Old), of(New), strict=True))


@pytest.mark.parametrize(("old", "new"), CASES, ids=[str(old) for old, _ in CASES])
def test_what_is_inside_is_exchanged(old: Any, new: Any) -> None:
    assert any(part is Old for part in hints.parts(old))
    exchanged = hints.exchanged(old, lambda part: New if part is Old else part)
    assert exchanged == new


@pytest.mark.parametrize("hint", of(Old), ids=str)
def test_what_has_nothing_to_exchange_stays_the_object_that_it_is(hint: Any) -> None:
    assert hints.exchanged(hint, lambda part: New if part is bytes else part) is hint
    assert not any(part is New for part in hints.parts(hint))
