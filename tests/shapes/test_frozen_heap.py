"""vLLM freezes the heap of a process once it is up (gc.freeze): copies must be found all the same, and stay frozen."""

from __future__ import annotations

import gc
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.hooks import hookimpl

overlay = Overlay("frozen_heap", reason="the copies of a process that is up", default=False)


@overlay.wrap("frozen_target:function")
def doubled(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return 2 * wrapped(*args, **kwargs)


@hookimpl
def ascend_overlay_overlays() -> Iterable[Overlay]:
    return [overlay]


@pytest.fixture
def holder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    target, other = types.ModuleType("frozen_target"), types.ModuleType("frozen_holder")
    exec("def function(x): return x", vars(target))
    vars(other).update(copy=target.function, table={"deep": [target.function]})
    monkeypatch.setitem(sys.modules, "frozen_target", target)
    monkeypatch.setitem(sys.modules, "frozen_holder", other)
    gc.freeze()
    yield other
    gc.unfreeze()


def test_copies_in_a_frozen_heap_are_re_bound_and_restored(holder: Any) -> None:
    original, frozen = holder.copy, gc.get_freeze_count()
    with ascend_overlay.enabled(load=[__name__], only=["frozen_heap"], propagate=False):
        assert holder.copy(2) == 4
        assert holder.table["deep"][0](2) == 4
        assert gc.get_freeze_count() >= frozen
    assert holder.copy is original
    assert holder.table["deep"][0] is original
