"""The platform for NPUs, without one: its answers to vLLM, what it refuses, and what stands in for CUDA and Triton."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import textwrap
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import ascend_overlay
from ascend_overlay.errors import ConfigError, OverlayError
from ascend_overlay.overlays.platform import choice, inputs, kernels, on_the_host, refusals, streams

NAMES = (
    "Stream",
    "set_stream",
    "current_stream",
    "default_stream",
    "graph_pool_handle",
    "is_current_stream_capturing",
)


@pytest.fixture
def npu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What torch_npu puts into torch."""
    properties = SimpleNamespace(total_memory=64 << 30, cube_core_num=24)
    found = SimpleNamespace(
        **{name: object() for name in NAMES},
        Event=lambda *args, **options: ("event", args, options),
        get_device_properties=lambda index: properties,
        get_device_name=lambda index: "Ascend910B",
        max_memory_allocated=lambda device: 7,
        reset_peak_memory_stats=lambda device: None,
    )
    monkeypatch.setattr(torch, "npu", found, raising=False)
    return found


# --- streams ----------------------------------------------------------------------------------------------------------


def test_the_runner_and_its_graphs_alone_get_the_npus_streams(
    npu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, library = "ascend_overlay.overlays.platform", []
    modules = {name: ModuleType(name) for name in streams.MODULES}
    for name, module in modules.items():
        module.torch = torch  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
    runner = modules[streams.MODULES[0]]
    runner.graph_capture = theirs = object()  # type: ignore[attr-defined]
    # They need torch_npu, and vLLM.
    ours = {name: object() for name in ("Graph", "Capturing", "capture", "Current")}
    for name in ("graphs", "current"):
        stand_in = ModuleType(f"{package}.{name}")
        vars(stand_in).update(ours)
        monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
        monkeypatch.setattr(importlib.import_module(package), name, stand_in, raising=False)
    monkeypatch.setattr(streams, "_weak_references", lambda: SimpleNamespace(_destroy=lambda: library.append("gone")))
    cuda = {name: getattr(torch.cuda, name) for name in (*NAMES, "stream", "Event", "CUDAGraph", "graph")}
    before = streams.give()
    for module in modules.values():
        for stream in NAMES:
            assert getattr(module.torch.cuda, stream) is getattr(npu, stream)
        assert module.torch.cuda.stream is ours["Current"]
        assert (module.torch.cuda.CUDAGraph, module.torch.cuda.graph) == (ours["Graph"], ours["Capturing"])
        # The NPU's events do not know this one.
        assert module.torch.cuda.Event(True, blocking=True) == ("event", (True,), {})
        assert module.torch.Tensor is torch.Tensor and module.torch.nn is torch.nn
        assert module.torch.cuda.OutOfMemoryError is torch.cuda.OutOfMemoryError
    assert runner.graph_capture is ours["capture"]
    assert cuda == {name: getattr(torch.cuda, name) for name in cuda}
    streams.take_back(before)
    assert all(module.torch is torch for module in modules.values())
    assert (runner.graph_capture, library) == (theirs, ["gone"])


# --- what is copied to the device -------------------------------------------------------------------------------------


def _table(size: int, blocks: list[list[int]], most: int) -> Any:
    """Return what is asked of vLLM's BlockTable; `copied` has how many slots were copied each time."""
    slots = SimpleNamespace(np=np.full(most, 77), copied=[])
    slots.copy_to_gpu = slots.copied.append
    table = SimpleNamespace(np=np.array(blocks, dtype=np.int32))
    return SimpleNamespace(block_size=size, dcp_world_size=1, block_table=table, slot_mapping=slots)


@pytest.mark.parametrize("lengths", [[3], [1, 1, 1], [5, 1, 9], [130, 2]])
def test_slots_of_tokens(lengths: list[int]) -> None:
    generator = np.random.default_rng(sum(lengths))
    size, width, most = 4, 40, 8
    # Numbers of blocks whose slots are beyond int32.
    blocks = generator.permutation(most * width).reshape(most, width) + 2**30
    table = _table(size, blocks.tolist(), sum(lengths) + 5)
    before = generator.integers(0, 9, len(lengths)).tolist()
    positions = np.concatenate([np.arange(n) + known for n, known in zip(lengths, before, strict=True)])
    requests = np.repeat(np.arange(len(lengths)), lengths)
    inputs.slots(table, requests, positions)
    wanted = [
        int(blocks[request, (known + i) // size]) * size + (known + i) % size
        for request, (length, known) in enumerate(zip(lengths, before, strict=True))
        for i in range(length)
    ]
    assert table.slot_mapping.np.tolist() == [*wanted, *[-1] * 5]
    assert table.slot_mapping.copied == [sum(lengths) + 5]
    table.dcp_world_size = 2
    with pytest.raises(OverlayError, match="context parallelism"):
        inputs.slots(table, requests, positions)


def test_slots_of_nobody_are_written_once() -> None:
    table = _table(4, [[1, 2], [3, 4], [5, 6], [7, 8]], 6)
    found = table.slot_mapping

    def write(positions: list[int], requests: list[int]) -> tuple[list[int], int]:
        inputs.slots(table, np.array(requests), np.array(positions))
        return found.np.tolist(), found.copied[-1]

    assert write([1, 5, 0], [0, 1, 2]) == ([5, 17, 20, -1, -1, -1], 6)
    found.np[5] = 77
    assert write([1, 5, 0], [0, 1, 2]) == ([5, 17, 20, -1, -1, 77], 3)
    assert write([1], [0]) == ([5, -1, -1, -1, -1, 77], 3)
    assert write([0, 1, 2, 3, 4], [0] * 5) == ([4, 5, 6, 7, 8, 77], 5)
    assert write([1, 5], [0, 1]) == ([5, 17, -1, -1, -1, 77], 5)


@pytest.mark.vllm
def test_what_pads_a_batch_is_written_when_it_is_not_as_it_was() -> None:
    from ascend_overlay.overlays.platform.runner import NPUModelRunner

    runner = NPUModelRunner.__new__(NPUModelRunner)
    runner.is_padding = torch.zeros(16, dtype=torch.bool)
    runner._some, runner._padding = 16, (0, 0)
    written = 0
    for some, padded, writes in (
        *((5, 5, 0), (16, 16, 0), (3, 4, 1), (3, 4, 0), (3, 3, 0), (2, 2, 0), (3, 4, 0), (4, 4, 1), (3, 4, 1)),
        *(
            (3, 8, 1),
            (3, 4, 1),
            (2, 4, 1),
            (2, 2, 0),
            (9, 9, 1),
            (4, 8, 1),
            (4, 4, 0),
            (16, 16, 1),
            (0, 2, 1),
            (1, 1, 1),
        ),
    ):
        before = runner.is_padding._version
        mask = runner._prepare_padding_mask(some, padded)
        assert mask.tolist() == [False] * some + [True] * (padded - some), (some, padded)
        assert (runner.is_padding._version > before) == bool(writes), (some, padded)
        written += writes
    assert written == 11


@pytest.mark.vllm
def test_vllms_runner_has_the_lines_that_are_edited_and_runs_them_where_nobody_takes_their_place() -> None:
    """A runner without the method, as vLLM's for CPUs, does what it did."""
    import ast

    from vllm.v1.worker import gpu_model_runner

    from ascend_overlay.source import edited, functions, snippets

    prepare = gpu_model_runner.GPUModelRunner._prepare_inputs
    theirs = ast.parse(textwrap.dedent(inspect.getsource(prepare)))
    changes = [
        edited.Change(snippets.snippet(found), snippets.snippet(put), "a test")
        for found, put in on_the_host.EDITS.items()
    ]
    ours = edited.edited(functions.source_of_function(prepare), changes)

    class WithoutTheMethod(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> Any:
            self.generic_visit(node)
            asked = ast.unparse(node.test)
            if f"hasattr(self, {on_the_host.ASKED!r})" not in asked:
                return node
            return node.body if asked.startswith("not ") else node.orelse

    kept = WithoutTheMethod().visit(ast.parse(textwrap.dedent("\n".join(ours.lines))))
    assert ast.unparse(kept) == ast.unparse(theirs)
    assert "\n".join(ours.lines).count(on_the_host.ASKED) == len(on_the_host.EDITS) + 1


def test_blocks_are_cleared_in_every_cache() -> None:
    plain, split = torch.ones(6, 2, 4), torch.ones(12, 3)
    kernels.zero_blocks([plain, split], [1, 4], 6)
    assert plain.sum((1, 2)).tolist() == [8, 0, 8, 8, 0, 8]
    assert split.sum(1).tolist() == [3, 3, 0, 0, 3, 3, 3, 3, 0, 0, 3, 3]


# --- what is refused --------------------------------------------------------------------------------------------------


def _config(**changes: Any) -> Any:
    """Return what the refusals look at of vLLM's configuration; `a__b` is an attribute of an attribute."""
    text = SimpleNamespace(model_type="llama")
    model = SimpleNamespace(dtype=torch.bfloat16, attn_type="decoder", hf_text_config=text, enable_sleep_mode=False)
    parallel = SimpleNamespace(
        decode_context_parallel_size=1,
        prefill_context_parallel_size=1,
        data_parallel_size=1,
        data_parallel_size_local=1,
        data_parallel_backend="mp",
        use_all2all=False,
        enable_expert_parallel=False,
        all2all_backend="allgather_reducescatter",
        enable_dbo=False,
        enable_eplb=False,
        nnodes=1,
        distributed_executor_backend="uni",
        world_size=1,
    )
    config = SimpleNamespace(
        model_config=model,
        parallel_config=parallel,
        cache_config=SimpleNamespace(cache_dtype="auto"),
        lora_config=None,
        speculative_config=None,
        kv_transfer_config=None,
    )
    for path, value in changes.items():
        *way, name = path.split("__")
        place = config
        for step in way:
            place = getattr(place, step)
        setattr(place, name, value)
    return config


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"lora_config": 1}, r"LoRA .*merge the adapters"),
    ({"speculative_config": 1}, r"speculative decoding .*leave --speculative-config out"),
    ({"kv_transfer_config": 1}, r"moving the KV cache elsewhere .*leave --kv-transfer-config out"),
    ({"parallel_config__decode_context_parallel_size": 2}, r"context parallelism .*--tensor-parallel-size"),
    (
        {"parallel_config__data_parallel_size": 2, "parallel_config__data_parallel_backend": "ray"},
        r"replicas that Ray starts .*leave --data-parallel-backend out",
    ),
    (
        {"parallel_config__data_parallel_size": 2, "parallel_config__data_parallel_size_local": 2},
        r"2 devices are asked for \(2 replicas of 1\) and 1 can be seen; .*--data-parallel-size",
    ),
    (
        {
            "parallel_config__use_all2all": True,
            "parallel_config__enable_expert_parallel": True,
            "parallel_config__all2all_backend": "deepep_v2",
        },
        r"--all2all-backend deepep_v2 is not served, .*which makes it allgather_reducescatter",
    ),
    ({"parallel_config__enable_dbo": True}, r"leave --enable-dbo and --enable-eplb out"),
    ({"parallel_config__world_size": 2}, r"2 devices are asked for and 1 can be seen; .*ASCEND_RT_VISIBLE_DEVICES"),
    ({"cache_config__cache_dtype": "fp8"}, r"a KV cache of fp8 is not served; leave --kv-cache-dtype out"),
    ({"model_config__enable_sleep_mode": True}, r"sleep mode .*leave it out"),
    ({"model_config__dtype": torch.float32}, r"torch.float32 is not served.*choose --dtype bfloat16"),
    ({"model_config__attn_type": "encoder_only"}, r"an encoder.*not served; decoders are"),
    ({"model_config__attn_type": "encoder_decoder"}, r"attends across to it, which is not served; decoders are"),
    ({"model_config__attn_type": "hybrid"}, r"hybrid.*not served; decoders are"),
    ({"model_config__attn_type": "attention_free"}, r"no attention but.*not served; decoders are"),
    ({"model_config__hf_text_config__index_topk": 64}, r"sparse attention \(index_topk\)"),
    ({"model_config__hf_text_config__alibi": True}, r"ALiBi"),
    ({"model_config__hf_text_config__model_type": "bloom"}, r"ALiBi"),
]


@pytest.mark.parametrize(("changes", "sentence"), REFUSED, ids=lambda value: "" if isinstance(value, str) else None)
def test_refused(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], sentence: str) -> None:
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    refusals.see(_config())
    refusals.see(_config(model_config=None))
    with pytest.raises(
        ConfigError, match=rf"^on the NPU platform, .*{sentence}.* With ASCEND_OVERLAY=-platform, "
    ) as e:
        refusals.see(_config(**changes))
    assert "\n" not in str(e.value)


def test_vllms_older_executor_for_ray_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 0)
    config = _config(parallel_config__distributed_executor_backend="ray", parallel_config__world_size=16)
    # Ray counts the devices of all of its machines.
    refusals.see(config)
    monkeypatch.setenv("VLLM_USE_RAY_V2_EXECUTOR_BACKEND", "0")
    with pytest.raises(ConfigError, match=r"older executor for Ray .*leave VLLM_USE_RAY_V2_EXECUTOR_BACKEND out"):
        refusals.see(config)


# --- what vLLM asks ---------------------------------------------------------------------------------------------------


@pytest.fixture
def platform(npu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The platform's class."""
    name = "ascend_overlay.overlays.platform.npu"
    monkeypatch.delitem(sys.modules, name, raising=False)
    # The platform sets it when it is loaded, unless the user has.
    monkeypatch.setenv("VLLM_USE_BREAKABLE_CUDAGRAPH", "0")
    yield importlib.import_module(name).NPUPlatform
    sys.modules.pop(name, None)


@pytest.mark.vllm
def test_members(platform: Any) -> None:
    from vllm.utils.import_utils import resolve_obj_by_qualname

    one = platform()
    assert one.is_out_of_tree() and not one.is_cuda_alike()
    assert (one.device_type, one.dispatch_key, one.dist_backend) == ("npu", "PrivateUse1", "hccl")
    assert torch.bfloat16 == one.supported_dtypes[0]
    assert one.get_device_capability() is None
    assert one.get_device_name() == "Ascend910B"
    assert one.get_device_total_memory() == 64 << 30
    assert one.get_current_memory_usage() == 7
    assert one.num_compute_units() == 24
    assert one.get_device_uuid(0) != one.get_device_uuid(1)
    one.import_kernels()
    one.import_ir_kernels()
    assert resolve_obj_by_qualname(one.get_device_communicator_cls()).__name__ == "NPUCommunicator"
    prefill = one.get_mla_prefill_backend_cls(None)
    with pytest.raises(OverlayError, match="please report the model"):
        prefill.run_prefill_new_tokens(None)
    for refuse in (
        one.is_sleep_mode_available,
        one.get_punica_wrapper,
        lambda: one.check_if_supports_dtype(torch.float32),
        lambda: one.verify_quantization("fp8"),
    ):
        with pytest.raises(ConfigError, match=r"^on the NPU platform, "):
            refuse()
    one.verify_quantization("ascend")


@pytest.mark.vllm
@pytest.mark.parametrize("device", ["npu", "cpu"])
def test_a_vllm_that_asks_no_platform_is_told_of_prompts_on_an_npu_alone(
    platform: Any, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    from ascend_overlay.overlays.platform import prefill

    monkeypatch.setattr(prefill, "current_platform", SimpleNamespace(device_name=device))
    found = prefill.choose(lambda config: config, None, ("vLLM's own",), {})
    assert found == {"npu": prefill.ByTheAttentionBackend, "cpu": "vLLM's own"}[device]


@pytest.mark.vllm
def test_two_platforms_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    platforms = importlib.import_module("vllm.platforms")
    plugins = {"ascend_overlay": lambda: choice.PATH, "theirs": lambda: "theirs.Platform"}
    monkeypatch.setattr(platforms, "load_plugins_by_group", lambda group: plugins)
    monkeypatch.delenv("VLLM_TARGET_DEVICE", raising=False)
    genuine = inspect.unwrap(platforms.resolve_current_platform_cls_qualname)
    with pytest.raises(ConfigError, match="two platforms claim this machine") as caught:
        choice.resolve(genuine, None, (), {})
    text = str(caught.value)
    assert "'theirs'" in text and "VLLM_PLUGINS=ascend_overlay" in text and "platform" in text
    plugins["others"] = plugins.pop("ascend_overlay")
    with pytest.raises(RuntimeError, match="Only one platform plugin"):
        choice.resolve(genuine, None, (), {})


@pytest.mark.vllm
def test_backends_come_from_the_overlays(platform: Any) -> None:
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.v1.attention.backends.registry import AttentionBackendEnum
    from vllm.v1.attention.selector import AttentionSelectorConfig

    def chosen(selected: Any = None, **changes: Any) -> str:
        plain = {"head_size": 128, "dtype": torch.bfloat16, "kv_cache_dtype": "auto", "block_size": None}
        with set_current_vllm_config(VllmConfig()):
            path: str = platform.get_attn_backend_cls(selected, AttentionSelectorConfig(**{**plain, **changes}))
        return path.rpartition(".")[2]

    with pytest.raises(ConfigError, match="the overlay `attention`, which is off: enable both"):
        chosen()
    with ascend_overlay.enabled(only=["attention", "mla"]):
        assert chosen() == "AscendAttentionBackend"
        assert chosen(AttentionBackendEnum["ASCEND"]) == "AscendAttentionBackend"
        assert chosen(use_mla=True, head_size=576) == "AscendMLABackend"
        with pytest.raises(ConfigError, match="asks for FLASH_ATTN, which has no kernels for an NPU; leave the option"):
            chosen(AttentionBackendEnum.FLASH_ATTN)
        for changes in ({"head_size": 20}, {"use_mla": True, "use_sparse": True}, {"dtype": torch.float32}):
            with pytest.raises(ConfigError, match="is not served by ASCEND"):
                chosen(**changes)


@pytest.mark.parametrize(
    ("causes", "words"),
    [
        (["release"], "on the NPU platform, such a model is not served with this vLLM: why 0. With ASCEND_OVERLAY="),
        (["drift", "drift"], "on the NPU platform, such a model is not served with this vLLM: why 0. With "),
        # A patch of an overlay may be for other releases than the overlay.
        (["condition", "release"], "serves such a model with the overlay `one`, which is off: enable both; "),
        ([], "serves such a model with the overlay `one`, which is off: enable both; "),
    ],
)
def test_an_overlay_that_is_off(monkeypatch: pytest.MonkeyPatch, causes: list[str], words: str) -> None:
    entries = [SimpleNamespace(cause=cause, reason=f"why {number}") for number, cause in enumerate(causes)]
    monkeypatch.setattr(ascend_overlay, "ledger", lambda: SimpleNamespace(of=lambda name: entries))
    assert words in str(refusals.off("one", "such a model"))


@pytest.mark.vllm
def test_models_that_no_backend_or_kernel_serves_are_refused_at_start(platform: Any) -> None:
    from ascend_overlay.overlays.platform import backends

    def against(size: int = 128, **latent: Any) -> str | None:
        config = _config(kv_transfer_config=None)
        config.cache_config.user_specified_block_size = False
        config.parallel_config.tensor_parallel_size = 1
        config.model_config.get_head_size = lambda: size
        config.model_config.use_mla = bool(latent)
        vars(config.model_config.hf_text_config).update(latent)
        return backends.why_not(config)

    with pytest.raises(ConfigError, match="the overlay `attention`, which is off: enable both"):
        against()
    with ascend_overlay.enabled(only=["attention", "mla"]):
        assert against() is None
        assert "heads of 100 elements are not served" in str(against(100))
        assert against(kv_lora_rank=512) is None
        assert "the latent cache has 256 + 64 elements" in str(against(kv_lora_rank=256))
        refusals.see_experts(SimpleNamespace(is_moe=False))
        with pytest.raises(ConfigError, match="the overlay `moe`, which is off: enable both"):
            refusals.see_experts(SimpleNamespace(is_moe=True))
    with ascend_overlay.enabled(only=["moe"]):
        refusals.see_experts(SimpleNamespace(is_moe=True))


@pytest.mark.vllm
def test_a_configuration_is_settled(platform: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.config import CompilationMode, CUDAGraphMode, VllmConfig

    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    # Set here so that they are as before afterwards.
    monkeypatch.setenv("VLLM_WORKER_MULTIPROC_METHOD", "fork")
    monkeypatch.setenv("VLLM_USE_V2_MODEL_RUNNER", "0")
    monkeypatch.delenv("VLLM_USE_V2_MODEL_RUNNER")
    config = VllmConfig()
    config.parallel_config.worker_cls = "auto"
    config.compilation_config.mode = CompilationMode.VLLM_COMPILE
    config.compilation_config.backend = "eager"
    config.compilation_config.cudagraph_mode = CUDAGraphMode.PIECEWISE
    platform.check_and_update_config(config)
    assert config.parallel_config.worker_cls == "ascend_overlay.overlays.platform.worker.NPUWorker"
    assert config.cache_config.block_size == 128
    assert (os.environ["VLLM_WORKER_MULTIPROC_METHOD"], os.environ["VLLM_USE_V2_MODEL_RUNNER"]) == ("spawn", "0")
    compilation = config.compilation_config
    # What the user chose stays.
    assert (compilation.mode, compilation.backend) == (CompilationMode.VLLM_COMPILE, "eager")
    assert compilation.cudagraph_mode == CUDAGraphMode.PIECEWISE
    assert not any(value for name, value in vars(compilation.pass_config).items() if name.startswith("fuse_"))
    config.cache_config.block_size = 256
    config.cache_config.user_specified_block_size = True
    compilation.cudagraph_mode, compilation.cudagraph_capture_sizes = CUDAGraphMode.NONE, [1, 2]
    platform.check_and_update_config(config)
    assert config.cache_config.block_size == 256
    assert (compilation.cudagraph_capture_sizes, compilation.max_cudagraph_capture_size) == ([], 0)
