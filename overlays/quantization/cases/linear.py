"""Quantized linear layers and output layers, of numbers that quantizing does not change.

Weights are whole multiples of a scale, and so are inputs: a quantized layer then computes what vLLM computes of the
same numbers in floating point, and the difference is that of the last rounding alone.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from ascend_overlay.npu.case import LayerCase
from ascend_overlay.npu.cases.numbers import HALF_UNIT, dtype_of, here, whole

_LAYERS = "vllm.model_executor.layers"
_OPERATORS = {
    "W8A8": ("npu_quantize", "npu_quant_matmul"),
    "W8A8_DYNAMIC": ("npu_dynamic_quant", "npu_quant_matmul"),
    "W8A8_MIX": ("npu_dynamic_quant", "npu_quant_matmul"),
    "W8A16": ("npu_weight_quant_batchmatmul",),
}
_TOKENS, _INPUTS = 33, 256
STEP = 2.0**-5
"""Between the inputs."""

# Class -> its modules in the checkpoint, each with its shard as vLLM calls it and how many outputs it has.
_MODULES: dict[str, dict[str, tuple[Any, int]]] = {
    "ReplicatedLinear": {"linear": (None, 96)},
    "ColumnParallelLinear": {"linear": (None, 96)},
    "RowParallelLinear": {"linear": (None, 96)},
    "MergedColumnParallelLinear": {"gate": (0, 64), "up": (1, 64)},
    "QKVParallelLinear": {"q": ("q", 128), "k": ("k", 64), "v": ("v", 64)},
}
_NAME = "fused"
"""Last part of the name that a layer has in vLLM."""


def cases() -> Iterator[LayerCase]:
    """Yield the cases of vLLM's linear layers and of its output layer under each scheme."""
    for dtype in ("bfloat16", "float16"):
        for scheme, operators in _OPERATORS.items():
            case = functools.partial(
                LayerCase,
                dtype=dtype,
                overlay="quantization",
                operators=operators,
                # vLLM's own product is rounded, too, and float16 is scaled by 19 bits where inputs are static.
                rtol=2 * HALF_UNIT[dtype] + (2**-10 if (scheme, dtype) == ("W8A8", "float16") else 0.0),
                atol=1e-3,
            )
            for kind in _MODULES:
                for biased in (False, True):
                    yield case(
                        layer=f"{_LAYERS}.linear:{kind}",
                        label=f"{scheme}{', bias' if biased else ''}, numbers that it keeps",
                        run=functools.partial(_linear, kind, scheme, dtype, biased),
                    )
            yield case(
                layer=f"{_LAYERS}.vocab_parallel_embedding:ParallelLMHead",
                label=f"{scheme}, numbers that it keeps",
                run=functools.partial(_output_layer, scheme, dtype),
            )


def _linear(kind: str, scheme: str, dtype: str, biased: bool) -> Any:
    from vllm.model_executor.layers import linear

    modules = _MODULES[kind]
    outputs = [count for _, count in modules.values()]
    sizes: tuple[Any, ...] = (_INPUTS, outputs if kind == "MergedColumnParallelLinear" else outputs[0])
    if kind == "QKVParallelLinear":
        sizes = (_INPUTS, 32, 4, 2)
    layer = getattr(linear, kind)(
        *sizes,
        bias=biased,
        params_dtype=dtype_of(dtype),
        quant_config=quant_config(dict.fromkeys(modules, scheme), {_NAME: list(modules)}),
        prefix=_NAME if len(modules) > 1 else next(iter(modules)),
    )
    for seed, (shard, count) in enumerate(modules.values()):
        _load(layer, scheme, dtype, seed, count, biased, () if shard is None else (shard,))
    layer.quant_method.process_weights_after_loading(layer)
    return layer(_inputs(dtype))[0]


def _output_layer(scheme: str, dtype: str) -> Any:
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    # vLLM fills the vocabulary up to a multiple of 64.
    vocabulary = 200
    layer = ParallelLMHead(
        vocabulary,
        _INPUTS,
        params_dtype=dtype_of(dtype),
        quant_config=quant_config({"lm_head": scheme}),
        prefix="lm_head",
    )
    _load(layer, scheme, dtype, 0, vocabulary, False)
    layer.quant_method.process_weights_after_loading(layer)
    # As LogitsProcessor calls it, which also cuts off what was filled up.
    return layer.quant_method.apply(layer, _inputs(dtype), bias=None)[:, :vocabulary]


def _inputs(dtype: str) -> Any:
    inputs = whole(9, -127, 127, _TOKENS, _INPUTS)
    inputs[:, 0] = 127  # so that a token's own scale is this step
    return (inputs * STEP).to(dtype_of(dtype))


def _load(layer: Any, scheme: str, dtype: str, seed: int, outputs: int, biased: bool, shard: Any = ()) -> None:
    """Load one module of the checkpoint: quantized, or the same numbers in float in stock vLLM."""
    import torch

    weight = whole(seed, -127, 127, outputs, _INPUTS).to(torch.int8)
    scale = 2.0 ** whole(seed + 20, -9, -6, outputs, 1)
    tensors = {"weight": (weight * scale).to(dtype_of(dtype))}
    if is_quantized():
        tensors = {"weight": weight, "weight_scale": scale}
        if scheme in ("W8A8", "W8A8_MIX"):
            tensors |= {
                "input_scale": here(torch.tensor([STEP])),
                "input_offset": here(torch.zeros(1, dtype=torch.int8)),
            }
    if biased:
        tensors["bias"] = (whole(seed + 40, -100, 100, outputs) * scale.flatten() * STEP).to(dtype_of(dtype))
    for name, tensor in tensors.items():
        parameter = getattr(layer, name)
        parameter.weight_loader(parameter, tensor, *shard)


def is_quantized() -> bool:
    """Tell whether the overlay is there; in stock vLLM, the layers are in float."""
    from vllm.model_executor.layers import quantization

    return "ascend" in quantization.QUANTIZATION_METHODS


def quant_config(types: dict[str, str], packed: dict[str, list[str]] | None = None) -> Any:
    """Return the configuration of a checkpoint, or None in stock vLLM.

    Args:
        types: names of modules -> types of their weights.
        packed: names of fused layers -> names of their modules.
    """
    from vllm.model_executor.layers.quantization import get_quantization_config

    from ascend_overlay.quantization.description import FILE, parse

    if not is_quantized():
        return None
    config = get_quantization_config("ascend")(parse({f"{name}.weight": type_ for name, type_ in types.items()}, FILE))
    config.packed_modules_mapping = packed or {}
    return config
