"""The worker: vLLM's own for GPUs, on a device of another name."""

from __future__ import annotations

import contextlib
import gc
import inspect
from typing import Any

import torch
from vllm import envs
from vllm.config import CUDAGraphMode
from vllm.distributed.parallel_state import get_pp_group
from vllm.platforms import current_platform
from vllm.utils.mem_utils import MemorySnapshot
from vllm.utils.torch_utils import set_random_seed
from vllm.v1.utils import report_usage_stats
from vllm.v1.worker.gpu_worker import Worker, init_worker_distributed_environment
from vllm.v1.worker.utils import request_memory
from vllm.v1.worker.worker_base import CompilationTimes
from vllm.v1.worker.workspace import init_workspace_manager

from ascend_overlay.overlays.platform import devices, graphs
from ascend_overlay.overlays.platform.room import needs_room
from ascend_overlay.overlays.platform.runner import NPUModelRunner

_SMALLER = "choose a smaller --max-num-batched-tokens, --max-num-seqs or --gpu-memory-utilization"


class NPUWorker(Worker):  # type: ignore[misc, unused-ignore]
    """One process on one NPU.

    What the base class measures while a model is profiled, it asks torch.accelerator, which torch_npu answers.
    """

    def init_device(self) -> None:
        """Take the device of this rank, meet the other ranks, and build the model runner."""
        index = devices.of_rank(self.parallel_config, self.local_rank)
        self.device = torch.device(f"npu:{index}")
        current_platform.set_device(self.device)
        current_platform.check_if_supports_dtype(self.model_config.dtype)
        # Before memory is looked at, so that what the collectives take counts. The groups of an out-of-tree platform
        # take the local rank for the number of the device.
        init_worker_distributed_environment(
            self.vllm_config, self.rank, self.distributed_init_method, index, current_platform.dist_backend
        )
        set_random_seed(self.model_config.seed)
        # The pool of an engine that was here before: torch does not capture into one whose graphs are gone.
        type(current_platform)._global_graph_pool = None
        gc.collect()
        torch.accelerator.empty_cache()
        self.init_snapshot = MemorySnapshot(device=self.device)
        self.requested_memory = request_memory(self.init_snapshot, self.cache_config)
        # The base class has methods for the rest from 0.32 on.
        init_workspace_manager(self.device)
        self.model_runner = NPUModelRunner(self.vllm_config, self.device)
        if self.rank == 0:
            report_usage_stats(self.vllm_config)

    @needs_room("the model", "spread it by --tensor-parallel-size, or quantize it")
    def load_model(self, **options: Any) -> None:
        """Load the weights."""
        super().load_model(**options)

    @needs_room(
        "the KV cache", "choose a smaller --kv-cache-memory-bytes or --num-gpu-blocks-override, or leave them out"
    )
    def initialize_from_config(self, kv_cache_config: Any) -> None:
        """Make the KV cache."""
        super().initialize_from_config(kv_cache_config)

    @needs_room("a step beside weights and KV cache", _SMALLER)
    def compile_or_warm_up_model(self) -> CompilationTimes:
        """Run once what serving runs.

        The base class's also tunes kernels of NVIDIA's, whose modules it imports for that.
        """
        runner, most = self.model_runner, self.scheduler_config
        hidden, last = runner._dummy_run(
            num_tokens=min(most.max_num_seqs, most.max_num_batched_tokens),
            skip_eplb=True,
            cudagraph_runtime_mode=CUDAGraphMode.NONE,
        )
        if get_pp_group().is_last_rank:
            if runner.is_pooling_model:
                runner._dummy_pooler_run(hidden)
            else:
                runner._dummy_sampler_run(hidden_states=last)
        if self.compilation_config.cudagraph_mode != CUDAGraphMode.NONE:
            runner.capture_model()
            graphs.see_some()
        # What ran took random numbers, of which a user who seeds must not notice.
        _seed(self.model_config.seed, self.parallel_config.data_parallel_index)
        spent = self.compilation_config
        return CompilationTimes(language_model=spent.compilation_time, encoder=spent.encoder_compilation_time)

    @needs_room("a step beside the weights", _SMALLER)
    def determine_available_memory(self) -> int:
        """Return the bytes for the KV cache: what the base class finds, less what graphs will take.

        The base class leaves graphs out wherever the device is neither CUDA's nor an XPU.
        """
        available = int(super().determine_available_memory())
        if self.cache_config.kv_cache_memory_bytes or self.compilation_config.cudagraph_mode == CUDAGraphMode.NONE:
            return available
        self.cudagraph_memory_estimate = self.model_runner.profile_cudagraph_memory()
        # Those were for the measurement.
        graphs.counts.clear()
        taken = self.cudagraph_memory_estimate if envs.VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS else 0
        self.peak_activation_memory += taken
        self.available_kv_cache_memory_bytes = available - taken
        return available - taken

    @needs_room("a step of the batch at hand", _SMALLER)
    def execute_model(self, scheduler_output: Any) -> Any:
        """Make a step."""
        return super().execute_model(scheduler_output)

    def shutdown(self) -> None:
        """Say what became of the graphs, and release everything."""
        graphs.report()
        super().shutdown()

    def _maybe_get_memory_pool_context(self, tag: str) -> contextlib.AbstractContextManager[Any]:
        """Return nothing to enter: the base class asks for the allocator of sleep mode, which is CUDA's."""
        return contextlib.nullcontext()


def _seed(seed: int | None, data_parallel_index: int) -> None:
    """Seed all generators; from 0.32 on, vLLM has replicas of one seed sample differently."""
    more = {"data_parallel_index": data_parallel_index}
    takes = inspect.signature(set_random_seed).parameters
    set_random_seed(seed, **{name: value for name, value in more.items() if name in takes})
