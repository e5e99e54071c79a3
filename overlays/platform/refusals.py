"""What is not served on an NPU: each a sentence when the engine starts, with the way out, before a layer is built."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import torch

import ascend_overlay
from ascend_overlay.errors import ConfigError

DTYPES = (torch.bfloat16, torch.float16)
"""What the operators of attention compute in; CANN, npu_fused_infer_attention_score."""
_RAY_V2 = "VLLM_USE_RAY_V2_EXECUTOR_BACKEND"
_ALL2ALL = "allgather_reducescatter"
"""How tokens get to the experts of other ranks: by collectives that every backend has."""
SLEEP = "sleep mode (--enable-sleep-mode) is not served, since vLLM's allocators for it are for GPUs; leave it out"
LORA = "LoRA (--enable-lora) is not served, since vLLM's kernels for it are Triton's; merge the adapters into the model"
_KINDS = {
    "encoder_only": "the model attends in both directions (an encoder)",
    "encoder_decoder": "the model has an encoder and attends across to it",
    "hybrid": "the model mixes attention with layers that keep a state (hybrid)",
    "attention_free": "the model has no attention but layers that keep a state",
}


def refused(reason: str) -> ConfigError:
    """Return the error for `reason`, with what always helps."""
    return ConfigError(
        f"on the NPU platform, {reason}. With ASCEND_OVERLAY=-platform, vLLM chooses another platform, if it has one."
    )


def off(overlay: str, served: str, instead: str = "") -> ConfigError:
    """Return the error for what an overlay serves that is off, which is no fault of the user's on another release."""
    entries = ascend_overlay.ledger().of(overlay)
    if entries and all(entry.cause in ("release", "drift") for entry in entries):
        return refused(f"{served} is not served with this vLLM: {entries[0].reason}{instead}")
    return ConfigError(
        f"the overlay `platform` serves {served} with the overlay `{overlay}`, which is off: enable both; "
        f"`ascend-overlay list` says what keeps it off."
    )


def see(config: Any) -> None:
    """See that what vLLM's `config` asks for is served.

    Raises:
        ConfigError: not so.
    """
    for reason in _reasons(config):
        raise refused(reason)


def see_experts(model: Any) -> None:
    """See that somebody computes the experts of `model`: for platforms that are not its own, vLLM has no kernel.

    Raises:
        ConfigError: not so.
    """
    on = any(entry.state in ("pending", "applied") for entry in ascend_overlay.ledger().of("moe"))
    if model.is_moe and not on:
        raise off("moe", "a mixture of experts")


def dtype(wanted: Any) -> str | None:
    """Return what is against computing in `wanted`, or None."""
    if wanted in DTYPES:
        return None
    return f"{wanted} is not served, since attention takes bfloat16 and float16; choose --dtype bfloat16"


def compiler(backend: str) -> str:
    """Say that torch.compile has no such backend here."""
    return (
        f"torch.compile with the backend {backend!r} is not served; leave the backend out, which makes it 'eager', or "
        f"leave the mode of compilation out: captured graphs need no compiler"
    )


def quantization(method: str) -> str:
    """Say that a method has no kernels."""
    return (
        f"quantization by {method!r} is not served, since vLLM's kernels for it are for other devices; quantize the "
        f"float model for the NPU with `ascend-overlay quantize`, or take a checkpoint in ModelSlim's format"
    )


def _reasons(config: Any) -> Iterator[str]:
    checks: tuple[Callable[[Any], Iterator[str]], ...] = (_features, _processes, _cache)
    for check in checks:
        yield from check(config)
    if config.model_config is not None:
        yield from _model(config.model_config)


def _features(config: Any) -> Iterator[str]:
    if config.lora_config is not None:
        yield LORA
    if config.speculative_config is not None:
        yield "speculative decoding is not served, since its kernels are Triton's; leave --speculative-config out"
    if config.kv_transfer_config is not None:
        yield (
            "moving the KV cache elsewhere is not served, since a block of it is not laid out as vLLM takes it to be; "
            "leave --kv-transfer-config out"
        )


def _processes(config: Any) -> Iterator[str]:
    parallel = config.parallel_config
    if parallel.decode_context_parallel_size > 1 or parallel.prefill_context_parallel_size > 1:
        yield "context parallelism is not served; spread the model by --tensor-parallel-size"
    if parallel.enable_dbo or parallel.enable_eplb:
        yield "dual batch overlap and balancing experts are for GPUs; leave --enable-dbo and --enable-eplb out"
    if parallel.data_parallel_backend == "ray" and parallel.data_parallel_size > 1:
        yield "replicas that Ray starts have not been tried; leave --data-parallel-backend out"
    if parallel.use_all2all and parallel.enable_expert_parallel and parallel.all2all_backend != _ALL2ALL:
        yield (
            f"--all2all-backend {parallel.all2all_backend} is not served, since its kernels are for GPUs; leave it "
            f"out, which makes it {_ALL2ALL}"
        )
    yield from _ray() if parallel.distributed_executor_backend == "ray" else _devices(parallel)


def _ray() -> Iterator[str]:
    if os.environ.get(_RAY_V2, "1") == "0":
        yield (
            "vLLM's older executor for Ray is not served: it runs the model through Ray's compiled graphs, which "
            f"look for the streams and communicators of CUDA; leave {_RAY_V2} out"
        )


def _devices(parallel: Any) -> Iterator[str]:
    """Count the devices for the ranks on this machine. Ray counts its own."""
    replicas, devices = max(1, parallel.data_parallel_size_local), torch.accelerator.device_count()
    wanted = replicas * parallel.world_size
    if parallel.nnodes == 1 and wanted > devices:
        many = f" ({replicas} replicas of {parallel.world_size})" if replicas > 1 else ""
        yield (
            f"{wanted} devices are asked for{many} and {devices} can be seen; choose a smaller --tensor-parallel-size, "
            f"--pipeline-parallel-size or --data-parallel-size, or see to ASCEND_RT_VISIBLE_DEVICES"
        )


def _cache(config: Any) -> Iterator[str]:
    cache = config.cache_config.cache_dtype
    if cache not in ("auto", "bfloat16", "float16"):
        yield f"a KV cache of {cache} is not served; leave --kv-cache-dtype out"


def _model(model: Any) -> Iterator[str]:
    if getattr(model, "enable_sleep_mode", False):
        yield SLEEP
    if found := dtype(model.dtype):
        yield found
    if kind := _KINDS.get(model.attn_type):
        yield f"{kind}, which is not served; decoders are"
    text = model.hf_text_config
    if hasattr(text, "index_topk"):
        yield "sparse attention (index_topk) is not served, since nothing here calls npu_lightning_indexer yet"
    if getattr(text, "alibi", False) or getattr(text, "model_type", "") in ("bloom", "step1"):
        yield "the model weighs positions by ALiBi, which no operator computes"
