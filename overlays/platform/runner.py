"""The model runner: vLLM's V1 runner for GPUs, whose Triton kernels and streams of CUDA are replaced."""

from __future__ import annotations

from typing import Any

import torch
from vllm.v1.worker.gpu_model_runner import GPUModelRunner

from ascend_overlay.npu.software import report
from ascend_overlay.overlays.platform import kernels


class NPUModelRunner(GPUModelRunner):  # type: ignore[misc, unused-ignore]
    """vLLM's, on an NPU. streams.py gives the module of the base class the NPU's streams when this one is loaded."""

    def execute_model(self, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a step; on a software NPU its report tells what each kind of step asks for."""
        tokens = scheduler_output.num_scheduled_tokens.values()
        if tokens:
            report.step_begins("decode" if max(tokens) == 1 else "prefill")
        return super().execute_model(scheduler_output, *args, **kwargs)

    def _init_kv_zero_meta(self) -> None:
        """Prepare nothing: blocks are cleared as tensors, not at addresses."""

    def _zero_block_ids(self, block_ids: list[int]) -> None:
        """Clear blocks of the cache."""
        caches = [cache for cache in self.kv_caches if isinstance(cache, torch.Tensor)]
        kernels.zero_blocks(caches, block_ids, self.kv_cache_config.num_blocks)
