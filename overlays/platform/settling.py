"""What vLLM's configuration becomes on an NPU, where the user did not say it or vLLM's default is for other devices."""

from __future__ import annotations

import logging
import os
from typing import Any

import ascend_overlay
from ascend_overlay.overlays.platform import refusals, remote

BLOCK_SIZE = 128
"""Tokens of a block of the KV cache: what npu_fused_infer_attention_score takes, and CANN recommends."""
_MODULE = __name__.rpartition(".")[0]
_logger = logging.getLogger("vllm.ascend_overlay")


def settle(config: Any) -> None:
    """Settle vLLM's `config` for this platform.

    Raises:
        ConfigError: it asks for a compiler that is not served.
    """
    if config.parallel_config.worker_cls == "auto":
        config.parallel_config.worker_cls = f"{_MODULE}.worker.NPUWorker"
    config.parallel_config.disable_custom_all_reduce = True
    _settle_executor(config.parallel_config)
    if not config.cache_config.user_specified_block_size:
        config.cache_config.block_size = BLOCK_SIZE
    _settle_graphs(config)
    # A process that has used the device must not be forked (CANN), and a forked one must not use it.
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
    # The other model runner is made of Triton kernels; vLLM takes it wherever it finds a Triton.
    os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "0"


def _settle_executor(parallel: Any) -> None:
    """See that ranks in processes of their own are named when they die, and that those of Ray are like this one."""
    if parallel.distributed_executor_backend == "mp" and parallel.nnodes == 1:
        parallel.distributed_executor_backend = f"{_MODULE}.executor.NPUExecutor"
    elif parallel.distributed_executor_backend == "ray":
        remote.equip(parallel)


def _settle_graphs(config: Any) -> None:
    """See to torch.compile, graphs, and what vLLM decides along with them."""
    from vllm.config import CompilationMode, CUDAGraphMode

    compilation = config.compilation_config
    if compilation.mode not in (None, CompilationMode.NONE) and compilation.backend != "eager":
        raise refusals.refused(refusals.compiler(compilation.backend))
    if compilation.mode == CompilationMode.STOCK_TORCH_COMPILE and compilation.cudagraph_mode != CUDAGraphMode.NONE:
        text = "no graphs are captured, since vLLM's model runner has none for the mode of compilation 1"
        ascend_overlay.note("platform", text)
        _logger.info("On the NPU platform, %s.", text)
        compilation.cudagraph_mode = CUDAGraphMode.NONE
    if compilation.cudagraph_mode in (None, CUDAGraphMode.NONE):
        compilation.cudagraph_mode = CUDAGraphMode.NONE
        compilation.cudagraph_capture_sizes = []
        compilation.max_cudagraph_capture_size = 0
    # vLLM sets it together with the sizes of captured graphs, and cannot do without.
    compilation.compile_sizes = compilation.compile_sizes or []
    # vLLM's fusions are passes of its compiler, on by default, and made for CUDA.
    for name in vars(compilation.pass_config):
        if name.startswith("fuse_") or name == "enable_qk_norm_rope_fusion":
            setattr(compilation.pass_config, name, False)
