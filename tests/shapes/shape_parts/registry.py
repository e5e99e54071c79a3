"""A third party's module that holds vLLM's scheduler in a registry and in a default argument."""

from __future__ import annotations

from vllm.v1.core.sched.scheduler import Scheduler

SCHEDULERS = {"default": Scheduler}


def make(scheduler: type = Scheduler) -> type:
    return scheduler
