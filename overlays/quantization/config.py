"""The quantization method `ascend`: which layer is loaded and computed in which way."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from vllm.model_executor.layers.quantization.base_config import QuantizationConfig, QuantizeMethodBase

import ascend_overlay
from ascend_overlay import settings
from ascend_overlay.availability import torch_npu_installed
from ascend_overlay.errors import CheckpointError, did_you_mean, some_of
from ascend_overlay.overlays.quantization import detection, unsupported
from ascend_overlay.quantization import find_experts, find_linear, fused
from ascend_overlay.quantization.description import FLOAT, Description

_MODEL = "model."

if TYPE_CHECKING:
    from ascend_overlay.overlays.quantization.unnamed import Unnamed

if torch_npu_installed():
    # An operator that this release does not have is missed with this. The reference kernels have all.
    import ascend_overlay.overlays.quantization.schemes


class AscendQuantizationConfig(QuantizationConfig):  # type: ignore[misc, unused-ignore]
    """What quant_model_description.json says, layer by layer.

    Made once, in the process that reads the configuration; the engine and the workers get it with that.

    Attributes:
        description: what the file says, with the names that the modules have in vLLM.
        packed_modules_mapping: name of a fused module -> names of the modules that it consists of in the checkpoint;
            vLLM puts in that of the model.
        weights_were_loaded: whether anything was loaded at all.
        unnamed: while a model is built, its layers that the description does not have under the name that they are
            built with; else None.
    """

    packed_modules_mapping: dict[str, list[str]]

    def __init__(self, description: Description | None = None) -> None:
        super().__init__()
        self.description = description
        self.weights_were_loaded = False
        self.unnamed: list[Unnamed] | None = None
        self._noted_empty = False
        self._may_lack_model = True

    def __repr__(self) -> str:
        return f"AscendQuantizationConfig({self.description.source if self.description else None!r})"

    def get_name(self) -> str:
        """Return "ascend"."""
        return detection.METHOD

    def get_supported_act_dtypes(self) -> list[torch.dtype]:
        """Return the dtypes that the quantized products of the NPU give."""
        return [torch.bfloat16, torch.float16]

    @classmethod
    def get_min_capability(cls) -> int:
        """Return -1: this number is about GPUs."""
        return -1

    @staticmethod
    def get_config_filenames() -> list[str]:
        """Return nothing: the description is read in `maybe_update_config`, whose errors can say more."""
        return []

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> AscendQuantizationConfig:
        """Return a config without a description; what is in config.json has no use here."""
        return cls()

    @classmethod
    def override_quantization_method(
        cls, hf_quant_cfg: dict[str, Any], user_quant: str | None, hf_config: Any = None
    ) -> str | None:
        """Take a model whose method is this one, by its description or by demand, whatever config.json says.

        ModelSlim leaves behind what was in the config.json of the model before: that of an original in fp8, too.
        """
        return detection.METHOD if user_quant == detection.METHOD else None

    def maybe_update_config(self, model_name: str, hf_config: Any = None, revision: str | None = None) -> None:
        """Read the description.

        Raises:
            CheckpointError: there is none, or it says something that this method cannot do.
        """
        self.description = detection.load(model_name, revision)
        unsupported.refuse(self.description)
        unsupported.note(self.description)

    def apply_vllm_mapper(self, hf_to_vllm_mapper: Any) -> None:
        """Give the modules the names that they have in vLLM."""
        if self.description is not None:
            self.description = self.description.renamed(hf_to_vllm_mapper.map_name)

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> QuantizeMethodBase | None:
        """Return how `layer` is loaded and computed; None for vLLM's own way.

        Args:
            layer: a layer that is being built.
            prefix: its name in the model.

        Raises:
            CheckpointError: the description does not say what the layer is, or what nothing here can do.
        """
        # At module level they would be imported with vLLM's list of methods, which is before what they need themselves.
        from vllm.model_executor.layers.fused_moe import RoutedExperts
        from vllm.model_executor.layers.linear import LinearBase
        from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding

        from ascend_overlay.overlays.quantization.linear import AscendLinearMethod
        from ascend_overlay.overlays.quantization.plain import PlainLinearMethod
        from ascend_overlay.overlays.quantization.unnamed import Unnamed

        if isinstance(layer, LinearBase):
            if self.unnamed is not None and not self.knows(layer, prefix):
                self.unnamed.append(unnamed := Unnamed(layer, prefix))
                return unnamed
            type_, tensor = self._of_linear(layer, prefix)
            if type_ == FLOAT:
                return PlainLinearMethod(prefix, self)
            return AscendLinearMethod(find_linear(type_, tensor), prefix, self)
        if isinstance(layer, RoutedExperts):
            type_, tensor = self._of_experts(prefix)
            return None if type_ == FLOAT else find_experts(type_, tensor).method(layer, prefix)
        if isinstance(layer, VocabParallelEmbedding):
            # Not in the checkpoint if it is tied to the embedding.
            type_ = self._weights.get(prefix, FLOAT)
            if type_ == FLOAT:
                return None
            if not isinstance(layer, ParallelLMHead):
                raise CheckpointError(
                    f"{self.source} says that {prefix}.weight is {type_!r}. There are no quantized embeddings; leave "
                    f"the embedding in float when you quantize the model."
                )
            return AscendLinearMethod(find_linear(type_, f"{prefix}.weight"), prefix, self)
        return None

    def note_empty(self) -> None:
        """Say in the ledger that no weights were loaded, so that what is computed means nothing until some are."""
        if not self._noted_empty:
            self._noted_empty = True
            ascend_overlay.note(
                "quantization",
                "no weights were loaded into quantized layers, as with load_format='dummy': they are zeros until then",
            )

    def shards(self, layer: torch.nn.Module, prefix: str) -> list[str]:
        """Return the modules of the checkpoint that the layer `prefix` consists of: several if it is fused."""
        from vllm.model_executor.layers.linear import MergedColumnParallelLinear, QKVParallelLinear

        usual: tuple[tuple[str, ...], ...] = ()
        if isinstance(layer, QKVParallelLinear):
            usual = fused.ATTENTION
        elif isinstance(layer, MergedColumnParallelLinear):
            usual = fused.MERGED
        return fused.parts_of(prefix, self.packed_modules_mapping, usual, self._weights, one_for_two=_keys_are_values())

    def knows(self, layer: torch.nn.Module, prefix: str) -> bool:
        """Tell whether the description has any part of a linear layer under this name."""
        self._begin_like(prefix)
        return any(shard in self._weights for shard in self.shards(layer, prefix))

    def _begin_like(self, prefix: str) -> None:
        """Have the names of the description begin with "model." if those of the model do, and none of it does.

        Embedding models are published with the names of the part that their class calls so; vLLM adds it as it loads.
        """
        description = self._described
        if not self._may_lack_model or not prefix.startswith(_MODEL):
            return
        self._may_lack_model = False
        if any(name.startswith(_MODEL) for name in description.weights):
            return
        first = prefix.removeprefix(_MODEL).partition(".")[0]
        if next(description.below(first), None):
            self.description = description.renamed(lambda name: f"{_MODEL}{name}")
            ascend_overlay.note("quantization", f"the names of {self.source} lack {_MODEL!r}, and are read with it")

    def _of_linear(self, layer: torch.nn.Module, prefix: str) -> tuple[str, str]:
        """Return the type of a linear layer, and a tensor of the checkpoint that has it."""
        shards = self.shards(layer, prefix)
        absent = [shard for shard in shards if shard not in self._weights]
        if absent:
            return self._undescribed(layer, prefix, absent)
        return self._common({shard: self._weights[shard] for shard in shards}, prefix)

    def _of_experts(self, prefix: str) -> tuple[str, str]:
        """Return the type of the routed experts, and a tensor of the checkpoint that has it."""
        # vLLM calls the layer that holds the experts of mlp.experts so.
        inside = prefix.removesuffix(".routed_experts")
        self._begin_like(inside)
        found = dict(self._described.below(inside))
        if not found and self._in_float(inside):
            ascend_overlay.note("quantization", f"{inside}: in float, as all that {self.source} says of its module")
            return FLOAT, inside
        if not found:
            raise CheckpointError(
                f"{self.source} has no entry for any weight of {inside}, the routed experts of the model. The "
                f"description belongs to another model, or vLLM knows the experts under another name."
            )
        return self._common(found, inside)

    def _in_float(self, experts: str) -> bool:
        """Tell whether experts that the description has under other names, or in one tensor, are left in float.

        They are if nothing of their module is quantized, apart from what all tokens take.
        """
        module = experts.rpartition(".")[0]
        types = {type_ for name, type_ in self._described.below(module) if "shared" not in name}
        in_one = any(name.startswith(f"{experts}.") or name == experts for name in self._described.floats)
        return bool(module) and types <= {FLOAT} and (bool(types) or in_one)

    def is_float_everywhere(self, prefix: str) -> bool:
        """Tell whether the description has modules with the last part of a name, and leaves all of them in float.

        Some models hold a layer elsewhere than the checkpoint.
        """
        last = prefix.rpartition(".")[2]
        types = {type_ for name, type_ in self._weights.items() if name.rpartition(".")[2] == last}
        return types == {FLOAT}

    def _common(self, types: dict[str, str], prefix: str) -> tuple[str, str]:
        if len(set(types.values())) > 1:
            by_type: dict[str, list[str]] = {}
            for name, type_ in types.items():
                by_type.setdefault(type_, []).append(f"{name}.weight")
            listed = "; ".join(f"{type_!r}: {some_of(names)}" for type_, names in by_type.items())
            raise CheckpointError(
                f"vLLM computes {prefix} in one product, and {self.source} gives its parts different types "
                f"({listed}). Quantize them alike."
            )
        name, type_ = next(iter(types.items()))
        return type_, f"{name}.weight"

    def _undescribed(self, layer: torch.nn.Module, prefix: str, absent: list[str]) -> tuple[str, str]:
        names = some_of([f"{shard}.weight" for shard in absent])
        hint = did_you_mean(f"{absent[0]}.weight", (f"{name}.weight" for name in self._weights))
        text = (
            f"{self.source} has no entry for {names}, which the layer {prefix!r} ({type(layer).__name__}) is loaded "
            f"from.{hint} A description lists every weight, those in float as 'FLOAT': add the entry, or quantize the "
            f"model again."
        )
        if settings.current().strict:
            raise CheckpointError(text)
        warnings.warn(f"{text} It is taken as 'FLOAT'.", RuntimeWarning, stacklevel=2)
        return FLOAT, names

    @property
    def _described(self) -> Description:
        if self.description is None:
            raise CheckpointError(
                "the quantization method 'ascend' was given no description. It is read by VllmConfig; build the layer "
                "within a configuration that was made for the model."
            )
        return self.description

    @property
    def _weights(self) -> Mapping[str, str]:
        return self._described.weights

    @property
    def source(self) -> str:
        """The file that the description was read from."""
        return self._described.source


def _keys_are_values() -> bool:
    """Tell whether layers of the model that is being built have no values of their own (Gemma 4)."""
    from vllm.config import get_current_vllm_config_or_none

    config = get_current_vllm_config_or_none()
    text = getattr(config and config.model_config, "hf_text_config", None)
    return bool(getattr(text, "attention_k_eq_v", False))
