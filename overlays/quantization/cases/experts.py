"""Quantized experts, of numbers that quantizing does not change, between the two products neither.

Inputs and weights are whole multiples of a step. Where the gate is large, its sigmoid is 1; it is 32 everywhere here,
and what is multiplied with it are whole numbers up to 127, so the int8 between the products keeps those, too.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from ascend_overlay.npu.case import CPU_EXPERTS_REFUSAL, LayerCase
from ascend_overlay.npu.cases.numbers import HALF_UNIT, dtype_of, normal, whole
from ascend_overlay.overlays.quantization.cases.linear import STEP, is_quantized, quant_config

_TOP_K, _HIDDEN, _INTERMEDIATE, _EXPERTS = 2, 128, 64, 8
_GATE = 32
_GROUP = 32  # what W4A16 takes where the description does not say
_OPERATORS = ("npu_moe_init_routing_v2", "npu_grouped_matmul", "npu_moe_token_unpermute")
_BETWEEN = {"bfloat16": ("npu_dequant_swiglu_quant",), "float16": ("npu_swiglu", "npu_dynamic_quant")}
_NAME = "mlp.experts"
_BESIDE = {"moe": "<0.30"}
"""The routers: before 0.30, vLLM's for layers of experts without a kernel of their own run on GPUs only."""


def cases() -> Iterator[LayerCase]:
    """Yield the cases of FusedMoE, whose RoutedExperts are of the types that there are."""
    for dtype in ("bfloat16", "float16"):
        for tokens in (1, 40):
            for type_ in ("W8A8_DYNAMIC", "W4A8_DYNAMIC"):
                yield LayerCase(
                    layer="vllm.model_executor.layers.fused_moe.routed_experts:RoutedExperts",
                    label=f"{type_}, {tokens} tokens, 2 of 8 experts, numbers that it keeps",
                    dtype=dtype,
                    overlay="quantization",
                    run=functools.partial(_run, tokens, dtype, type_),
                    operators=_OPERATORS + _BETWEEN[dtype],
                    # The NPU's operators round what each expert gives; vLLM's kernel adds it up in float32.
                    rtol=4 * HALF_UNIT[dtype],
                    atol=4 * HALF_UNIT[dtype],
                    beside=_BESIDE,
                    refusal=CPU_EXPERTS_REFUSAL,
                )
            yield LayerCase(
                layer="vllm.model_executor.layers.fused_moe.routed_experts:RoutedExperts",
                label=f"W4A16, {tokens} tokens, 2 of 8 experts",
                dtype=dtype,
                overlay="quantization",
                run=functools.partial(_run, tokens, dtype, "W4A16"),
                operators=("npu_moe_init_routing_v2", "npu_grouped_matmul", "npu_swiglu", "npu_moe_token_unpermute"),
                # Sums of numbers of both signs, rounded between the products.
                rtol=8 * HALF_UNIT[dtype],
                atol=8 * HALF_UNIT[dtype],
                beside=_BESIDE,
                refusal=CPU_EXPERTS_REFUSAL,
            )


def _run(tokens: int, dtype: str, type_: str) -> Any:
    import torch
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.forward_context import set_forward_context

    # One of its own: vLLM remembers in it the layers of experts by name, and takes each name once.
    config = VllmConfig()
    with set_current_vllm_config(config), torch.no_grad():
        layer = _layer(dtype, type_)
        with set_forward_context(None, config, num_tokens=tokens):
            return layer(_inputs(tokens, dtype), normal(7, tokens, _EXPERTS, dtype=dtype, scale=2))


def _layer(dtype: str, type_: str) -> Any:
    import torch
    from vllm.model_executor.layers.fused_moe import FusedMoEFactory

    projections = [f"{_NAME}.{i}.{part}_proj" for i in range(_EXPERTS) for part in ("gate", "up", "down")]
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype_of(dtype))
    try:
        layer = FusedMoEFactory(
            num_experts=_EXPERTS,
            top_k=_TOP_K,
            hidden_size=_HIDDEN,
            intermediate_size=_INTERMEDIATE,
            params_dtype=dtype_of(dtype),
            renormalize=True,
            prefix=_NAME,
            quant_config=quant_config(dict.fromkeys(projections, type_)),
        )
    finally:
        torch.set_default_dtype(before)
    held = layer.routed_experts
    for expert in range(_EXPERTS):
        for shard, tensors in _TENSORS[type_](expert, dtype):
            for last, tensor in tensors.items():
                name = f"{'w2' if shard == 'w2' else 'w13'}_{last}"
                parameter = getattr(held, name)
                parameter.weight_loader(parameter, tensor, f"{_NAME}.{name}", shard_id=shard, expert_id=expert)
    held.quant_method.process_weights_after_loading(held)
    return layer


def _of_8_bits(expert: int, dtype: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the tensors of an expert, quantized or in stock vLLM in float."""
    import torch

    for shard, (weight, scale) in _weights(expert, 6, 127).items():
        if is_quantized():
            yield shard, {"weight": weight.to(torch.int8), "weight_scale": scale}
        else:
            yield shard, {"weight": (weight * scale).to(dtype_of(dtype))}


def _of_4_and_8_bits(expert: int, dtype: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the same of weights of 4 bits, two outputs in a byte, with what the NPU adds to their products."""
    import torch

    for shard, (weight, scale) in _weights(expert, 2, 7).items():
        if not is_quantized():
            yield shard, {"weight": (weight * scale).to(dtype_of(dtype))}
            continue
        parts = 16 if shard == "w2" else 1
        packed = (weight[1::2] << 4) | (weight[::2] & 15)
        sums = 8 * (weight * scale).reshape(len(weight), parts, -1).sum(-1)
        yield shard, {"weight": packed.to(torch.int8), "weight_scale": scale, "scale_bias": sums.float()}


def _of_4_bits(expert: int, dtype: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the same of whole numbers of 4 bits, with scales that are powers of two."""
    import torch

    for number, shard in enumerate(("w1", "w3", "w2")):
        outputs, inputs = (_HIDDEN, _INTERMEDIATE) if shard == "w2" else (_INTERMEDIATE, _HIDDEN)
        weight = whole(3 * expert + number, -8, 7, outputs, inputs)
        scale = 2.0 ** whole(3 * expert + number + 50, -6, -5, outputs, inputs // _GROUP)
        if is_quantized():
            bits = (weight + 8).reshape(outputs, -1, 8) << torch.arange(0, 32, 4, device=weight.device)
            yield shard, {"weight_packed": bits.sum(-1).to(torch.int32), "weight_scale": scale}
        else:
            yield shard, {"weight": (weight * scale.repeat_interleave(_GROUP, 1)).to(dtype_of(dtype))}


def _inputs(tokens: int, dtype: str) -> Any:
    inputs = whole(8, -3, 3, tokens, _HIDDEN)
    inputs[:, 0], inputs[:, 1] = 127, 1  # the largest, and with it a power of two
    return (inputs * STEP).to(dtype_of(dtype))


def _weights(expert: int, power: int, largest: int) -> dict[str, tuple[Any, Any]]:
    """Return the whole weights of an expert and their scales, a row of outputs each: by vLLM's names for the parts.

    Args:
        expert: its number.
        power: the largest power of two among the weights of the gate.
        largest: what the others may be.
    """
    import torch

    size = whole(3 * expert, 0, power, _INTERMEDIATE)
    gate = torch.zeros(_INTERMEDIATE, _HIDDEN, dtype=torch.int64)
    gate[:, 0] = gate[:, 1] = 2**size
    up = whole(3 * expert + 1, -1, 1, _INTERMEDIATE, _HIDDEN)
    up[:, 0] = 0
    up[0, :2] = torch.tensor([1, 0])
    up[0, 2:] = 0  # 127 for each token, the most that there is
    down = whole(3 * expert + 2, -largest, largest, _HIDDEN, _INTERMEDIATE)
    return {
        "w1": (gate, _GATE / (128 * STEP) / 2.0 ** size[:, None]),
        "w3": (up, torch.full((_INTERMEDIATE, 1), 1 / STEP / 32)),
        "w2": (down, 2.0 ** (whole(expert, -20, -17, _HIDDEN, 1) + 7 - largest.bit_length())),
    }


_TENSORS = {"W8A8_DYNAMIC": _of_8_bits, "W4A8_DYNAMIC": _of_4_and_8_bits, "W4A16": _of_4_bits}
