"""The model classes of the overlay `deepseek_v2`.

What they add to vLLM's:

- `packed_modules_mapping` names the parts of the routed experts too. A quantization config that describes a checkpoint
  tensor by tensor (ModelSlim's quant_model_description.json) resolves every fused layer through this mapping.
- The mapping is right for the model that is built. vLLM adds the keys of one configuration to a dictionary that all
  models of the process share, so a model with compressed queries leaves its key to the next one without.
- `load_weights` accounts for every tensor. vLLM exempts all layers that have a quantization method, the unquantized
  one included, from its own check: a missing expert, or one half of a fused projection, is garbage without a word.

Layers, operators and the forward pass are vLLM's own; other overlays change those.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from vllm.config import VllmConfig
from vllm.model_executor.models.deepseek_v2 import DeepseekV2ForCausalLM, DeepseekV3ForCausalLM

from ascend_overlay.overlays.deepseek_v2.weights import Audit


def _packed_modules() -> dict[str, list[str]]:
    return {
        "gate_up_proj": ["gate_proj", "up_proj"],
        # One expert stands for all: the layers of a routed expert share one quantization type.
        "experts": ["experts.0.gate_proj", "experts.0.up_proj", "experts.0.down_proj"],
    }


class _AscendLoading:
    """The additions, to be put in front of one of vLLM's classes."""

    packed_modules_mapping: dict[str, list[str]]

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        # The quantization config holds this very dictionary already, so it is changed in place.
        mapping = type(self).packed_modules_mapping
        mapping.clear()
        mapping.update(_packed_modules())
        # The first load of a model that starts from disk is complete. A dummy start is filled later, in pieces of which
        # nobody announces the last; a part of a larger model gets its weights in as many calls as they are scattered.
        self._load_is_complete = vllm_config.load_config.load_format != "dummy" and not prefix
        super().__init__(vllm_config=vllm_config, prefix=prefix)  # type: ignore[call-arg]

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Load a checkpoint, and account for every tensor of it and every parameter of the model.

        The first load of a model that starts from disk must be complete; later ones may bring a part of the weights, as
        a trainer does that sends them in buckets.

        Args:
            weights: names as in the checkpoint, with tensors in full size; each rank takes its own part.

        Returns:
            The names of the parameters that were loaded.

        Raises:
            WeightsError: a parameter gets no weights, or a tensor has no parameter to go to. Without strictness it is a
                warning.
        """
        load = super().load_weights  # type: ignore[misc]
        if not self._load_is_complete:
            loaded: set[str] = load(weights)
            return loaded
        audit = Audit(self)
        loaded = audit.load(load, weights)
        self._load_is_complete = False
        audit.settle(loaded)
        return loaded


class AscendDeepseekV2ForCausalLM(_AscendLoading, DeepseekV2ForCausalLM):  # type: ignore[misc, unused-ignore]
    """DeepSeek-V2 on Ascend; see the module for what it adds."""

    packed_modules_mapping = _packed_modules()


class AscendDeepseekV3ForCausalLM(_AscendLoading, DeepseekV3ForCausalLM):  # type: ignore[misc, unused-ignore]
    """DeepSeek-V3 and R1 on Ascend; see the module for what it adds."""

    packed_modules_mapping = _packed_modules()
