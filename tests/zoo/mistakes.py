"""Mistakes that an implementation of a layer could make, made on purpose in a model of transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Mistake = Callable[[Any], None]
"""Changes a model of transformers in place."""


def _modules(model: nn.Module, ending: str) -> list[Any]:
    found = [module for module in model.modules() if type(module).__name__.endswith(ending)]
    assert found, f"the model has no module of a class called *{ending}"
    return found


def no_rope(model: Any) -> None:
    """Leave the rotary embedding out: every position is position zero."""
    for rotary in _modules(model, "RotaryEmbedding"):
        inner = rotary.forward

        def forward(x: Any, position_ids: Any, *args: Any, _inner: Any = inner, **kwargs: Any) -> Any:
            return _inner(x, torch.zeros_like(position_ids), *args, **kwargs)

        rotary.forward = forward


def unscaled_rope(model: Any) -> None:
    """Ignore the scaling of the rotary embedding."""
    for rotary in _modules(model, "RotaryEmbedding"):
        config = rotary.config
        width = getattr(config, "qk_rope_head_dim", None) or config.head_dim
        base = config.rope_parameters["rope_theta"]
        frequencies = base ** -(torch.arange(0, width, 2, dtype=torch.float32) / width)
        assert not torch.allclose(rotary.inv_freq, frequencies)
        rotary.inv_freq.copy_(frequencies)


def one_base(model: Any) -> None:
    """Use the rotary embedding of the whole sequence in the layers with a window, too."""
    for rotary in _modules(model, "RotaryEmbedding"):
        rotary.sliding_attention_inv_freq.copy_(rotary.full_attention_inv_freq)


def swapped_halves(model: Any) -> None:
    """Take the halves of the gated MLP for each other, in experts too."""
    for module in model.modules():
        if hasattr(module, "gate_proj"):
            module.gate_proj, module.up_proj = module.up_proj, module.gate_proj
        if hasattr(module, "gate_up_proj"):
            packed = module.gate_up_proj.data
            module.gate_up_proj.data = packed.roll(packed.shape[1] // 2, dims=1)


def norm_offset(model: Any) -> None:
    """Multiply by 1 + weight where the weight is meant, or the other way round."""
    offset = -1.0 if "Gemma" in type(model).__name__ else 1.0
    for norm in _modules(model, "RMSNorm"):
        norm.weight.data += offset


def no_norms_of_heads(model: Any) -> None:
    """Leave out the norms of queries and keys."""
    for attention in _modules(model, "Attention"):
        attention.q_norm = attention.k_norm = nn.Identity()


def exact_gelu(model: Any) -> None:
    """Put another function in the place of the activation: SiLU for GELU."""
    for module in _modules(model, "MLP"):
        module.act_fn = nn.SiLU()


def no_window(model: Any) -> None:
    """Let the layers with a window see everything."""
    model.config.sliding_window = 100_000
    for attention in _modules(model, "Attention"):
        attention.sliding_window = None


def no_cap_on_scores(model: Any) -> None:
    """Leave out the soft cap of attention."""
    for attention in _modules(model, "Attention"):
        attention.attn_logit_softcapping = None


def no_cap_on_logits(model: Any) -> None:
    """Leave out the soft cap of the logits."""
    model.config.final_logit_softcapping = None


def wrong_scale(model: Any) -> None:
    """Scale the scores of attention by the width of a head, whatever the configuration says."""
    for attention in _modules(model, "Attention"):
        attention.scaling = attention.head_dim**-0.5


def no_scale_of_yarn(model: Any) -> None:
    """Leave the factor of yarn out of the scale of attention."""
    for attention in _modules(model, "Attention"):
        attention.scaling = attention.qk_head_dim**-0.5


def _routers(model: Any) -> list[Any]:
    return [module for module in model.modules() if hasattr(module, "top_k") and hasattr(module, "weight")]


def not_renormalised(model: Any) -> None:
    """Leave the weights of the chosen experts as they are."""
    for router in _routers(model):
        router.norm_topk_prob = False


def renormalised(model: Any) -> None:
    """Let the weights of the chosen experts sum up to one."""
    for router in _routers(model):
        inner = router.forward

        def forward(hidden: Any, _inner: Any = inner) -> Any:
            logits, weights, chosen = _inner(hidden)
            return logits, weights / weights.sum(-1, keepdim=True), chosen

        router.forward = forward


def no_scaling_factor(model: Any) -> None:
    """Leave out the factor of the routed experts."""
    for router in _routers(model):
        router.routed_scaling_factor = 1.0


def no_bias(model: Any) -> None:
    """Choose experts without the bias."""
    for router in _routers(model):
        router.e_score_correction_bias.zero_()


def no_groups(model: Any) -> None:
    """Choose among the experts of all groups."""
    for router in _routers(model):
        router.topk_group = router.num_group


def biased_weights(model: Any) -> None:
    """Weigh the chosen experts with the bias, too."""
    for router in _routers(model):
        inner = router.forward

        def forward(hidden: Any, _router: Any = router, _inner: Any = inner) -> Any:
            logits, _, chosen = _inner(hidden)
            weights = (logits.sigmoid() + _router.e_score_correction_bias).gather(1, chosen)
            return logits, weights / weights.sum(-1, keepdim=True) * _router.routed_scaling_factor, chosen

        router.forward = forward


def no_shared_expert(model: Any) -> None:
    """Leave out the shared expert."""
    for module in model.modules():
        if hasattr(module, "shared_experts"):
            module.shared_experts.down_proj.weight.data.zero_()


_DENSE = (no_rope, swapped_halves, norm_offset)
_DEEPSEEK = (*_DENSE, unscaled_rope, no_scale_of_yarn, no_shared_expert)

MISTAKES: dict[str, tuple[Mistake, ...]] = {
    "llama3": (*_DENSE, unscaled_rope),
    "qwen3": (*_DENSE, no_norms_of_heads),
    "qwen3_moe": (*_DENSE, no_norms_of_heads, not_renormalised),
    "gemma2": (*_DENSE, exact_gelu, no_window, no_cap_on_scores, no_cap_on_logits, wrong_scale),
    "gemma3": (*_DENSE, exact_gelu, no_window, no_norms_of_heads, one_base, wrong_scale),
    "deepseek_v2": (*_DEEPSEEK, renormalised),
    "deepseek_v3": (*_DEEPSEEK, not_renormalised, no_scaling_factor, no_bias, no_groups, biased_weights),
}
"""The mistakes that each family is able to show."""
