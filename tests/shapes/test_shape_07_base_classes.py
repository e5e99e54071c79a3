"""Shape 7: a class that is a base class, the value of a registry and a from-import copy at once."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import pytest
from shape_kit import entry, late

from ascend_overlay import Overlay
from ascend_overlay.hooks import hookimpl

pytestmark = [pytest.mark.vllm, pytest.mark.usefixtures("vllm_loaded")]

SCHEDULER = "vllm.v1.core.sched.scheduler:Scheduler"
GROUP = "vllm.distributed.parallel_state:GroupCoordinator"

overlay = Overlay("shape_07", reason="scheduling and groups that suit the device", vllm=">=0.32", default=False)
overlay.subclass(SCHEDULER, "shape_parts.scheduler:AscendScheduler")
overlay.subclass(GROUP, "shape_parts.group:AscendGroupCoordinator")


@hookimpl
def ascend_overlay_overlays() -> Iterable[Overlay]:
    return [overlay]


def schedulers() -> dict[str, type]:
    """Return the scheduler classes by where they come from."""
    from shape_parts import registry
    from vllm.config import SchedulerConfig
    from vllm.v1.core.sched import async_scheduler, diffusion_scheduler, scheduler

    config = SchedulerConfig.default_factory()
    config.async_scheduling = False
    return {
        "its module": scheduler.Scheduler,
        "a copy": diffusion_scheduler.Scheduler,
        "a registry": registry.SCHEDULERS["default"],
        "a default argument": inspect.signature(registry.make).parameters["scheduler"].default,
        "vLLM's config": config.get_scheduler_cls(),
        "a base class": async_scheduler.AsyncScheduler.__mro__[1],
        "another base class": diffusion_scheduler.DiffusionScheduler.__mro__[1],
    }


def new_group() -> Any:
    """Let vLLM make a process group, in whichever class it does that."""
    from vllm.distributed import parallel_state

    return parallel_state.init_model_parallel_group([[0]], 0, "gloo", group_name="shape_07")


def stock() -> None:
    from vllm.distributed import parallel_state, stateless_coordinator

    assert {(found.__module__, found.__name__) for found in schedulers().values()} == {tuple(SCHEDULER.split(":"))}
    group = new_group()
    assert type(group) is parallel_state.GroupCoordinator
    assert not hasattr(group, "device_name")
    assert not hasattr(stateless_coordinator.StatelessGroupCoordinator, "device_name")


def effect() -> None:
    from shape_parts import group as group_part
    from shape_parts import scheduler as scheduler_part
    from vllm.distributed import parallel_state, stateless_coordinator
    from vllm.v1.core.sched.async_scheduler import AsyncScheduler

    assert {place: found for place, found in schedulers().items() if found is not scheduler_part.AscendScheduler} == {}
    assert AsyncScheduler.__new__(AsyncScheduler).has_finished_requests() == "asked of AscendScheduler"
    assert parallel_state.GroupCoordinator is stateless_coordinator.GroupCoordinator
    assert issubclass(stateless_coordinator.StatelessGroupCoordinator, group_part.AscendGroupCoordinator)
    group = new_group()
    assert type(group) is group_part.AscendGroupCoordinator
    assert group.device_name == "npu"
    assert group.world_size == 1


@pytest.mark.usefixtures("groups")
def test_every_place_has_the_subclass() -> None:
    import shape_parts.registry  # noqa: F401

    stock()
    with late(__name__, "shape_07", ignore=("vllm.distributed.parallel_state._group",)):
        effect()
        scheduler, group = entry("shape_07", SCHEDULER), entry("shape_07", GROUP)
        assert (scheduler.kind, scheduler.state, group.state) == ("subclass", "applied", "applied")
        assert {
            "vllm.v1.core.sched.async_scheduler.AsyncScheduler (base class)",
            "vllm.v1.core.sched.diffusion_scheduler.Scheduler",
            "shape_parts.registry.SCHEDULERS['default']",
            "shape_parts.registry.make(default 0)",
        } <= set(scheduler.copies)
        assert "vllm.distributed.stateless_coordinator.StatelessGroupCoordinator (base class)" in group.copies
        # The groups of this process exist already, and cannot become something else.
        assert group.stale == ["a live instance of vllm.distributed.parallel_state.GroupCoordinator"]
    stock()
