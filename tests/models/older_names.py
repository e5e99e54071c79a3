"""Uses what vLLM no longer has, in the real vLLM under the overlay `compat`; prints what happened as JSON."""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

import ascend_overlay

out: dict[str, Any] = {}


def importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


ALIASES = [patch.target for patch in importlib.import_module("ascend_overlay.overlays.compat").overlay.patches]
ALIASES = [target for target in ALIASES if ":" not in target]
out["before"] = [name for name in ALIASES if importable(name)]

with ascend_overlay.enabled(only=["compat"], propagate=False):
    out["during"] = [name for name in ALIASES if importable(name)] == ALIASES

    import torch
    import vllm.attention.layer as layer_module
    from vllm.attention import Attention, AttentionMetadata, layer
    from vllm.attention.backends.abstract import AttentionType
    from vllm.model_executor import SamplingMetadata as ReExported
    from vllm.model_executor.layers.attention import Attention as Today
    from vllm.model_executor.layers.rotary_embedding import get_rope
    from vllm.model_executor.layers.sampler import SamplerOutput, get_sampler
    from vllm.model_executor.models import registry
    from vllm.model_executor.models.deepseek_v2 import DeepseekV2ForCausalLM, DeepseekV2Model
    from vllm.model_executor.models.interfaces_base import is_text_generation_model
    from vllm.model_executor.models.llama import LlamaForCausalLM
    from vllm.model_executor.sampling_metadata import SamplingMetadata
    from vllm.sequence import IntermediateTensors
    from vllm.utils import cdiv, make_tensor_with_pad
    from vllm.v1.attention import backend
    from vllm.v1.outputs import SamplerOutput as SamplerOutputToday
    from vllm.v1.sample.metadata import SamplingMetadata as SamplingMetadataToday
    from vllm.v1.sample.sampler import Sampler

    out["same objects"] = {
        "AttentionMetadata": AttentionMetadata is backend.AttentionMetadata,
        "AttentionType": AttentionType is backend.AttentionType,
        "SamplingMetadata": SamplingMetadata is ReExported is SamplingMetadataToday,
        "SamplerOutput": SamplerOutput is SamplerOutputToday,
        "get_sampler": isinstance(get_sampler(), Sampler),
        "Attention": issubclass(Attention, Today),
        "layer": layer is layer_module,
        "utils": cdiv(7, 2) == 4 and make_tensor_with_pad.__module__ == "vllm.utils.torch_utils",
        "IntermediateTensors": IntermediateTensors.__module__ == "vllm.sequence",
    }
    # Every name that the overlay knows is there, whoever asks for it.
    from ascend_overlay.overlays.compat import names

    missing = []
    for target, known in names._UTILS.items():
        missing += [f"{target}.{name}" for name in known if not hasattr(importlib.import_module("vllm.utils"), name)]
    for alias in ALIASES:
        module = importlib.import_module(alias)
        table = module.__getattr__.__closure__
        cells = [cell.cell_contents for cell in table]
        [entries] = [cell for cell in cells if isinstance(cell, dict)]
        missing += [f"{alias}.{name}" for name in entries if not hasattr(module, name)]
    out["names that lead nowhere"] = missing
    try:
        from vllm.attention import AttentionMetadat  # noqa: F401
    except ImportError as error:
        out["wrong name"] = f"{type(error).__name__}"
    try:
        _ = importlib.import_module("vllm.utils").make_tensor_with_pads
    except AttributeError as error:
        out["wrong name of utils"] = str(error)

    from vllm.config import VllmConfig, set_current_vllm_config

    with set_current_vllm_config(VllmConfig()):
        scaling = {"type": "linear", "factor": 2.0}
        old = get_rope(64, 32, 256, 1000.0, True, scaling)
        today = {"rope_theta": 1000.0, "rope_type": "linear", "factor": 2.0, "partial_rotary_factor": 0.5}
        new = get_rope(64, 256, True, today)
        out["rope"] = type(old) is type(new) and torch.equal(old.cos_sin_cache, new.cos_sin_cache)

    import older_api

    from ascend_overlay.overlays.compat.models import adapted

    custom = adapted(older_api.CustomModelForCausalLM)
    deepseek = adapted(older_api.CustomDeepseekV2ForCausalLM)
    out["adapted"] = {
        "derives": custom.__mro__[1] is older_api.CustomModelForCausalLM,
        "name": custom.__name__,
        "untouched": not hasattr(older_api.CustomModelForCausalLM, "embed_input_ids"),
        "once": adapted(older_api.CustomModelForCausalLM) is custom is adapted(custom),
        "of vLLM": adapted(LlamaForCausalLM) is LlamaForCausalLM,
        "generates": is_text_generation_model(custom) and is_text_generation_model(deepseek),
        "did not": not is_text_generation_model(older_api.CustomModelForCausalLM),
        "inspected": registry._ModelInfo.from_model_cls(older_api.CustomModelForCausalLM).is_text_generation_model,
        "between": [step.__module__ for step in deepseek.__mro__[:4]],
    }

    class Today2(torch.nn.Module):
        def embed_input_ids(self, input_ids: Any) -> None: ...
        def forward(self, input_ids: Any, positions: Any, intermediate_tensors: Any = None) -> None: ...
        def compute_logits(self, hidden_states: Any) -> None: ...

    class Derived(DeepseekV2ForCausalLM):
        def forward(self, input_ids: Any, positions: Any, intermediate_tensors: Any = None, inputs_embeds: Any = None):
            return super().forward(input_ids, positions, intermediate_tensors, inputs_embeds)

    out["today's classes are left alone"] = adapted(Today2) is Today2 and adapted(Derived) is Derived

    class FromTheStart(torch.nn.Module):
        def __init__(self, config: Any, cache_config: Any = None, quant_config: Any = None) -> None:
            super().__init__()
            self.given = config, cache_config

        def get_input_embeddings(self, input_ids: Any) -> Any:
            return ("embedded", input_ids)

        def forward(self, input_ids: Any, positions: Any, kv_caches: Any, attn_metadata: Any) -> Any:
            return kv_caches, attn_metadata

        def compute_logits(self, hidden_states: Any, sampling_metadata: Any) -> Any:
            return hidden_states, sampling_metadata

    class Config:
        class model_config:
            class hf_config:
                num_hidden_layers = 3

            hf_text_config = hf_config
            multimodal_config = None

        cache_config, quant_config, lora_config, scheduler_config = "cache", None, None, None

    model = adapted(FromTheStart)(vllm_config=Config, prefix="")
    out["oldest"] = {
        "constructor": model.given == (Config.model_config.hf_config, "cache"),
        "forward": model.forward(input_ids=1, positions=2, intermediate_tensors=None, inputs_embeds=None)
        == ([None, None, None], None),
        "embeddings": model.embed_input_ids(5) == ("embedded", 5),
        "logits": model.compute_logits(6) == (6, None),
    }
    out["own cache file"] = registry._LazyRegisteredModel("mine.models", "Mine")._get_cache_filename()
    out["cache file of vLLM's"] = registry._LazyRegisteredModel("vllm.x", "Mine")._get_cache_filename()

out["notes"] = [text for overlay, text in ascend_overlay.ledger().notes if overlay == "compat"]
out["after"] = [name for name in ALIASES if importable(name)]
out["left in sys.modules"] = [name for name in ALIASES if name in sys.modules]
out["utils restored"] = "__getattr__" not in vars(sys.modules["vllm.utils"])
out["not inspected any more"] = not registry._ModelInfo.from_model_cls(
    older_api.CustomModelForCausalLM
).is_text_generation_model
out["functions restored"] = [
    name
    for owner, name in [
        (registry._ModelInfo, "from_model_cls"),
        (registry._ModelRegistry, "_try_load_model_cls"),
        (registry._LazyRegisteredModel, "_get_cache_filename"),
    ]
    if type(vars(owner)[name]).__name__ not in ("function", "staticmethod")
]
assert DeepseekV2Model
print("RESULT " + json.dumps(out))
