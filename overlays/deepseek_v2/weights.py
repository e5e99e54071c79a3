"""Accounting for a checkpoint: which tensors go where, what is missing, what nobody takes."""

from __future__ import annotations

import logging
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

import ascend_overlay
from ascend_overlay import settings
from ascend_overlay.errors import OverlayError, did_you_mean

# A child of vLLM's logger, so that it is shown where and how vLLM's own messages are.
logger = logging.getLogger("vllm.ascend_overlay")

_OVERLAY = "deepseek_v2"
_SHOWN = 8
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_ROTARY = ("rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached")
_SCALES = ("scale", "scale_inv", "scale_bias", "offset", "zero_point", "quant_bias")


class WeightsError(OverlayError):
    """A checkpoint and a model do not belong together, or the checkpoint is incomplete."""


class Audit:
    """Follows one load of a model of the DeepSeek-V2 family.

    Args:
        model: the model, with its parameters created and nothing loaded yet.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._name = type(model).__name__
        self._quantized = getattr(model, "quant_config", None) is not None
        self._layers = int(model.config.num_hidden_layers)
        self._mtp = int(getattr(model.config, "num_nextn_predict_layers", 0) or 0)
        self._absent = _absent_stages(model)
        self._sources = _sources(model)
        self._known = {name for names in self._sources.values() for name in names}
        self._known |= {name for name, _ in model.named_parameters(remove_duplicate=False)}
        self._experts = _expert_prefixes(model)
        self._seen: set[str] = set()
        self._unused: Counter[str] = Counter()
        self._unknown: list[str] = []
        self._last = ""

    def load(
        self,
        load_weights: Callable[[Iterable[tuple[str, torch.Tensor]]], set[str]],
        weights: Iterable[tuple[str, torch.Tensor]],
    ) -> set[str]:
        """Hand `weights` to `load_weights`, without those that have no place in the model.

        Raises:
            WeightsError: vLLM's loader does not know a tensor.
        """
        try:
            return load_weights(self._watched(weights))
        except KeyError as error:
            raise WeightsError(
                f"the checkpoint has the tensor {self._last!r}, and {self._name} has no parameter {error} for it."
                f"{did_you_mean(str(error.args[0]), self._known)} See that config.json belongs to this checkpoint."
            ) from error

    def settle(self, loaded: set[str]) -> None:
        """See that everything has found its place, given the names of the parameters that were loaded.

        Raises:
            WeightsError: something has not, and the overlays are strict.
        """
        missing = self._missing(loaded)
        for problem in filter(None, (self._about_missing(missing), self._about_unknown())):
            if settings.current().strict:
                raise WeightsError(problem)
            warnings.warn(problem, RuntimeWarning, stacklevel=3)
        filled = len(loaded & self._sources.keys())
        text = f"{self._name}: {len(self._seen)} tensors of the checkpoint loaded into {filled} parameters"
        if self._unused:
            text += "; not used: " + ", ".join(f"{count} {reason}" for reason, count in sorted(self._unused.items()))
        logger.info("%s", text)
        ascend_overlay.note(_OVERLAY, text)

    def _watched(self, weights: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in weights:
            self._last = name
            reason, passed = self._why_unused(name)
            if reason is None:
                self._seen.add(name)
            elif reason:
                self._unused[reason] += 1
            else:
                self._unknown.append(name)
            if passed:
                yield name, tensor

    def _why_unused(self, name: str) -> tuple[str | None, bool]:
        """Return why a tensor is not used (None: it is; "": nobody knows it), and whether vLLM shall see it."""
        if name in self._known:
            return None, True
        layer = _LAYER.search(name)
        if layer and int(layer[1]) >= self._layers + self._mtp:
            return f"of layers from {self._layers + self._mtp} on, which the model does not have", False
        if layer and int(layer[1]) >= self._layers:
            return "of MTP layers, which only speculative decoding loads", True
        if name.startswith(self._absent):
            return "of other pipeline stages", True
        if name.endswith(_ROTARY):
            return "of rotary caches, which are computed", False
        if self._is_remote_expert(name):
            return "of experts on other ranks", True
        if name.endswith(_SCALES):
            return "of quantization scales", True
        if self._quantized:
            # The parameters of a quantized layer are the quantization method's own business.
            return None, True
        if name.endswith(".bias"):
            return "of biases that the layers do not have", True
        return "", False

    def _is_remote_expert(self, name: str) -> bool:
        return any(part in name for part in self._experts)

    def _missing(self, loaded: set[str]) -> list[str]:
        missing = []
        for parameter, sources in self._sources.items():
            if self._quantized and not parameter.endswith(("weight", "e_score_correction_bias")):
                continue
            absent = [source for source in sources if source not in self._seen]
            missing.extend(absent if sources and absent else [parameter] if parameter not in loaded else [])
        return missing

    def _about_missing(self, missing: list[str]) -> str:
        if not missing:
            return ""
        return (
            f"the checkpoint of {self._name} lacks {_counted(missing)}, so parameters would be left uninitialised: "
            f"{_listed(missing)}. Download or convert the checkpoint again; if it was saved in several files, see that "
            f"all of them are there."
        )

    def _about_unknown(self) -> str:
        if not self._unknown:
            return ""
        hint = did_you_mean(min(self._unknown), self._known)
        return (
            f"the checkpoint has {_counted(self._unknown)} that {self._name} has no parameter for: "
            f"{_listed(self._unknown)}.{hint} See that config.json belongs to this checkpoint, and if it is quantized, "
            f"that the quantization method is set."
        )


def _sources(model: Any) -> dict[str, list[str]]:
    """Return the checkpoint's tensors that each parameter of this rank is made of."""
    packed = {name: parts for name, parts in model.packed_modules_mapping.items() if name != "experts"}
    packed["wk_weights_proj"] = ["wk", "weights_proj"]  # the indexer of sparse attention
    experts = _local_experts(model)
    return {name: _sources_of(name, packed, experts) for name, _ in model.named_parameters()}


def _sources_of(
    parameter: str, packed: dict[str, list[str]], experts: list[tuple[str, str, int, Callable[[str, int], bool]]]
) -> list[str]:
    if ".experts." in parameter:
        return [
            parameter.replace(ours, theirs)
            for ours, theirs, expert, is_local in experts
            if ours in parameter and is_local(parameter, expert)
        ]
    module, _, name = parameter.rpartition(".")
    parent, _, last = module.rpartition(".")
    return [".".join(filter(None, (parent, part, name))) for part in packed.get(last, [last])]


def _local_experts(model: Any) -> list[tuple[str, str, int, Callable[[str, int], bool]]]:
    """Return vLLM's mapping of expert weights, with a test of which expert lives in this rank's parameters."""
    if getattr(model.model, "is_fused_shared_expert_enabled", False) or model.num_redundant_experts:
        # Experts have other or further places then; vLLM's loader decides, and only whole parameters are checked.
        return []
    managers = {
        name: module.expert_map_manager
        for name, module in model.named_modules()
        if hasattr(module, "expert_map_manager")
    }

    def is_local(parameter: str, expert: int) -> bool:
        manager = managers.get(parameter.rpartition(".")[0])
        return manager is None or manager.map_global_to_local(expert) >= 0

    return [(ours, theirs, expert, is_local) for ours, theirs, expert, _ in model.get_expert_mapping()]


def _expert_prefixes(model: Any) -> tuple[str, ...]:
    return tuple({f".{theirs}" for _, theirs, _, _ in model.get_expert_mapping()})


def _absent_stages(model: Any) -> tuple[str, ...]:
    # Not vLLM's own function: it remembers its answer by id(model), and an id may come again.
    kinds = ("PPMissingLayer", "StageMissingLayer")
    return tuple(f"{name}." for name, module in model.named_modules() if type(module).__name__ in kinds)


def _counted(names: list[str]) -> str:
    return f"{len(names)} tensor{'s' if len(names) != 1 else ''}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(sorted(names)[:_SHOWN]) + more
