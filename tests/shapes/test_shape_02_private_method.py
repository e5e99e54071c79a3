"""Shape 2: a private method is made tolerant of what it asserts against."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from shape_kit import entry, late

from ascend_overlay import Overlay
from ascend_overlay.hooks import hookimpl

pytestmark = [pytest.mark.vllm, pytest.mark.usefixtures("vllm_loaded")]

TARGET = "vllm.v1.core.sched.scheduler:Scheduler._update_from_kv_xfer_finished"

overlay = Overlay(
    "shape_02", reason="a connector may report requests that were aborted meanwhile", vllm=">=0.32", default=False
)


@overlay.wrap(TARGET)
def known_only(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    output = args[0] if args else kwargs["kv_connector_output"]
    known = {
        name: {request for request in getattr(output, name) or () if request in instance.requests}
        for name in ("finished_recving", "finished_sending")
    }
    return wrapped(dataclasses.replace(output, **known))


@hookimpl
def ascend_overlay_overlays() -> Iterable[Overlay]:
    return [overlay]


def finish(*names: str) -> list[str]:
    """Report the requests `names` as sent to a scheduler that knows "here" only; return whose blocks it freed."""
    from vllm.v1.core.sched.async_scheduler import AsyncScheduler
    from vllm.v1.outputs import KVConnectorOutput

    scheduler: Any = AsyncScheduler.__new__(AsyncScheduler)
    scheduler.connector, scheduler.requests = None, {"here": "the request"}
    freed: list[str] = []
    scheduler._free_blocks = freed.append
    scheduler._update_from_kv_xfer_finished(KVConnectorOutput(finished_sending=set(names), finished_recving=None))
    return freed


def stock() -> None:
    assert finish("here") == ["the request"]
    with pytest.raises(AssertionError):
        finish("aborted")


def effect() -> None:
    assert finish("here", "aborted") == ["the request"]


def test_unknown_requests_are_left_out() -> None:
    import vllm.v1.core.sched.async_scheduler  # noqa: F401

    stock()
    with late(__name__, "shape_02"):
        effect()
        assert (entry("shape_02", TARGET).kind, entry("shape_02", TARGET).state) == ("wrap", "applied")
    stock()
