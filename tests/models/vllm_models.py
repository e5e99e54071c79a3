"""Builds models of a checkpoint with vLLM's own functions, without an engine. For scripts that tests run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", VLLM_CPU_KVCACHE_SPACE="1", VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1")

import torch
from vllm.config import LoadConfig, VllmConfig, set_current_vllm_config
from vllm.distributed import ensure_model_parallel_initialized, init_distributed_environment
from vllm.engine.arg_utils import EngineArgs
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.utils.torch_utils import set_default_torch_dtype


def configure(path: str, **arguments: Any) -> VllmConfig:
    """Return the engine configuration of a checkpoint."""
    return EngineArgs(
        model=path, enforce_eager=True, max_model_len=128, max_num_seqs=4, dtype="bfloat16", **arguments
    ).create_engine_config()


def start(config: VllmConfig, where: str, *, rank: int = 0, world: int = 1, tp: int = 1, pp: int = 1) -> None:
    """Set up vLLM's process groups; `where` is a file that the ranks meet in, of a name that nobody else uses."""
    # vLLM names shared memory of the machine after it.
    os.environ["VLLM_DIST_IDENT"] = Path(where).name
    with set_current_vllm_config(config):
        init_distributed_environment(world, rank, f"file://{where}", rank, backend="gloo")
        ensure_model_parallel_initialized(tp, pp)


def build(config: VllmConfig) -> Any:
    """Return the model with its parameters created and nothing loaded."""
    with set_current_vllm_config(config), set_default_torch_dtype(torch.bfloat16):
        return initialize_model(config)


def weights_of(config: VllmConfig, model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield what is in the checkpoint."""
    loader = DefaultModelLoader(LoadConfig())
    with set_current_vllm_config(config):
        yield from loader.get_all_weights(config.model_config, model)


def load(config: VllmConfig, model: Any, weights: Any) -> set[str]:
    """Load `weights` as vLLM does."""
    with set_current_vllm_config(config):
        loaded: set[str] = model.load_weights(weights)
        return loaded


def digests(model: Any) -> dict[str, float]:
    """Return a number for each parameter that tells its contents."""
    weighted = {}
    for name, parameter in model.named_parameters():
        flat = parameter.detach().double().flatten()
        weighted[name] = float((flat * torch.arange(1, len(flat) + 1, dtype=torch.float64).sin()).sum())
    return weighted
