"""Whether a vLLM engine lives in this process: then nothing is taken back under it, unless that is forced."""

from __future__ import annotations

import gc
import importlib
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import ActivationError
from ascend_overlay.places.live import live_engines

ENGINES = {"llm_engine": "LLMEngine", "async_llm": "AsyncLLM", "core": "EngineCore"}


@pytest.fixture
def engines(site: Any, engine: Any) -> Any:
    files = {f"vllm/v1/engine/{file}.py": f"class {name}: ...\n" for file, name in ENGINES.items()}
    more = "class Base(EngineCore): ...\nclass EngineCoreProc(Base): ...\n"
    files["vllm/v1/engine/core.py"] += more
    site.vllm("0.32.0", {**files, "vllm/tool.py": "def run(): return 'stock'\n"})
    return lambda file: importlib.import_module(f"vllm.v1.engine.{file}")


def test_where_vllm_is_not_loaded_there_is_none(engines: Any) -> None:
    assert live_engines() == []


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("file", ENGINES)
def test_each_class_of_engine(engines: Any, file: str, frozen: bool) -> None:
    cls = getattr(engines(file), ENGINES[file])
    assert live_engines() == []
    made = cls()
    if frozen:
        gc.freeze()
    try:
        assert live_engines() == [ENGINES[file]]
    finally:
        gc.unfreeze()
    del made
    assert live_engines() == []


def test_derived_ones_and_several(engines: Any) -> None:
    core = engines("core")
    made = [core.EngineCoreProc(), core.EngineCore(), core.EngineCoreProc(), engines("async_llm").AsyncLLM()]
    assert live_engines() == ["AsyncLLM", "EngineCore", "EngineCoreProc"] and len(made) == 4


def test_what_only_garbage_holds_does_not_live(engines: Any) -> None:
    made = engines("core").EngineCore()
    made.itself = made
    gc.disable()
    try:
        del made
        assert live_engines() == []
    finally:
        gc.enable()


def test_nothing_is_taken_back_under_an_engine(engines: Any, offer: Any) -> None:
    tool = importlib.import_module("vllm.tool")
    made = engines("core").EngineCore()
    one, two = Overlay("one", reason="a test"), Overlay("two", reason="a test")
    one.replace("vllm.tool:run")(lambda: "ours")
    two.add("vllm.tool:new", 1)
    offer(one, two)
    ascend_overlay.enable(only=["one"])
    with pytest.raises(ActivationError, match=r"alive in this process \(EngineCore\).*force=True"):
        ascend_overlay.disable()
    with pytest.raises(ActivationError, match="alive in this process"):
        ascend_overlay.disable(only=["one"])
    ascend_overlay.disable(only=["two"])
    assert tool.run() == "ours"
    ascend_overlay.disable(force=True)
    assert tool.run() == "stock"
    ascend_overlay.enable(only=["one"])
    del made
    ascend_overlay.disable()
    assert tool.run() == "stock"
