"""Loading the tensors of a quantized layer: what comes is checked, and what does not come is missed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from vllm.model_executor.layers.linear import (
    ColumnParallelLinear,
    MergedColumnParallelLinear,
    QKVParallelLinear,
    ReplicatedLinear,
    RowParallelLinear,
)
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

from ascend_overlay.errors import CheckpointError
from ascend_overlay.quantization import CheckpointTensor, Linear

_QKV = ("q", "k", "v", "index_q", "index_k")
"""Shards that vLLM knows by name, in the order of their outputs."""

_Shard = str | int | tuple[int, ...] | None


class Checkpoint(Protocol):
    """What a layer asks of the quantization config of its model.

    Attributes:
        weights_were_loaded: whether anything was loaded at all.
    """

    weights_were_loaded: bool

    @property
    def source(self) -> str:
        """The file that the description was read from."""

    def shards(self, layer: torch.nn.Module, prefix: str) -> list[str]:
        """Return the modules of the checkpoint that the layer `prefix` consists of."""

    def note_empty(self) -> None:
        """Say in the ledger that no weights were loaded."""


class Loading:
    """The loading of one layer.

    Args:
        layer: the layer of vLLM.
        linear: its sizes on this rank.
        config: remembers whether anything was loaded at all.
        loader: the layer's own loader of weights.
    """

    def __init__(self, layer: Any, linear: Linear, config: Checkpoint, loader: Callable[..., None]) -> None:
        self._layer = layer
        self._linear = linear
        self._config = config
        # vLLM has two kinds, and hands over the second to quantization methods that it knows by name.
        self._load: Callable[..., None] = getattr(layer, "weight_loader_v2", loader)
        self._tensors: dict[str, CheckpointTensor] = {}
        self._loaded: dict[str, set[int]] = {}

    @property
    def projections(self) -> tuple[str, ...]:
        """The modules of the checkpoint that the layer consists of."""
        return self._linear.projections

    def loader(self, tensor: CheckpointTensor) -> Callable[..., None]:
        """Return the function that vLLM calls with each tensor of the checkpoint that belongs to the parameter."""
        self._tensors[tensor.name] = tensor
        self._loaded[tensor.name] = set()

        def load(param: Tensor, loaded_weight: Tensor, loaded_shard_id: _Shard = None) -> None:
            shards = self._indices(loaded_shard_id)
            checked = self._checked(tensor, loaded_weight, shards, loaded_shard_id)
            if loaded_shard_id is None:
                self._load(param, checked)
            else:
                self._load(param, checked, loaded_shard_id)
            self._loaded[tensor.name].update(shards)
            self._config.weights_were_loaded = True

        return load

    def watch(self, name: str, parameter: Any) -> None:
        """Have a parameter that vLLM has given the layer, an element for each output, checked as it comes."""
        shape = (sum(self._linear.outputs),)
        tensor = CheckpointTensor(name=name, shape=shape, dtype=parameter.dtype, output_dim=0)
        load = getattr(parameter, "weight_loader", None)
        if load is None:
            return  # vLLM copies it, and sees that the shapes are equal

        def checked(param: Tensor, loaded_weight: Tensor, *shard: _Shard) -> None:
            which = shard[0] if shard else None
            load(param, self._checked(tensor, loaded_weight, self._indices(which), which), *shard)

        parameter.weight_loader = checked

    def finish(self) -> frozenset[str]:
        """See that all tensors were loaded; return the optional ones that the checkpoint does not have.

        Where no weights were loaded into any layer, as with load_format="dummy", those that have to be there become 1
        if they are floating, and the rest 0: a layer of such numbers can be processed.

        Raises:
            CheckpointError: a tensor is missing.
        """
        if not self._config.weights_were_loaded:
            self._config.note_empty()
            for name, tensor in self._tensors.items():
                getattr(self._layer, name).data.fill_(tensor.dtype.is_floating_point and not tensor.optional)
            return frozenset()
        everything = set(range(len(self._linear.outputs)))
        missing = []
        absent = set()
        for name, loaded in self._loaded.items():
            if not loaded and self._tensors[name].optional:
                absent.add(name)
                getattr(self._layer, name).data.zero_()
            elif loaded != everything:
                missing += [self._name(name, shard) for shard in sorted(everything - loaded)]
            loaded.clear()
        if missing:
            raise CheckpointError(
                f"the checkpoint has no {' and no '.join(dict.fromkeys(missing))}, which the layer "
                f"{self._linear.name} needs. Its safetensors files are incomplete, or the description is that of "
                f"another checkpoint: {self._config.source}."
            )
        return frozenset(absent)

    def _indices(self, shard: _Shard) -> list[int]:
        if isinstance(shard, str):
            return [_QKV.index(shard)] if shard in _QKV else []
        if isinstance(shard, int):
            return [shard]
        return list(range(len(self._linear.outputs))) if shard is None else list(shard)

    def _name(self, tensor: str, shard: int | None) -> str:
        names = self._linear.projections
        module = names[shard] if shard is not None and shard < len(names) else self._linear.name
        return f"{module}.{tensor}"

    def _checked(self, tensor: CheckpointTensor, found: Tensor, shards: list[int], shard: _Shard) -> Tensor:
        name = self._name(tensor.name, shards[0] if len(shards) == 1 else None)
        if found.dtype != tensor.dtype:
            floating = tensor.dtype.is_floating_point and found.dtype in (torch.float32, torch.bfloat16, torch.float16)
            if found.dtype not in tensor.accepts and not floating:
                wanted = " or ".join(map(str, (tensor.dtype, *tensor.accepts)))
                raise CheckpointError(
                    f"{name} is {found.dtype} in the checkpoint; a layer of its type has {wanted}. The description, "
                    f"{self._config.source}, is that of another checkpoint, or the tensor was converted."
                )
            if found.dtype in tensor.accepts and tensor.read is not None:
                try:
                    found = tensor.read(found)
                except ValueError as error:
                    raise CheckpointError(f"{name} {error}. Quantize the model again.") from error
        wanted_shape = self._shape(tensor, shard)
        if wanted_shape is None or tuple(found.shape) == wanted_shape:
            return found
        if [size for size in found.shape if size != 1] == [size for size in wanted_shape if size != 1]:
            return found.reshape(wanted_shape)  # [n, 1] for [n], or the other way round
        raise CheckpointError(misshapen(name, found, wanted_shape))

    def _shape(self, tensor: CheckpointTensor, shard: _Shard) -> tuple[int, ...] | None:
        """Return the shape of the tensor in the checkpoint, over all ranks; None if that is not known."""
        shape = list(tensor.shape)
        if tensor.output_dim is not None:
            outputs = _all_outputs(self._layer, shard)
            if outputs is None:
                return None
            # A parameter may hold several numbers in one element, or one for several outputs.
            shape[tensor.output_dim] = shape[tensor.output_dim] * outputs // sum(self._linear.outputs)
        if tensor.input_dim is not None:
            shape[tensor.input_dim] = shape[tensor.input_dim] * _all_inputs(self._layer) // self._linear.inputs
        return tuple(shape)


def misshapen(name: str, found: Tensor, wanted: tuple[int, ...]) -> str:
    """Return the sentence about a tensor of another shape."""
    return (
        f"{name} has the shape {tuple(found.shape)} in the checkpoint; for this model it is {wanted}. config.json is "
        f"that of another model, or the tensor is packed in a way that its type does not know."
    )


def _all_inputs(layer: Any) -> int:
    """Return how many inputs a layer has over all ranks. An output layer calls them so since 0.31 only."""
    return int(layer.embedding_dim if isinstance(layer, VocabParallelEmbedding) else layer.input_size)


def _all_outputs(layer: Any, shard: _Shard) -> int | None:
    """Return how many outputs the tensor of a shard has over all ranks; None for a layer that loads in its own way."""
    if isinstance(layer, VocabParallelEmbedding):
        return int(layer.org_vocab_size)
    if isinstance(layer, QKVParallelLinear) and _loads_as(layer, QKVParallelLinear):
        sizes = (
            layer.total_num_heads * layer.head_size,
            layer.total_num_kv_heads * layer.head_size,
            layer.total_num_kv_heads * layer.v_head_size,
        )
        if isinstance(shard, str):
            return int(sizes[_QKV.index(shard)])
        return int(sum(sizes)) if shard is None else None
    if isinstance(layer, MergedColumnParallelLinear) and _loads_as(layer, MergedColumnParallelLinear):
        chosen = [shard] if isinstance(shard, int) else shard or range(len(layer.output_sizes))
        return int(sum(layer.output_sizes[index] for index in chosen)) if not isinstance(shard, str) else None
    plain = (ColumnParallelLinear, RowParallelLinear)
    if isinstance(layer, ReplicatedLinear) or any(_loads_as(layer, kind) for kind in plain):
        return int(layer.output_size) if shard is None else None
    return None


def _loads_as(layer: Any, kind: type) -> bool:
    """Tell whether a layer has the loader of vLLM's class `kind`, and not one of its own."""
    loaders = ("weight_loader", "weight_loader_v2")
    return all(getattr(type(layer), name, None) is getattr(kind, name, None) for name in loaders)
