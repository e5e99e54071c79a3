"""Loading the tensors of experts: what comes is checked, and what does not come is missed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ascend_overlay.errors import CheckpointError, some_of
from ascend_overlay.npu.reference.checks import FLOATS
from ascend_overlay.overlays.quantization.loading import misshapen

_SHARDS = {"w13": ("w1", "w3"), "w2": ("w2",)}


class ExpertsLoading:
    """The loading of one layer of experts.

    Args:
        layer: vLLM's RoutedExperts.
        name: its name in the model.
        loader: the layer's own loader of weights.
    """

    def __init__(self, layer: Any, name: str, loader: Callable[..., Any]) -> None:
        self._layer = layer
        self._name = name
        self._load = loader
        self._loaded: dict[str, set[tuple[int, str]]] = {}
        self._optional: set[str] = set()
        self._parts: dict[str, int] = {}

    def loader(self, name: str, *, optional: bool, parts: int = 0) -> Callable[..., Any]:
        """Return the function that vLLM calls with each tensor of the checkpoint that belongs to the parameter.

        Args:
            name: name of the parameter: "w13_weight_scale".
            optional: the checkpoint may be without it.
            parts: the checkpoint has so many columns of it, a number for each of as many equal parts of the inputs;
                the parameter gets the sum of those on this rank. 0: it has what the parameter has.
        """
        self._loaded[name] = set()
        self._parts[name] = parts
        if optional:
            self._optional.add(name)

        @functools.wraps(self._load)
        def load(
            param: Tensor,
            loaded_weight: Tensor,
            weight_name: str,
            shard_id: str,
            expert_id: int,
            return_success: bool = False,
        ) -> Any:
            checked = self._added_up(name, self._checked(name, param, loaded_weight, shard_id, expert_id))
            done = self._load(param, checked, weight_name, shard_id, expert_id, return_success=True)
            if done:
                here = self._layer._map_global_expert_id_to_local_expert_id(expert_id)
                whole = checked.dim() == 3
                self._loaded[name].update((i, shard_id) for i in (range(param.shape[0]) if whole else [here]))
            # Not only here: a rank may have no expert of a layer.
            self._layer.quant_config.weights_were_loaded = True
            return done if return_success else None

        return load

    @property
    def untouched(self) -> bool:
        """Tell whether nothing came through the layer's own loader."""
        return not any(self._loaded.values())

    def finish(self) -> None:
        """See that all tensors were loaded.

        Where no weights were loaded into any layer, as with load_format="dummy", the scales become 1 and the weights 0.

        Raises:
            CheckpointError: a tensor is missing.
        """
        if not self._layer.quant_config.weights_were_loaded:
            self._layer.quant_config.note_empty()
            for name in self._loaded:
                getattr(self._layer, name).data.fill_(name.endswith("_scale"))
            return
        missing = []
        for name, loaded in self._loaded.items():
            wanted = [(i, shard) for i in range(self._layer.local_num_experts) for shard in self._shards(name)]
            if not loaded and name in self._optional:
                getattr(self._layer, name).data.zero_()
            else:
                missing += [
                    self._tensor(name, shard, self._global(i)) for i, shard in wanted if (i, shard) not in loaded
                ]
            loaded.clear()
        if missing:
            raise CheckpointError(
                f"the checkpoint has no {some_of(missing, ', no ')}, which the experts {self._name} "
                f"need. Its safetensors files are incomplete, or the description is that of another checkpoint: "
                f"{self._layer.quant_config.source}."
            )

    def named(self, name: str) -> Callable[[Tensor], str]:
        """Return what names the first tensor of the checkpoint of which elements of the parameter `name` are wrong."""
        return lambda wrong: self._first(name, wrong)

    def _checked(self, name: str, param: Tensor, found: Tensor, shard: str, expert: int) -> Tensor:
        floating = param.dtype.is_floating_point
        # Offsets, which must be zero, come as integers, too.
        taken = (
            (*FLOATS, torch.int8, torch.int32) if name.endswith("_offset") else FLOATS if floating else (param.dtype,)
        )
        where = self._tensor(name, shard, expert)
        if found.dtype not in taken:
            raise CheckpointError(
                f"{where} is {found.dtype} in the checkpoint; experts of its type have {' or '.join(map(str, taken))}. "
                f"The description, {self._layer.quant_config.source}, is that of another checkpoint, or the tensor was "
                f"converted."
            )
        if found.dim() == 3:
            return found  # all experts in one; vLLM splits them
        wanted = self._shape(name, param, shard)
        if floating and wanted[1] == 1 and found.numel() == wanted[0]:
            return found.reshape(wanted)  # [n] for [n, 1]
        if tuple(found.shape) != wanted:
            raise CheckpointError(misshapen(where, found, wanted))
        return found

    def _added_up(self, name: str, found: Tensor) -> Tensor:
        """Return the sums of those columns that belong to inputs on this rank, where there are columns for parts."""
        if not self._parts[name]:
            return found
        spread = self._layer.moe_config.moe_parallel_config
        here = self._parts[name] // spread.tp_size
        return found.float().narrow(-1, spread.tp_rank * here, here).sum(-1, keepdim=True)

    def _shape(self, name: str, param: Tensor, shard: str) -> tuple[int, ...]:
        """Return the shape of the tensor of one expert in the checkpoint, over all ranks."""
        ranks = self._layer.moe_config.moe_parallel_config.tp_size
        rows, width = param.shape[1:]
        if self._parts[name]:
            return (rows, self._parts[name])
        if shard == "w2":
            # Scales of whole channels are on every rank; those of groups of inputs are with their inputs.
            return (rows, width if width == 1 and name.endswith(("_scale", "_offset")) else width * ranks)
        return (rows // len(self._shards(name)) * ranks, width)

    def _shards(self, name: str) -> tuple[str, ...]:
        shards = _SHARDS[name.partition("_")[0]]
        return shards if self._layer.moe_config.is_act_and_mul else shards[:1]

    def _global(self, local: int) -> int:
        found = self._layer.expert_map
        return local if found is None else int((found == local).nonzero()[0])

    def _tensor(self, name: str, shard: str, expert: int) -> str:
        """Return the name of a tensor of the checkpoint."""
        projections = {
            "w1": self._layer.ckpt_gate_proj_name,
            "w2": self._layer.ckpt_down_proj_name,
            "w3": self._layer.ckpt_up_proj_name,
        }
        return f"{self._name}.{expert}.{projections[shard]}.{name.partition('_')[2]}"

    def _first(self, name: str, wrong: Tensor) -> str:
        """Return the name of the first tensor with such a number."""
        expert, row = wrong.nonzero()[0][:2].tolist()
        shards = self._shards(name)
        return self._tensor(name, shards[row * len(shards) // wrong.shape[1]], self._global(expert))
