"""Shape 8: a classmethod, and a staticmethod that three overlays wrap in a declared order and that is pickled."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from shape_kit import entry, late

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.hooks import hookimpl

pytestmark = [pytest.mark.vllm, pytest.mark.usefixtures("vllm_loaded")]

LORA = "vllm.lora.lora_model:LoRAModel.from_local_checkpoint"
CORE = "vllm.v1.engine.core:EngineCoreProc.run_engine_core"
OUTER_TO_INNER = ("shape_08_outer", "shape_08_middle", "shape_08_inner")

lora = Overlay("shape_08_lora", reason="adapters are given as file:// addresses", vllm=">=0.32", default=False)
# Contributed in another order than the declared one.
middle = Overlay("shape_08_middle", reason="the second wrapper", vllm=">=0.32", default=False)
outer = Overlay("shape_08_outer", reason="the first wrapper", vllm=">=0.32", default=False, after=["shape_08_middle"])
inner = Overlay("shape_08_inner", reason="the last wrapper", vllm=">=0.32", default=False, before=["shape_08_middle"])


@lora.wrap(LORA)
def from_address(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    folder, *others = args
    model = wrapped(folder.removeprefix("file://"), *others, **kwargs)
    model.loaded_by = instance
    return model


def passes(name: str) -> Callable[..., Any]:
    """Return a wrapper that notes in the ledger that it was passed, and collects names where the call has a list."""

    def wrapper(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        ascend_overlay.note(name, "passed")
        if "passed" in kwargs:
            kwargs["passed"].append(name)
        return wrapped(*args, **kwargs)

    return wrapper


for one in (middle, outer, inner):
    one.wrap(CORE)(passes(one.name))


@hookimpl
def ascend_overlay_overlays() -> Iterable[Overlay]:
    return [lora, middle, outer, inner]


def adapter(address: str = "") -> tuple[type, Any]:
    """Write a LoRA adapter and load it; return the class of the result and the class that loaded it."""
    import torch
    from safetensors.torch import save_file
    from vllm.lora.lora_model import LoRAModel
    from vllm.lora.peft_helper import PEFTHelper

    class Derived(LoRAModel):
        pass

    with tempfile.TemporaryDirectory() as folder:
        prefix = "base_model.model.model.layers.0.self_attn.q_proj"
        tensors = {f"{prefix}.lora_A.weight": torch.ones(2, 8), f"{prefix}.lora_B.weight": torch.ones(8, 2)}
        save_file(tensors, f"{folder}/adapter_model.safetensors")
        peft = PEFTHelper(r=2, lora_alpha=4, target_modules=["q_proj"])
        model = Derived.from_local_checkpoint(address + folder, {"q_proj"}, peft, lora_model_id=3, device="cpu")
    assert list(model.loras) == ["model.layers.0.self_attn.q_proj"]
    return type(model), getattr(model, "loaded_by", None)


def stock() -> None:
    from vllm.v1.engine.core import EngineCoreProc

    assert isinstance(vars(EngineCoreProc)["run_engine_core"], staticmethod)
    made, loaded_by = adapter()
    assert (made.__name__, loaded_by) == ("Derived", None)
    with pytest.raises(ValueError, match="contain tensors"):
        adapter("file://")


def effect() -> None:
    from vllm.v1.engine.core import EngineCoreProc

    made, loaded_by = adapter("file://")
    assert made.__name__ == "Derived"
    assert loaded_by is made
    # What multiprocessing does with the target of a process under the spawn start method.
    process = multiprocessing.get_context("spawn").Process(target=EngineCoreProc.run_engine_core, name="EngineCore")
    for target in (process._target, pickle.loads(pickle.dumps(process._target))):
        passed: list[str] = []
        with pytest.raises(KeyError, match="vllm_config"):
            target(passed=passed)
        assert tuple(passed) == OUTER_TO_INNER


def test_wrappers_of_a_classmethod_and_three_of_a_staticmethod() -> None:
    import vllm.lora.lora_model
    import vllm.v1.engine.core  # noqa: F401

    stock()
    with late(__name__, "shape_08_lora", *OUTER_TO_INNER):
        effect()
        assert entry("shape_08_lora", LORA).state == "applied"
        assert {entry(name, CORE).state for name in OUTER_TO_INNER} == {"applied"}
    stock()


def test_the_middle_one_can_leave_alone() -> None:
    from vllm.v1.engine.core import EngineCoreProc

    with late(__name__, *OUTER_TO_INNER):
        ascend_overlay.disable(only=["shape_08_middle"])
        passed: list[str] = []
        with pytest.raises(KeyError):
            EngineCoreProc.run_engine_core(passed=passed)
        assert passed == ["shape_08_outer", "shape_08_inner"]


def test_a_bound_method_that_is_wrapped_is_copied_with_its_object() -> None:
    from vllm.v1.core.sched.async_scheduler import AsyncScheduler

    with late("test_shape_02_private_method", "shape_02"):
        scheduler: Any = AsyncScheduler.__new__(AsyncScheduler)
        scheduler.kept = scheduler._update_from_kv_xfer_finished
        twin = copy.deepcopy(scheduler)
        assert twin.kept.__self__ is twin
        assert scheduler.kept.__self__ is scheduler
