"""What the overlay of shape 7 puts in place; imported when its targets are."""

from __future__ import annotations

from vllm.distributed.parallel_state import GroupCoordinator
from vllm.v1.core.sched.scheduler import Scheduler


class AscendScheduler(Scheduler):
    def has_finished_requests(self) -> str:
        return "asked of AscendScheduler"


class AscendGroupCoordinator(GroupCoordinator):
    @property
    def device_name(self) -> str:
        return "npu"
