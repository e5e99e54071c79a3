"""What a quantized checkpoint leaves in float is checked as it comes, where vLLM would cut or fill what does not fit.

Weights of linear layers are checked by their method (see plain.py), and norms by vLLM.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from vllm.model_executor.layers.fused_moe import RoutedExperts
from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import UnquantizedFusedMoEMethod
from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod, VocabParallelEmbedding

import ascend_overlay
from ascend_overlay.errors import CheckpointError
from ascend_overlay.overlays.quantization import loading, numbers
from ascend_overlay.overlays.quantization.experts_loading import ExpertsLoading
from ascend_overlay.overlays.quantization.linear import AscendLinearMethod
from ascend_overlay.overlays.quantization.plain import PlainLinearMethod

_experts: WeakKeyDictionary[nn.Module, ExpertsLoading] = WeakKeyDictionary()


def watch(model: nn.Module) -> None:
    """Have biases of linear layers, embeddings and experts in float checked as they come."""
    seen: set[nn.Parameter] = set()
    for name, module in model.named_modules():
        method = getattr(module, "quant_method", None)
        if isinstance(method, AscendLinearMethod | PlainLinearMethod):
            if isinstance(bias := getattr(module, "bias", None), nn.Parameter):
                method.loading.watch("bias", bias)
        elif isinstance(module, VocabParallelEmbedding) and isinstance(method, UnquantizedEmbeddingMethod):
            # An output layer can have that of the embedding.
            if module.weight not in seen:
                seen.add(module.weight)
                _watch_embedding(name, module)
        elif isinstance(module, RoutedExperts) and isinstance(method, UnquantizedFusedMoEMethod):
            _watch_experts(name, module)


def finish(model: nn.Module, loaded: set[str]) -> None:
    """See that all experts in float were loaded.

    Args:
        model: the model.
        loaded: the parameters that it says it has loaded. Some copy all experts at once, past the layer.

    Raises:
        CheckpointError: a tensor is missing.
    """
    module: Any
    for name, module in model.named_modules():
        if module not in _experts or not module.quant_config.weights_were_loaded:
            continue
        if not (_experts[module].untouched and f"{name}.w13_weight" in loaded):
            _experts[module].finish()


def _watch_embedding(name: str, module: Any) -> None:
    weight, wanted = module.weight, (module.org_vocab_size, module.embedding_dim)
    load = weight.weight_loader

    def checked(param: Tensor, loaded_weight: Tensor) -> None:
        numbers.see_floating(f"{name}.weight", loaded_weight, weight.dtype)
        if tuple(loaded_weight.shape) != wanted:
            raise CheckpointError(loading.misshapen(f"{name}.weight", loaded_weight, wanted))
        load(param, loaded_weight)

    weight.weight_loader = checked


def _watch_experts(name: str, module: Any) -> None:
    moe, name = module.moe_config, name.removesuffix(".routed_experts")
    if (
        moe.hidden_dim != moe.hidden_dim_unpadded
        or moe.intermediate_size_per_partition != moe.intermediate_size_per_partition_unpadded
    ):
        ascend_overlay.note("quantization", f"{name}: vLLM fills these experts up, so their shapes are not checked")
        return
    weights = [last for last in ("w13_weight", "w2_weight") if hasattr(module, last)]
    if not weights:
        return
    _experts[module] = experts = ExpertsLoading(module, name, getattr(module, weights[0]).weight_loader)
    for last in weights:
        getattr(module, last).weight_loader = experts.loader(last, optional=False)
