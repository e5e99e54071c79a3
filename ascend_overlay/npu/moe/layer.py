"""What these operators can compute of a layer of experts, as vLLM describes it in its FusedMoEConfig.

Nothing here imports vLLM unless it is given something of it.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ascend_overlay.npu.layout import cast_weight, wants_nz
from ascend_overlay.npu.moe.activation import Activation, activation
from ascend_overlay.npu.reference.checks import FLOATS

GROUPS = 1024
"""Experts on one rank, which npu_grouped_matmul takes as its groups."""


def activation_of(moe: Any) -> Activation | None:
    """Return the activation of the experts, or None where no operator computes it."""
    alpha = 1.0 if moe.swiglu_alpha is None else moe.swiglu_alpha
    beta = 0.0 if moe.swiglu_beta is None else moe.swiglu_beta
    return activation(moe.activation.value, limit=moe.swiglu_limit, alpha=alpha, beta=beta)


def is_swiglu(moe: Any) -> bool:
    """Tell whether the activation of the experts is ``a * sigmoid(a) * b`` of the halves of a row, and nothing more."""
    return bool(moe.activation.value == "silu" and moe.swiglu_limit is None)


def refusal(moe: Any) -> str | None:
    """Return what of the layer the operators do not compute, in a few words; None where they compute all of it."""
    from vllm import envs

    parallel = moe.moe_parallel_config
    if activation_of(moe) is None:
        return f"the activation {moe.activation.value}"
    if moe.is_lora_enabled:
        return "LoRA"
    if moe.moe_backend != "auto":
        return f"the setting moe_backend={moe.moe_backend}"
    # vLLM knows the first since 0.32.
    passed_through = getattr(parallel, "use_passthrough_all2all", False)
    if passed_through or (parallel.use_all2all_kernels and not parallel.use_ag_rs_all2all_kernels):
        return f"the all-to-all communication {parallel.all2all_backend}"
    if envs.VLLM_BATCH_INVARIANT:
        return "VLLM_BATCH_INVARIANT"
    if moe.in_dtype not in FLOATS:
        return f"activations of {moe.in_dtype}"
    if moe.num_local_experts > GROUPS:
        return f"{moe.num_local_experts} experts on one rank, more than npu_grouped_matmul's {GROUPS} groups"
    return None


def weighted_input(x: Tensor, weights: Tensor, layer_name: str) -> Tensor:
    """Return the tokens multiplied by the weights of their experts, of which each has one.

    Raises:
        ValueError: a token has more than one expert.
    """
    if weights.shape[1] != 1:
        raise ValueError(
            f"{layer_name}: the weights of {weights.shape[1]} experts cannot go to the input of all of them; "
            f"apply_router_weight_on_input takes models that choose one expert a token."
        )
    return x * weights.to(x.dtype)


def columns(weight: Tensor) -> Tensor:
    """Return weights as npu_grouped_matmul takes them, (experts, in, out).

    In FRACTAL_NZ, and copied for that, where the setting weight_nz wants it; else a view.

    Args:
        weight: (experts, out, in).
    """
    view = weight.transpose(1, 2)
    return cast_weight(view.contiguous()) if wants_nz(weight) else view
