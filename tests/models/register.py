"""Registers models well and badly in the real vLLM; prints what happened as JSON. Usage: register.py CHECKPOINT"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from typing import Any

import ascend_overlay
from ascend_overlay.errors import OverlayError
from ascend_overlay.overlays.registry import checks

out: dict[str, Any] = {}


def attempt(call: Callable[[], object]) -> str:
    try:
        call()
    except OverlayError as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:
        return f"vLLM's {type(error).__name__}: {error}"
    return "registered"


with ascend_overlay.enabled(only=["registry"], propagate=False):
    from torch import nn
    from vllm import ModelRegistry
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.models import registry as module

    class Plain(nn.Module):
        def get_input_embeddings(self, input_ids: Any) -> None: ...
        def forward(self, input_ids: Any, positions: Any) -> None: ...
        def compute_logits(self, hidden_states: Any) -> None: ...
        def load_weights(self, weights: Any) -> None: ...

    class NoLogits(nn.Module):
        get_input_embeddings, forward, load_weights = Plain.get_input_embeddings, Plain.forward, Plain.load_weights

    deepseek = "vllm.model_executor.models.deepseek_v2"
    llama = "vllm.model_executor.models.llama:LlamaForCausalLM"
    loaded = {name for name in sys.modules if name.startswith("vllm.model_executor.models.")}
    register = ModelRegistry.register_model
    out["new"] = attempt(lambda: register("NewForCausalLM", llama))
    out["again"] = attempt(lambda: register("NewForCausalLM", llama))
    out["over"] = attempt(lambda: register("NewForCausalLM", f"{deepseek}:DeepseekV2ForCausalLM"))
    out["keywords"] = attempt(lambda: register(model_arch="OtherForCausalLM", model_cls=llama))
    out["class"] = attempt(lambda: register("NewForCausalLM", Plain))
    out["blanks"] = attempt(lambda: register("DeepseekV2ForCausalLM", f"{deepseek}:DeepseekV2ForCausalLM  "))
    out["wrong class"] = attempt(lambda: register("DeepseekV2ForCausalLM", f"{deepseek}:DeepseekV2ForCausualLM"))
    out["wrong module"] = attempt(lambda: register("NewForCausalLM", "vllm.model_executor.models.lama:Llama"))
    out["not a module"] = attempt(lambda: register("NewForCausalLM", "json.decoder:JSONDecoder"))
    out["not a module, class"] = attempt(lambda: register("NewForCausalLM", json.JSONDecoder))
    out["no logits"] = attempt(lambda: register("NewForCausalLM", NoLogits))
    out["a number"] = attempt(lambda: register("NewForCausalLM", 3))  # type: ignore[arg-type]
    out["too few"] = attempt(lambda: register("NewForCausalLM"))  # type: ignore[call-arg]
    out["imported by the checks"] = sorted(
        {name for name in sys.modules if name.startswith("vllm.model_executor.models.")} - loaded
    )
    entry = ModelRegistry.models["DeepseekV2ForCausalLM"]
    out["kept"] = f"{entry.module_name}:{entry.class_name}"
    out["unregistered"] = attempt(lambda: EngineArgs(model=sys.argv[1]).create_engine_config())
    out["unsupported by now"] = attempt(lambda: ModelRegistry._raise_for_unsupported(["MPTForCausalLM"]))

    out["defects of vLLM's own models"] = {
        name: found
        for name, entry in ModelRegistry.models.items()
        if hasattr(entry, "module_name") and (found := checks.defects(name, f"{entry.module_name}:{entry.class_name}"))
    }
    out["models"] = len(ModelRegistry.models)

with warnings.catch_warnings(record=True) as caught, ascend_overlay.enabled(only=["registry"], strict=False):
    warnings.simplefilter("always")
    out["tolerant, blanks"] = attempt(lambda: ModelRegistry.register_model("TolerantForCausalLM", f" {llama} "))
    out["tolerant, module"] = attempt(lambda: ModelRegistry.register_model("WrongForCausalLM", "nowhere.at:All"))
    out["tolerant, unregistered"] = attempt(lambda: ModelRegistry._raise_for_unsupported(["LlamaForCausualLM"]))
out["warnings"] = [str(warning.message) for warning in caught if "model architecture" in str(warning.message)]
entry = ModelRegistry.models["TolerantForCausalLM"]
out["tolerant, kept"] = f"{entry.module_name}:{entry.class_name}"
out["restored"] = all(
    type(vars(module._ModelRegistry)[name]).__name__ == "function"
    for name in ("register_model", "_raise_for_unsupported")
)
print("RESULT " + json.dumps(out))
