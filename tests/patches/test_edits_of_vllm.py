"""Functions of the real vLLM, edited where they are captured by others, and restored."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.places.definitions import innermost
from ascend_overlay.places.target import Target

pytestmark = [pytest.mark.vllm, pytest.mark.usefixtures("engine")]


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    """Load vLLM before any test: it leaves finders of its own on sys.meta_path."""
    for target, *_ in CASES.values():
        module(Target.parse(target).module)


def module(name: str) -> Any:
    return importlib.import_module(name)


def scheduler_config() -> Any:
    return module("vllm.config.scheduler").SchedulerConfig(max_model_len=64, is_encoder_decoder=False)


async def numbers() -> AsyncIterator[int]:
    yield 5


async def merged() -> list[Any]:
    merge = module("vllm.utils.async_utils").merge_async_iterators
    return [pair async for pair in merge(numbers())]


async def healthy(status: int) -> bool:
    async def check() -> None: ...

    app = SimpleNamespace(state=SimpleNamespace(engine_client=SimpleNamespace(check_health=check)))
    response = await module("vllm.entrypoints.serve.instrumentator.health").health(SimpleNamespace(app=app))
    return bool(response.status_code == status)


def attended() -> float:
    import torch

    module("vllm.v1.attention.ops.vit_attn_wrappers")
    x = torch.ones(1, 2, 1, 4)
    return float(torch.ops.vllm.torch_sdpa_wrapper(x, x, x, None, None, False).sum())


# target, what is found, what takes its place, what shows it, stock, edited
CASES: dict[str, tuple[str, str, str, Callable[[], Any], Any, Any]] = {
    "a function that others have imported": (
        "vllm.utils.mem_utils:format_gib",
        'f"{round(b / GiB_bytes, 2)}"',
        'f"{round(b / GiB_bytes)}"',
        lambda: module("vllm.v1.core.kv_cache_utils").format_gib(2**30),
        "1.0",
        "1",
    ),
    "a staticmethod": (
        "vllm.v1.request:RequestStatus.is_finished",
        "status > RequestStatus.PREEMPTED",
        "status >= RequestStatus.PREEMPTED",
        lambda: module("vllm.v1.request").RequestStatus.is_finished(module("vllm.v1.request").RequestStatus.PREEMPTED),
        False,
        True,
    ),
    "a method with super()": (
        "vllm.config.multimodal:MultiModalDummyOptions.get",
        "return super().get(key, default)",
        "found = super().get(key, default)\nreturn found or 'nothing'",
        lambda: module("vllm.config.multimodal").MultiModalDummyOptions().get("image"),
        None,
        "nothing",
    ),
    "an async method": (
        "vllm.v1.engine.async_llm:AsyncLLM.check_health",
        "raise self.dead_error",
        "return 'dead'",
        lambda: asyncio.run(module("vllm.v1.engine.async_llm").AsyncLLM.check_health(SimpleNamespace(errored=True))),
        AttributeError,
        "dead",
    ),
    "an async generator": (
        "vllm.utils.async_utils:merge_async_iterators",
        "yield 0, item",
        "yield 7, item",
        lambda: asyncio.run(merged()),
        [(0, 5)],
        [(7, 5)],
    ),
    "a route of the server": (
        "vllm.entrypoints.serve.instrumentator.health:health",
        "await client.check_health()\nreturn Response(status_code=200)",
        "await client.check_health()\nreturn Response(status_code=204)",
        lambda: asyncio.run(healthy(204)),
        False,
        True,
    ),
    "a validator that pydantic holds": (
        "vllm.config.cache:CacheConfig._apply_block_size_default",
        "self.block_size = self.DEFAULT_BLOCK_SIZE",
        "self.block_size = 3 * self.DEFAULT_BLOCK_SIZE",
        lambda: module("vllm.config.cache").CacheConfig().block_size,
        16,
        48,
    ),
    "__post_init__ of a configuration": (
        "vllm.config.scheduler:SchedulerConfig.__post_init__",
        "self.encoder_cache_size = self.max_num_batched_tokens",
        "self.encoder_cache_size = 11",
        lambda: scheduler_config().encoder_cache_size,
        2048,
        11,
    ),
    "a function that torch holds as an operator": (
        "vllm.v1.attention.ops.vit_attn_wrappers:torch_sdpa_wrapper",
        "return apply_sdpa(q, k, v, scale=scale, enable_gqa=enable_gqa).contiguous()",
        "return 2 * apply_sdpa(q, k, v, scale=scale, enable_gqa=enable_gqa).contiguous()",
        attended,
        8.0,
        16.0,
    ),
}


def seen(show: Callable[[], Any]) -> Any:
    try:
        return show()
    except AttributeError as error:
        return type(error)


@pytest.mark.parametrize("case", CASES)
def test_a_function_of_vllm_runs_edited_and_is_restored(case: str, offer: Any) -> None:
    target, find, put, show, stock, edited = CASES[case]
    assert seen(show) == stock
    overlay = Overlay("edits", reason="test")
    overlay.edit(target, find=find, put=put)
    offer(overlay)
    place = Target.parse(target)
    owner = module(place.module)
    for name in place.path[:-1]:
        owner = vars(owner)[name]
    function = innermost(vars(owner)[place.path[-1]], place.path[-1])
    assert function is not None
    code = function.__code__
    with ascend_overlay.enabled(only=["edits"]):
        assert seen(show) == edited
        assert put.splitlines()[-1] in inspect.getsource(function)
        (entry,) = ascend_overlay.ledger().of("edits")
        assert entry.stale == []
    assert seen(show) == stock
    assert function.__code__ is code


def test_a_compiled_graph_stays_whole_and_follows(offer: Any) -> None:
    # Given a layer that was compiled, in one graph, before it is edited
    import torch
    from vllm.model_executor.layers.activation import SiluAndMul

    x = torch.tensor([[1.0, 2.0]])
    stock = SiluAndMul.forward_native(x)

    @torch.compile(fullgraph=True, backend="eager")
    def layer(x: Any) -> Any:
        return SiluAndMul.forward_native(x) + 0

    assert torch.equal(layer(x), stock)
    overlay = Overlay("edits", reason="test")
    overlay.edit(
        "vllm.model_executor.layers.activation:SiluAndMul.forward_native",
        find="return F.silu(x[..., :d]) * x[..., d:]",
        put="gate, up = x[..., :d], x[..., d:]\nreturn F.silu(gate) * up + 1",
    )
    offer(overlay)
    # When it is edited, then the graph is made anew, whole; and again when it is taken back
    with ascend_overlay.enabled(only=["edits"]):
        assert torch.equal(layer(x), stock + 1)
        direct = torch.compile(SiluAndMul.forward_native, fullgraph=True, backend="eager")
        assert torch.equal(direct(x), stock + 1)
    assert torch.equal(layer(x), stock)
    assert torch.equal(direct(x), stock)
