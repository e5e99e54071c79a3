"""Declared members of the real vLLM: arguments, the command line, configurations that embed each other, messages."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    """Have imported what vLLM imports when it is first used, which changes sys.meta_path."""
    from vllm.config import VllmConfig

    VllmConfig()


@pytest.fixture
def enabled(offer: Callable[..., Any]) -> Callable[..., Any]:
    """Enable an overlay that `build` fills, for the length of a block."""

    @contextlib.contextmanager
    def within(build: Callable[[Overlay], Any]) -> Iterator[Any]:
        overlay = Overlay("declared", reason="r")
        build(overlay)
        offer(overlay)
        with ascend_overlay.enabled(only=["declared"], propagate=False):
            yield ascend_overlay.ledger().of("declared")

    return within


def _arguments(*flags: str) -> Any:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    return make_arg_parser(FlexibleArgumentParser()).parse_args(list(flags))


@pytest.mark.parametrize("owner", ["vllm.engine.arg_utils:EngineArgs", "vllm.config.cache:CacheConfig"])
def test_a_default_reaches_the_arguments_and_the_command_line(enabled: Any, owner: str) -> None:
    from vllm.engine.arg_utils import AsyncEngineArgs, EngineArgs

    stock = AsyncEngineArgs.gpu_memory_utilization, EngineArgs.__init__, AsyncEngineArgs.__init__
    with enabled(lambda overlay: overlay.field(f"{owner}.gpu_memory_utilization", default=0.1)):
        assert EngineArgs.gpu_memory_utilization == AsyncEngineArgs.gpu_memory_utilization == 0.1
        assert _made(AsyncEngineArgs).gpu_memory_utilization == 0.1
        assert _arguments().gpu_memory_utilization == 0.1
        assert _arguments("--gpu-memory-utilization", "0.3").gpu_memory_utilization == 0.3
    assert _arguments().gpu_memory_utilization == stock[0] != 0.1
    assert (AsyncEngineArgs.gpu_memory_utilization, EngineArgs.__init__, AsyncEngineArgs.__init__) == stock


def test_a_default_of_a_configuration_reaches_those_that_embed_it(enabled: Any) -> None:
    from vllm.config import CacheConfig, VllmConfig

    validators = CacheConfig.__pydantic_validator__, VllmConfig.__pydantic_validator__
    with enabled(lambda overlay: overlay.field("vllm.config.cache:CacheConfig.gpu_memory_utilization", default=0.1)):
        assert CacheConfig().gpu_memory_utilization == 0.1
        assert VllmConfig(cache_config={}).cache_config.gpu_memory_utilization == 0.1
    assert (CacheConfig.__pydantic_validator__, VllmConfig.__pydantic_validator__) == validators


def test_a_new_field_of_a_configuration(enabled: Any) -> None:
    from vllm.config import ParallelConfig, VllmConfig

    with enabled(lambda overlay: overlay.field("vllm.config.parallel:ParallelConfig.site", default=1, annotation=int)):
        assert ParallelConfig(site=2).site == 2
        assert VllmConfig(parallel_config={"site": 3}).parallel_config.site == 3
        assert VllmConfig().parallel_config.site == 1
    with pytest.raises(ValueError, match="site"):
        ParallelConfig(site=2)


def test_a_new_argument_has_no_flag_and_the_ledger_says_so(enabled: Any) -> None:
    from vllm.engine.arg_utils import AsyncEngineArgs

    def build(overlay: Overlay) -> None:
        overlay.field("vllm.engine.arg_utils:EngineArgs.site", default=1, annotation=int)

    with enabled(build) as entries:
        assert _made(AsyncEngineArgs, site=2).site == 2
        assert any("no command-line flag: wrap" in note for note in entries[0].notes)


def test_a_reason_to_finish_crosses_processes(enabled: Any) -> None:
    import msgspec
    from vllm.v1.engine import EngineCoreOutput, FinishReason

    decoder = msgspec.msgpack.Decoder(EngineCoreOutput)
    encode = msgspec.msgpack.encode
    decoder.decode(encode(EngineCoreOutput("r", [1], finish_reason=FinishReason.STOP)))
    with enabled(lambda overlay: overlay.member("vllm.v1.engine:FinishReason.PAUSED", 5)):
        sent = encode(EngineCoreOutput("r", [1], finish_reason=FinishReason(5)))
        assert decoder.decode(sent).finish_reason is FinishReason.PAUSED
    with pytest.raises(msgspec.ValidationError):
        decoder.decode(sent)
    assert [*FinishReason][-1] is FinishReason.REPETITION


def test_a_type_of_cache(enabled: Any) -> None:
    from vllm.config import CacheConfig, VllmConfig
    from vllm.engine import arg_utils

    stock = arg_utils.CacheDType
    with enabled(lambda overlay: overlay.entry("vllm.config.cache:CacheDType", "site8")):
        assert VllmConfig(cache_config=CacheConfig(cache_dtype="site8")).cache_config.cache_dtype == "site8"
        assert _arguments("--kv-cache-dtype", "site8").kv_cache_dtype == "site8"
    assert arg_utils.CacheDType is stock
    with pytest.raises(ValueError, match="cache_dtype"):
        CacheConfig(cache_dtype="site8")
    with pytest.raises(SystemExit):
        _arguments("--kv-cache-dtype", "site8")


def test_a_wrapper_of_the_arguments_meets_those_of_serve(enabled: Any) -> None:
    from vllm.engine.arg_utils import AsyncEngineArgs

    met = []

    def build(overlay: Overlay) -> None:
        @overlay.wrap("vllm.engine.arg_utils:EngineArgs.__init__")
        def init(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
            met.append(type(instance).__name__)
            return wrapped(*args, **kwargs)

    with enabled(build):
        _made(AsyncEngineArgs)
    assert met == ["AsyncEngineArgs"]


@pytest.mark.parametrize(
    ("target", "value", "kind"),
    [
        ("vllm.sampling_params:SamplingParams.temperature", 0.25, "overlay.subclass"),
        ("vllm.v1.engine:FinishReason.ABORT", 77, "overlay.member"),
        ("vllm.engine.arg_utils:EngineArgs.gpu_memory_utilization", 0.1, "overlay.field"),
        ("vllm.config.cache:CacheConfig.gpu_memory_utilization", 0.1, "overlay.field"),
        ("vllm.config.cache:CacheDType", None, "overlay.entry"),
    ],
)
def test_attribute_names_the_kind_that_works(enabled: Any, target: str, value: Any, kind: str) -> None:
    from ascend_overlay.errors import TargetError

    __import__(target.partition(":")[0])
    with pytest.raises(TargetError, match=kind), enabled(lambda overlay: overlay.attribute(target, value)):
        pass


def _made(cls: Any, **values: Any) -> Any:
    """Return arguments whose model is a folder: nobody looks for it elsewhere."""
    return cls(model=os.getcwd(), **values)
