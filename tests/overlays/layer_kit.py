"""What the tests of the layer overlays share: vLLM's configuration around a layer, and exact comparison.

What a layer of an overlay computes is compared with what vLLM's own layer computes of the same numbers in float32,
rounded once: a bound that vLLM's own layer, which rounds after each step, does not keep.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")

DTYPES = ("float32", "float16", "bfloat16")

DISPATCH = {"all": "forward_cpu", "none": "forward_native"}
"""`custom_ops` in vLLM's compilation config -> the method that a layer picks on the CPU platform."""


@contextlib.contextmanager
def configured(custom_ops: str = "all", max_model_len: int = 64) -> Iterator[Any]:
    """Set vLLM's configuration, with its kernels in their order."""
    from types import SimpleNamespace

    from vllm.config import CompilationConfig, VllmConfig, set_current_vllm_config

    config = VllmConfig(compilation_config=CompilationConfig(custom_ops=[custom_ops]))
    config.model_config = SimpleNamespace(max_model_len=max_model_len)  # type: ignore[assignment]
    with set_current_vllm_config(config), config.kernel_config.ir_op_priority.set_priority():
        yield config


@contextlib.contextmanager
def one_rank() -> Iterator[None]:
    """Have vLLM's parallel groups, with this process alone in each; those that are there already stay."""
    import tempfile

    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.distributed import parallel_state

    if parallel_state.model_parallel_is_initialized():
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            with set_current_vllm_config(VllmConfig()):
                parallel_state.init_distributed_environment(1, 0, f"file://{folder}/rendezvous", 0, "gloo")
                parallel_state.initialize_model_parallel(1, 1)
            yield
        finally:
            parallel_state.destroy_model_parallel()
            parallel_state.destroy_distributed_environment()


def dtype_of(name: str) -> Any:
    """Return the torch dtype `name`."""
    import torch

    return getattr(torch, name)


def tensor(seed: int, *shape: int, dtype: Any) -> Any:
    """Return random numbers."""
    import torch

    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_rounded_once(got: Any, exact: Any, *, terms: Any = None) -> None:
    """See that `got` is `exact`, computed in float32, rounded to the dtype of `got`.

    `terms` is the size of what was added to make up the result, where that can cancel; default: the result itself.
    """
    import torch

    assert got.shape == exact.shape
    half_unit = torch.finfo(got.dtype).eps / 2 if got.dtype != torch.float32 else 0.0
    exact = exact.double()
    size = exact.abs() if terms is None else terms.double()
    allowed = half_unit * exact.abs() + 4e-6 * size + torch.finfo(got.dtype).smallest_normal
    off = (got.double() - exact).abs() > allowed
    assert not off.any(), f"{int(off.sum())} of {off.numel()} elements off, such as {got[off][0]} for {exact[off][0]}"


def calls() -> dict[str, int]:
    """Return how often each NPU operator ran that ran at all."""
    import ascend_overlay

    return {name: count for name, count in ascend_overlay.ledger().operators.items() if count}
