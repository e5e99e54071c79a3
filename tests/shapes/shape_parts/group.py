from __future__ import annotations

from vllm.distributed.parallel_state import GroupCoordinator


class AscendGroupCoordinator(GroupCoordinator):
    @property
    def device_name(self) -> str:
        return "npu"
