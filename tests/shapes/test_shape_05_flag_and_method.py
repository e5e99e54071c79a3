"""Shape 5: a class flag is set, and a method is added; setting what is not there and adding what is are errors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from shape_kit import differences, entry, late, snapshot

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.errors import TargetError
from ascend_overlay.hooks import hookimpl

pytestmark = [pytest.mark.vllm, pytest.mark.usefixtures("vllm_loaded")]

MIXTRAL = "vllm.model_executor.models.mixtral:MixtralForCausalLM"


def named_weights(self: Any) -> list[str]:
    """Return the names of the parameters, sorted."""
    return sorted(name for name, _ in self.named_parameters())


overlay = Overlay("shape_05", reason="weights come from torch files", vllm=">=0.32", default=False)
overlay.attribute(f"{MIXTRAL}.fall_back_to_pt_during_load", True)
overlay.attribute(f"{MIXTRAL}.supports_pp", False, reason="inherited: the other models keep it")
overlay.add(f"{MIXTRAL}.named_weights", named_weights)

misspelt = Overlay("shape_05_misspelt", reason="an attribute that is not there", vllm=">=0.32", default=False)
misspelt.add(f"{MIXTRAL}.first", 1)
misspelt.attribute(f"{MIXTRAL}.fall_back_to_pt_during_loading", True)

present = Overlay("shape_05_present", reason="an addition that is there already", vllm=">=0.32", default=False)
present.add(f"{MIXTRAL}.first", 1)
present.add(f"{MIXTRAL}.load_weights", named_weights)


@hookimpl
def ascend_overlay_overlays() -> Iterable[Overlay]:
    return [overlay, misspelt, present]


def stock() -> None:
    from vllm.model_executor.models.mixtral import MixtralForCausalLM

    assert MixtralForCausalLM.fall_back_to_pt_during_load is False
    assert MixtralForCausalLM.supports_pp is True
    assert not hasattr(MixtralForCausalLM, "named_weights")


def effect() -> None:
    import torch
    from vllm.model_executor.models.interfaces import SupportsPP
    from vllm.model_executor.models.llama import LlamaForCausalLM
    from vllm.model_executor.models.mixtral import MixtralForCausalLM

    assert MixtralForCausalLM.fall_back_to_pt_during_load is True
    assert MixtralForCausalLM.supports_pp is False
    assert SupportsPP.supports_pp is True
    assert LlamaForCausalLM.supports_pp is True
    model = MixtralForCausalLM.__new__(MixtralForCausalLM)
    torch.nn.Module.__init__(model)
    model.register_parameter("b", torch.nn.Parameter(torch.zeros(1)))
    model.register_parameter("a", torch.nn.Parameter(torch.zeros(1)))
    assert model.named_weights() == ["a", "b"]


def test_flags_and_methods_of_one_class() -> None:
    import vllm.model_executor.models.llama  # noqa: F401

    stock()
    with late(__name__, "shape_05") as found:
        effect()
        assert [(one.kind, one.state) for one in found] == [("attribute", "applied")] * 2 + [("add", "applied")]
    stock()


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("shape_05_misspelt", "fall_back_to_pt_during_loading", "Did you mean 'fall_back_to_pt_during_load'"),
        ("shape_05_present", "load_weights", "exists already"),
    ],
)
def test_the_wrong_one_of_the_two_is_an_error_without_a_trace(name: str, target: str, message: str) -> None:
    import vllm.model_executor.models.mixtral  # noqa: F401

    before = snapshot()
    with pytest.raises(TargetError, match=message):
        ascend_overlay.enable(load=[__name__], only=[name], propagate=False)
    assert differences(before, snapshot()) == []
    assert entry(name, f"{MIXTRAL}.{target}").state == "failed"
    stock()
