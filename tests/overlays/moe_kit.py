"""What the tests of the experts share: a layer of experts as a model builds it, and its arithmetic in float64."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from layer_kit import one_rank

TOKENS, HIDDEN, INTERMEDIATE = 7, 128, 64


@contextlib.contextmanager
def model_around() -> Iterator[Any]:
    """Set vLLM's configuration and groups of one process, as around a model."""
    from vllm.config import VllmConfig, set_current_vllm_config

    config = VllmConfig()
    with one_rank(), set_current_vllm_config(config):
        yield config


def numbers(seed: int, *shape: int, dtype: Any, scale: float = 1.0) -> Any:
    """Return normally distributed numbers."""
    import torch

    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale).to(dtype)


def build(dtype: Any, *, num_experts: int = 8, top_k: int = 2, process: bool = True, **options: Any) -> Any:
    """Return a layer of experts with random weights, within `model_around`."""
    import torch
    from vllm.model_executor.layers.fused_moe import FusedMoEFactory

    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        layer = FusedMoEFactory(
            num_experts=num_experts,
            top_k=top_k,
            hidden_size=options.pop("hidden_size", HIDDEN),
            intermediate_size=options.pop("intermediate_size", INTERMEDIATE),
            params_dtype=dtype,
            prefix=options.pop("prefix", "model.layers.0.mlp.experts"),
            **options,
        )
    finally:
        torch.set_default_dtype(default)
    experts = layer.routed_experts
    with torch.no_grad():
        for seed, (_, parameter) in enumerate(sorted(experts.named_parameters())):
            scale = parameter.shape[-1] ** -0.5
            parameter.copy_(numbers(seed, *parameter.shape, dtype=parameter.dtype, scale=scale))
    if process:
        experts.quant_method.process_weights_after_loading(experts)
    return layer


def inputs(dtype: Any, *, tokens: int = TOKENS, num_experts: int = 8, hidden_size: int = HIDDEN) -> tuple[Any, Any]:
    """Return hidden states and router logits."""
    return numbers(1, tokens, hidden_size, dtype=dtype), numbers(2, tokens, num_experts, dtype=dtype, scale=2)


def forward(layer: Any, config: Any, *arguments: Any) -> Any:
    """Call the layer within a forward context, which ends with it: vLLM knows layers by their prefix."""
    from vllm.forward_context import set_forward_context

    with set_forward_context(None, config, num_tokens=arguments[0].shape[0]):
        return layer(*arguments)
