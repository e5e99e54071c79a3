"""Shape 9: targets in other packages: a function of torch, a method of a class of transformers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from shape_kit import differences, entry, late, snapshot

from ascend_overlay import Overlay
from ascend_overlay.hooks import hookimpl

pytestmark = [pytest.mark.vllm, pytest.mark.usefixtures("vllm_loaded")]

# torch.accelerator only re-exports it from torch.accelerator.memory.
TORCH = "torch.accelerator:get_memory_info"
TRANSFORMERS = "transformers.models.llama.configuration_llama:LlamaConfig.to_dict"

overlay = Overlay(
    "shape_09",
    reason="what runs on a host without an accelerator asks for its memory",
    torch=">=2.9",
    requires={"transformers": ">=4.57"},
    default=False,
)


@overlay.replace(TORCH)
def memory_of_the_host(device_index: Any = None, /) -> tuple[int, int]:
    return 3 << 30, 4 << 30


@overlay.wrap(TRANSFORMERS, reason="inherited: the other configurations keep theirs")
def marked(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return {**wrapped(*args, **kwargs), "marked": True}


@hookimpl
def ascend_overlay_overlays() -> Iterable[Overlay]:
    return [overlay]


def stock() -> None:
    import torch
    from transformers import LlamaConfig

    try:
        memory = torch.accelerator.get_memory_info()
    except RuntimeError:
        # There is no accelerator; a torch for CUDA speaks of the driver that it lacks.
        memory = (0, 0)
    assert memory != (3 << 30, 4 << 30)
    assert "marked" not in LlamaConfig().to_dict()
    assert "to_dict" not in vars(LlamaConfig)


def effect() -> None:
    import torch
    import torch.accelerator.memory
    from transformers import LlamaConfig, MistralConfig

    assert torch.accelerator.get_memory_info() == (3 << 30, 4 << 30)
    assert torch.accelerator.memory.get_memory_info(0) == (3 << 30, 4 << 30)
    found = LlamaConfig(hidden_size=64).to_dict()
    assert (found["marked"], found["hidden_size"]) == (True, 64)
    assert "marked" not in MistralConfig().to_dict()


def test_torch_and_transformers() -> None:
    from transformers import LlamaConfig

    stock()
    places = ("torch.accelerator", "transformers.models.llama", "transformers.configuration_utils")
    before = snapshot(*places)
    with late(__name__, "shape_09"):
        effect()
        assert "torch.accelerator.memory.get_memory_info" in entry("shape_09", TORCH).copies
        assert entry("shape_09", TRANSFORMERS).state == "applied"
        assert LlamaConfig is not None
    assert differences(before, snapshot(*places)) == []
    stock()
