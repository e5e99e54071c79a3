"""What graphs ask of the platform, without an NPU: how they are settled, and the memory that is left beside them."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay.errors import ConfigError
from ascend_overlay.overlays.platform import breakable, sizes

# --- sizes ------------------------------------------------------------------------------------------------------------


class Mode:
    """One of vLLM's modes of graphs."""

    def __init__(self, pieces: bool) -> None:
        self._pieces = pieces

    def has_piecewise_cudagraphs(self) -> bool:
        return self._pieces


def _config(layers: int, *, use_mla: bool = False, world_size: int = 1, requests: int = 256, **compilation: Any) -> Any:
    chosen = {"cudagraph_capture_sizes": None, "max_cudagraph_capture_size": None, "cudagraph_mode": None}
    return SimpleNamespace(
        compilation_config=SimpleNamespace(**(chosen | compilation)),
        model_config=SimpleNamespace(enforce_eager=False, use_mla=use_mla, get_num_layers=lambda parallel: layers),
        parallel_config=SimpleNamespace(world_size=world_size),
        scheduler_config=SimpleNamespace(max_num_seqs=requests, max_num_batched_tokens=8192),
    )


LEFT_TO_VLLM: dict[str, Any] = {
    "a model of 28 layers": _config(28),
    "few requests": _config(64, requests=16),
    "sizes that were asked for": _config(64, cudagraph_capture_sizes=[1, 2]),
    "a largest size that was asked for": _config(64, max_cudagraph_capture_size=64),
    "whole graphs": _config(64, cudagraph_mode=Mode(pieces=False)),
}


@pytest.mark.parametrize("name", LEFT_TO_VLLM)
def test_sizes_are_left_to_vllm(name: str) -> None:
    config = LEFT_TO_VLLM[name]
    before = dict(vars(config.compilation_config))
    sizes.settle(config)
    assert vars(config.compilation_config) == before


def test_nothing_is_settled_without_graphs() -> None:
    sizes.settle(SimpleNamespace(compilation_config=None, model_config=None))
    config = _config(64)
    config.model_config.enforce_eager = True
    sizes.settle(config)
    assert config.compilation_config.cudagraph_capture_sizes is None


@pytest.mark.parametrize(
    ("options", "streams"),
    [
        ({"layers": 64}, 66),
        ({"layers": 61, "use_mla": True}, 124),
        ({"layers": 64, "world_size": 8, "cudagraph_mode": Mode(pieces=True)}, 132),
        ({"layers": 1000}, 1002),
        ({"layers": 4000}, 4002),
    ],
)
def test_a_deep_model_has_fewer_sizes(options: dict[str, Any], streams: int) -> None:
    config = _config(**options)
    sizes.settle(config)
    found = config.compilation_config.cudagraph_capture_sizes
    assert found == sorted(set(found)) and found[-1] == 512
    assert len(found) * streams <= max(sizes.STREAMS, streams)
    assert any(f"{len(found)} sizes of batches up to 512" in text for _, text in ascend_overlay.ledger().notes)


@pytest.mark.parametrize("most", [1, 2, 5, 14, 27, 50])
@pytest.mark.parametrize("largest", [1, 5, 16, 100, 512])
def test_few_sizes(most: int, largest: int) -> None:
    found = sizes.few(most, largest)
    assert found == sorted(set(found)) and found[-1] == largest and 1 <= len(found) <= most
    # No step is wider than equal steps would be, but for multiples of eight and the small ones.
    widest = max(b - a for a, b in zip([0, *found], found, strict=False))
    assert widest <= -(-largest // max(most - 4, 1)) + 8


# --- breakable graphs -------------------------------------------------------------------------------------------------


@pytest.mark.vllm
@pytest.mark.parametrize("given", [None, "0", "1"])
def test_graphs_in_pieces_need_no_compiler_unless_one_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    import os

    from vllm.config import CompilationMode

    monkeypatch.setattr(breakable, "_ours", set())
    monkeypatch.setenv(breakable.VARIABLE, given or "")
    if given is None:
        monkeypatch.delenv(breakable.VARIABLE)
    breakable.prepare()
    modes = [None, CompilationMode.NONE, CompilationMode.VLLM_COMPILE, CompilationMode.DYNAMO_TRACE_ONCE, None]
    found = []
    for mode in modes:
        config = SimpleNamespace(compilation_config=SimpleNamespace(mode=mode))
        assert breakable.decide(lambda: True, config, (), {}) is True
        found.append(os.environ[breakable.VARIABLE])
    assert found == (["1", "1", "0", "0", "1"] if given is None else [given] * 5)


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.vllm
@pytest.mark.parametrize(
    ("mode", "given", "counts", "left"),
    [
        ("FULL_AND_PIECEWISE", None, "1", 700),
        ("PIECEWISE", None, "1", 700),
        ("FULL_AND_PIECEWISE", None, "0", 1000),
        ("FULL_AND_PIECEWISE", 1000, "1", 1000),
        ("NONE", None, "1", 1000),
    ],
)
def test_the_cache_gets_what_graphs_leave(
    monkeypatch: pytest.MonkeyPatch, mode: str, given: int | None, counts: str, left: int
) -> None:
    from vllm.config import CUDAGraphMode
    from vllm.v1.worker.gpu_worker import Worker

    package = "ascend_overlay.overlays.platform"
    # It needs torch_npu's class of graphs.
    graphs = ModuleType(f"{package}.graphs")
    graphs.counts = {"captured": 4}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, f"{package}.graphs", graphs)
    monkeypatch.delitem(sys.modules, f"{package}.worker", raising=False)
    monkeypatch.setenv("VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS", counts)
    from ascend_overlay.overlays.platform.worker import NPUWorker

    monkeypatch.delitem(sys.modules, f"{package}.worker")
    monkeypatch.setattr(Worker, "determine_available_memory", lambda self: 1000)
    worker = object.__new__(NPUWorker)
    worker.cache_config = SimpleNamespace(kv_cache_memory_bytes=given)
    worker.compilation_config = SimpleNamespace(cudagraph_mode=CUDAGraphMode[mode])
    worker.model_runner = SimpleNamespace(profile_cudagraph_memory=lambda: 300)
    worker.peak_activation_memory = 50
    assert worker.determine_available_memory() == left
    assert worker.peak_activation_memory == 1050 - left
    measured = given is None and mode != "NONE"
    assert getattr(worker, "cudagraph_memory_estimate", 0) == (300 if measured else 0)
    # What was captured to be measured does not count.
    assert graphs.counts == ({} if measured else {"captured": 4})  # type: ignore[attr-defined]


# --- memory that is not there -----------------------------------------------------------------------------------------

PHASES = {
    "load_model": ((), r"the model does not fit into the memory of npu:1: .*--tensor-parallel-size, or quantize it\. "),
    "determine_available_memory": ((), "a step beside the weights does not fit .*--max-num-batched-tokens"),
    "execute_model": ((None,), "a step of the batch at hand does not fit .*--max-num-seqs"),
    "initialize_from_config": ((None,), "the KV cache does not fit .*--kv-cache-memory-bytes"),
}


@pytest.mark.vllm
@pytest.mark.parametrize("phase", PHASES)
def test_what_does_not_fit_is_named_with_what_can_be_smaller(monkeypatch: pytest.MonkeyPatch, phase: str) -> None:
    import torch
    from vllm.v1.worker.gpu_worker import Worker

    package = "ascend_overlay.overlays.platform"
    monkeypatch.setitem(sys.modules, f"{package}.graphs", ModuleType(f"{package}.graphs"))
    monkeypatch.delitem(sys.modules, f"{package}.worker", raising=False)
    from ascend_overlay.overlays.platform.worker import NPUWorker

    monkeypatch.delitem(sys.modules, f"{package}.worker")

    def full(self: Any, *_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("NPU out of memory.\n  Tried to allocate 2.00 MiB")

    monkeypatch.setattr(Worker, phase, full)
    worker = object.__new__(NPUWorker)
    worker.device = "npu:1"
    arguments, sentence = PHASES[phase]
    with pytest.raises(
        ConfigError, match=f"^on the NPU platform, {sentence}.*torch_npu says: NPU out of memory. Tried"
    ):
        getattr(worker, phase)(*arguments)


# --- torch.compile ----------------------------------------------------------------------------------------------------


@pytest.mark.vllm
def test_torch_compile_has_one_backend() -> None:
    from vllm.config import CompilationMode, CUDAGraphMode, VllmConfig

    from ascend_overlay.overlays.platform import settling

    config = VllmConfig()
    config.compilation_config.mode = CompilationMode.VLLM_COMPILE
    config.compilation_config.cudagraph_mode = CUDAGraphMode.PIECEWISE
    config.compilation_config.backend = "inductor"
    with pytest.raises(ConfigError, match="backend 'inductor' is not served; leave the backend out"):
        settling.settle(config)
    config.compilation_config.mode = CompilationMode.NONE
    settling.settle(config)
    assert config.compilation_config.cudagraph_mode == CUDAGraphMode.PIECEWISE
