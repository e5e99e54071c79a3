"""Comparisons of layers of experts and of the routers of the CPU platform, for `ascend-overlay verify`."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from ascend_overlay.npu.case import CPU_EXPERTS_REFUSAL, LayerCase
from ascend_overlay.npu.cases.numbers import FLOATS, HALF_UNIT, dtype_of, normal

_VLLM = "vllm.model_executor.layers.fused_moe"
_TOP_K, _HIDDEN, _INTERMEDIATE, _EXPERTS = 2, 128, 64, 8
_OPERATORS = ("npu_moe_init_routing_v2", "npu_grouped_matmul", "npu_swiglu", "npu_moe_token_unpermute")
_GROUPED = {"use_grouped_topk": True, "num_expert_group": 2, "topk_group": 1}


def cases() -> Iterator[LayerCase]:
    """Yield the cases of the unquantized experts and of the routers."""
    for dtype in FLOATS:
        for tokens in (1, 40):
            yield LayerCase(
                layer=f"{_VLLM}.unquantized_fused_moe_method:UnquantizedFusedMoEMethod",
                label=f"{tokens} tokens, 2 of 8 experts",
                dtype=dtype,
                overlay="moe",
                run=functools.partial(_experts, tokens, dtype),
                operators=_OPERATORS,
                # The NPU's operators round each product, vLLM's kernel keeps them in float32.
                rtol=4 * HALF_UNIT[dtype],
                atol=4 * HALF_UNIT[dtype],
                refusal=CPU_EXPERTS_REFUSAL,
            )
    routings: dict[str, tuple[dict[str, Any], bool]] = {
        "softmax, renormalized": ({}, False),
        "softmax, best group": (_GROUPED | {"renormalize": False}, False),
        "sigmoid, biased, groups by two": (_GROUPED | {"scoring_func": "sigmoid", "routed_scaling_factor": 2.5}, True),
    }
    for label, (options, biased) in routings.items():
        yield LayerCase(
            layer=f"{_VLLM}.router.cpu_router:CPURouter",
            label=label,
            dtype="float32",
            overlay="moe",
            run=functools.partial(_router, options, biased),
            operators=(
                "npu_moe_gating_top_k_softmax_v2" if label == "softmax, renormalized" else "npu_moe_gating_top_k",
            ),
            rtol=4 * HALF_UNIT["float32"],
            atol=1e-6,
        )


def _experts(tokens: int, dtype: str) -> Any:
    """Run the method that vLLM builds for such experts; of a whole layer, it would be a second one of its name."""
    import torch
    from vllm.model_executor.layers.fused_moe.activation import MoEActivation
    from vllm.model_executor.layers.fused_moe.config import FusedMoEConfig, FusedMoEParallelConfig, RoutingMethodType
    from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import UnquantizedFusedMoEMethod

    method = UnquantizedFusedMoEMethod(
        FusedMoEConfig(
            num_experts=_EXPERTS,
            experts_per_token=_TOP_K,
            hidden_dim=_HIDDEN,
            intermediate_size=_INTERMEDIATE,
            num_local_experts=_EXPERTS,
            num_logical_experts=_EXPERTS,
            activation=MoEActivation.SILU,
            device="cpu",
            routing_method=RoutingMethodType.Default,
            moe_parallel_config=FusedMoEParallelConfig.make_no_parallel(),
            in_dtype=dtype_of(dtype),
        )
    )
    layer: Any = torch.nn.Module()
    settings = {
        "activation": MoEActivation.SILU,
        "apply_router_weight_on_input": False,
        "global_num_experts": _EXPERTS,
        "expert_map": None,
        "moe_config": method.moe,
        "_expert_routing_tables": lambda: None,
        # What a method reads that chooses experts itself, as vLLM's does on the CPU before 0.30.
        "top_k": _TOP_K,
        "use_grouped_topk": False,
        "renormalize": False,
        "topk_group": None,
        "num_expert_group": None,
        "custom_routing_function": None,
        "scoring_func": "softmax",
        "routed_scaling_factor": 1.0,
        "e_score_correction_bias": None,
    }
    vars(layer).update(settings)
    method.create_weights(layer, _EXPERTS, _HIDDEN, _INTERMEDIATE, dtype_of(dtype))
    for seed, weight in enumerate((layer.w13_weight, layer.w2_weight)):
        weight.data.copy_(normal(seed, *weight.shape, dtype=dtype, scale=weight.shape[-1] ** -0.5))
    method.process_weights_after_loading(layer)
    inputs, logits = normal(4, tokens, _HIDDEN, dtype=dtype), normal(3, tokens, _EXPERTS)
    if method.is_monolithic:
        return method.apply_monolithic(layer, inputs, logits)
    weights, experts = logits.softmax(-1).topk(_TOP_K)
    return method.apply(layer, inputs, weights, experts.to(torch.int32), None, None)


def _router(options: dict[str, Any], biased: bool) -> Any:
    from vllm.model_executor.layers.fused_moe.router.cpu_router import CPURouter

    bias = normal(5, _EXPERTS, scale=0.1) if biased else None
    router = CPURouter(top_k=_TOP_K, global_num_experts=_EXPERTS, e_score_correction_bias=bias, **options)
    weights, experts = router.select_experts(normal(6, 40, _HIDDEN), normal(7, 40, _EXPERTS))
    # vLLM's leaves the order of a token's experts open.
    order = experts.argsort(-1)
    return weights.gather(-1, order), experts.gather(-1, order)
