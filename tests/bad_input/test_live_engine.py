"""disable() while one of vLLM's own engines is alive."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.vllm

CODE = """
    import gc
    import ascend_overlay
    from ascend_overlay.errors import ActivationError

    ascend_overlay.enable(only=["roles"])
    from vllm.v1.engine.llm_engine import LLMEngine
    from vllm.v1.engine.async_llm import AsyncLLM

    class Mine(LLMEngine): pass

    for engine_class in (LLMEngine, AsyncLLM, Mine):
        # What counts is that an object of the class exists; building a whole engine takes a minute.
        engine = object.__new__(engine_class)
        AsyncLLM.__del__ = lambda self: None
        gc.freeze()
        try:
            ascend_overlay.disable()
        except ActivationError as error:
            print(error)
        del engine
    ascend_overlay.disable()
    # What a condition leaves out, such as patches of Ray where there is none, is not taken back either.
    print({entry.state for entry in ascend_overlay.ledger()} - {"skipped"})
"""


def test_refused_with_the_name_of_the_engine(python: object) -> None:
    pytest.importorskip("vllm")
    done = python.script(CODE, env={"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}, timeout=120)  # type: ignore[attr-defined]
    *refusals, last = [line for line in done.stdout.splitlines() if "engine is alive" in line or line.startswith("{")]
    assert [name in line for name, line in zip(("LLMEngine", "AsyncLLM", "Mine"), refusals, strict=True)] == [True] * 3
    assert all("Shut the engine down first" in line and "force=True" in line for line in refusals)
    assert last == "{'reverted'}"
