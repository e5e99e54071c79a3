"""The model runner: vLLM's V1 runner for GPUs, whose Triton kernels and streams of CUDA are replaced."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from vllm.utils.torch_utils import PIN_MEMORY
from vllm.v1.worker.gpu_model_runner import GPUModelRunner

from ascend_overlay.npu.software import report
from ascend_overlay.overlays.platform import inputs, kernels


class NPUModelRunner(GPUModelRunner):  # type: ignore[misc, unused-ignore]
    """vLLM's, on an NPU. streams.py gives the module of the base class the NPU's streams when this one is loaded."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._positions = torch.zeros(self.max_num_tokens, dtype=torch.int64, pin_memory=PIN_MEMORY)
        # How many tokens from the first on are marked as some, and what was marked last; vLLM begins with all of them,
        # and marks none before 0.31.
        self._some, self._padding = len(getattr(self, "is_padding", ())), (0, 0)

    def execute_model(self, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a step; on a software NPU its report tells what each kind of step asks for."""
        tokens = scheduler_output.num_scheduled_tokens.values()
        if tokens:
            report.step_begins("decode" if max(tokens) == 1 else "prefill")
        return super().execute_model(scheduler_output, *args, **kwargs)

    def computes_on_the_host(self, requests: np.ndarray, positions: np.ndarray) -> None:
        """Copy positions, lengths and slots of the new tokens to the device; inputs.py says who calls it, and why.

        Args:
            requests: which request each token is of, (tokens,) of int64.
            positions: of each token in its request, (tokens,) of int64.
        """
        tokens = len(positions)
        self._positions.numpy()[:tokens] = positions
        self.positions[:tokens].copy_(self._positions[:tokens], non_blocking=True)
        # vLLM has them there, with zeros behind.
        self.seq_lens.copy_(self.optimistic_seq_lens_cpu, non_blocking=True)
        for table in self.input_batch.block_table.block_tables:
            inputs.slots(table, requests, positions)

    def _prepare_padding_mask(self, num_tokens_unpadded: int, num_tokens_padded: int) -> Tensor:
        """Return which tokens of a padded batch are none, written only where it is not as it was."""
        padding = num_tokens_unpadded, num_tokens_padded
        as_it_is = num_tokens_unpadded == num_tokens_padded <= self._some or padding == self._padding
        if not as_it_is:
            super()._prepare_padding_mask(*padding)
            self._some, self._padding = num_tokens_unpadded, padding
        mask: Tensor = self.is_padding[:num_tokens_padded]
        return mask

    def _init_kv_zero_meta(self) -> None:
        """Prepare nothing: blocks are cleared as tensors, not at addresses."""

    def _zero_block_ids(self, block_ids: list[int]) -> None:
        """Clear blocks of the cache."""
        caches = [cache for cache in self.kv_caches if isinstance(cache, torch.Tensor)]
        kernels.zero_blocks(caches, block_ids, self.kv_cache_config.num_blocks)
