"""Layers of a quantized checkpoint compute the formulas in whole numbers, rounded once, on every rank."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from layer_kit import assert_rounded_once, calls, configured, tensor

import ascend_overlay
from ascend_overlay import settings
from ascend_overlay.errors import CheckpointError
from ascend_overlay.npu import tracing

torch = pytest.importorskip("torch")

from quantization_kit import SCHEMES, Checkpoint, config, load, rank  # noqa: E402

pytestmark = pytest.mark.vllm

HALVES = [torch.bfloat16, torch.float16]
OPERATORS = {
    "W8A8": {"npu_quantize": 1, "npu_quant_matmul": 1},
    "W8A8_DYNAMIC": {"npu_dynamic_quant": 1, "npu_quant_matmul": 1},
    "W8A8_MIX": {"npu_dynamic_quant": 1, "npu_quant_matmul": 1},
    "W8A16": {"npu_weight_quant_batchmatmul": 1},
}
NAME = "model.layers.0.self_attn.o_proj"


@pytest.fixture(autouse=True, scope="module")
def overlay() -> Iterator[None]:
    """Have the overlay, with calls counted, and vLLM's configuration."""
    pytest.importorskip("vllm.model_executor.layers.linear")
    with ascend_overlay.enabled(only=["quantization"], trace=True, propagate=False), configured():
        yield


def _assert_agrees(got: Any, parts: list[tuple[Any, Any]]) -> None:
    exact, size = (torch.cat(part, -1) for part in zip(*parts, strict=True))
    assert_rounded_once(got, exact, terms=size + exact.abs())


@pytest.mark.parametrize("kind", ["ReplicatedLinear", "ColumnParallelLinear", "RowParallelLinear"])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_layer_is_its_formula_in_whole_numbers(
    scheme: str, dtype: Any, biased: bool, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.model_executor.layers import linear

    checkpoint = Checkpoint(dtype)
    bias = tensor(2, 48, dtype=torch.float32) if biased else None
    checkpoint.add(NAME, scheme, tensor(1, 48, 80, dtype=torch.float32) / 9, bias, asymmetric=scheme == "W8A16")
    with rank(monkeypatch, 0, 1):
        layer = getattr(linear, kind)(
            80, 48, bias=biased, params_dtype=dtype, quant_config=config(checkpoint), prefix=NAME
        )
    load(layer, checkpoint, [NAME])
    assert layer.weight.dtype == torch.int8
    before = calls()
    for shape in ((1, 80), (7, 80), (2, 3, 80)):
        x = tensor(3, *shape, dtype=dtype)
        got = layer(x)[0]
        assert got.dtype == dtype
        assert got.shape == (*shape[:-1], 48)
        _assert_agrees(got.reshape(-1, 48), [checkpoint.expected(NAME, x.reshape(-1, 80))])
    after = calls()
    assert {name: after[name] - before.get(name, 0) for name in OPERATORS[scheme]} == {
        name: 3 * count for name, count in OPERATORS[scheme].items()
    }


QKV = {"qkv_proj": ["q_proj", "k_proj", "v_proj"]}
MODULES = [f"model.layers.0.self_attn.{part}" for part in QKV["qkv_proj"]]


def _qkv_checkpoint(scheme: str, dtype: Any, heads: int, kv_heads: int) -> Checkpoint:
    checkpoint = Checkpoint(dtype)
    for number, (module, count) in enumerate(zip(MODULES, (heads, kv_heads, kv_heads), strict=True)):
        weight, bias = (
            tensor(number, count * 16, 64, dtype=torch.float32) / 8,
            tensor(9, count * 16, dtype=torch.float32),
        )
        checkpoint.add(module, scheme, weight, bias)
    return checkpoint


@pytest.mark.parametrize(("size", "heads", "kv_heads"), [(1, 4, 2), (2, 4, 2), (4, 4, 2)])
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_queries_keys_and_values_are_loaded_side_by_side(
    scheme: str, dtype: Any, size: int, heads: int, kv_heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.model_executor.layers.linear import QKVParallelLinear

    checkpoint, x = _qkv_checkpoint(scheme, dtype, heads, kv_heads), tensor(5, 6, 64, dtype=dtype)
    for number in range(size):
        with rank(monkeypatch, number, size):
            layer = QKVParallelLinear(
                64,
                16,
                heads,
                kv_heads,
                bias=True,
                params_dtype=dtype,
                quant_config=config(checkpoint, QKV),
                prefix="model.layers.0.self_attn.qkv_proj",
            )
            load(layer, checkpoint, MODULES, ["q", "k", "v"])
            got = layer(x)[0]
        parts = []
        for module, count in zip(MODULES, (heads, kv_heads, kv_heads), strict=True):
            each = max(1, count // size)  # with more ranks than heads, several have the same
            start = number * each if count >= size else number // (size // count)
            place = slice(start * 16, (start + each) * 16)
            parts.append(tuple(part[:, place] for part in checkpoint.expected(module, x)))
        _assert_agrees(got, parts)


GATE_UP = {"gate_up_proj": ["gate_proj", "up_proj"]}


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_gate_and_up_are_loaded_side_by_side(scheme: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.model_executor.layers.linear import MergedColumnParallelLinear

    checkpoint, x = Checkpoint(torch.bfloat16), tensor(5, 6, 64, dtype=torch.bfloat16)
    modules = ["mlp.gate_proj", "mlp.up_proj"]
    for number, module in enumerate(modules):
        checkpoint.add(module, scheme, tensor(number, 40, 64, dtype=torch.float32))
    for number in range(size):
        with rank(monkeypatch, number, size):
            layer = MergedColumnParallelLinear(
                64,
                [40, 40],
                bias=False,
                params_dtype=torch.bfloat16,
                quant_config=config(checkpoint, GATE_UP),
                prefix="mlp.gate_up_proj",
            )
            load(layer, checkpoint, modules, [0, 1])
            got = layer(x)[0]
        place = slice(number * 40 // size, (number + 1) * 40 // size)
        _assert_agrees(got, [tuple(part[:, place] for part in checkpoint.expected(module, x)) for module in modules])


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(
    ("scheme", "without"),
    [
        *((scheme, ()) for scheme in SCHEMES),
        ("W8A8", ("quant_bias",)),
        ("W8A8", ("quant_bias", "deq_scale")),
        ("W8A8", ("weight_scale", "weight_offset")),
    ],
)
def test_what_row_parallel_ranks_compute_adds_up(
    scheme: str, biased: bool, without: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bias comes from the first rank alone, whether it is folded into the sums or not."""
    from vllm.model_executor.layers.linear import RowParallelLinear

    checkpoint, x = Checkpoint(torch.bfloat16), tensor(5, 6, 64, dtype=torch.bfloat16)
    bias = tensor(2, 40, dtype=torch.float32) * 10 if biased else None
    checkpoint.add(NAME, scheme, tensor(1, 40, 64, dtype=torch.float32), bias)
    exact, size = checkpoint.expected(NAME, x)
    for last in without:
        del checkpoint.tensors[f"{NAME}.{last}"]
    results = []
    for number in range(2):
        with rank(monkeypatch, number, 2):
            layer = RowParallelLinear(
                64, 40, bias=biased, params_dtype=torch.bfloat16, quant_config=config(checkpoint), prefix=NAME
            )
            load(layer, checkpoint, [NAME])
            results.append(layer(x[:, number * 32 : (number + 1) * 32].contiguous())[0].double())
    if scheme in ("W8A8_DYNAMIC", "W8A8_MIX"):
        # Each rank finds the scale of its own half of the token.
        assert ((results[0] + results[1] - exact).abs() < 0.02 * exact.abs().amax()).all()
        return
    # Each rank rounds what it gives.
    off = (results[0] + results[1] - exact).abs()
    assert (off <= 2**-8 * (results[0].abs() + results[1].abs()) + 1e-5 * size).all()


def test_a_bias_is_brought_into_units_without_float64_on_the_device() -> None:
    from types import SimpleNamespace

    from ascend_overlay.overlays.quantization.schemes.w8a8 import W8A8
    from ascend_overlay.quantization import Linear

    class OnDevice(torch.Tensor):  # type: ignore[misc, unused-ignore]
        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            assert func is not torch.Tensor.double, "an NPU has no float64"
            result = super().__torch_function__(func, types, args, kwargs or {})
            return result.as_subclass(torch.Tensor) if func is torch.Tensor.cpu else result

    bias, deq_scale = torch.tensor([1.0, -3.0]).as_subclass(OnDevice), torch.tensor([0.5, 2**-4]).as_subclass(OnDevice)
    layer = SimpleNamespace(bias=bias, weight=torch.tensor([[1, 2], [3, 4]], dtype=torch.int8))
    linear = Linear(
        name=NAME, projections=(NAME,), inputs=2, outputs=(2,), dtype=torch.bfloat16, absent=frozenset({"quant_bias"})
    )
    got = W8A8()._bias(layer, linear, torch.tensor([-5], dtype=torch.int8), deq_scale)
    assert got is not None and got.tolist() == [2 + 15, -48 + 35]


def test_a_rank_that_does_not_add_the_bias_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.model_executor.layers.linear import RowParallelLinear

    checkpoint = Checkpoint(torch.bfloat16)
    checkpoint.add(NAME, "W8A8", tensor(1, 40, 64, dtype=torch.float32))
    for number in range(2):
        with rank(monkeypatch, number, 2):
            layer = RowParallelLinear(
                64, 40, bias=False, params_dtype=torch.bfloat16, quant_config=config(checkpoint), prefix=NAME
            )
            load(layer, checkpoint, [NAME])
        assert (layer.quant_bias is None) == (number == 1)


def test_a_bias_that_the_caller_adds_is_not_added_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.model_executor.layers.linear import ColumnParallelLinear

    for scheme in SCHEMES:
        checkpoint, x = Checkpoint(torch.bfloat16), tensor(5, 6, 64, dtype=torch.bfloat16)
        bias = tensor(2, 40, dtype=torch.float32) * 10
        checkpoint.add(NAME, scheme, tensor(1, 40, 64, dtype=torch.float32), bias)
        with rank(monkeypatch, 0, 1):
            layer = ColumnParallelLinear(
                64,
                40,
                skip_bias_add=True,
                params_dtype=torch.bfloat16,
                quant_config=config(checkpoint),
                prefix=NAME,
            )
        load(layer, checkpoint, [NAME])
        got, later = layer(x)
        exact, _ = checkpoint.expected(NAME, x)
        assert ((got.double() + later.double() - exact).abs() < 0.02 * exact.abs().amax()).all(), scheme


def test_the_output_layer_can_be_quantized_and_wider_than_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM pads the vocabulary, and a product of the NPU has at most 65535 columns."""
    from vllm.model_executor.layers import vocab_parallel_embedding
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    monkeypatch.setattr(vocab_parallel_embedding, "get_tensor_model_parallel_rank", lambda: 0)
    monkeypatch.setattr(vocab_parallel_embedding, "get_tensor_model_parallel_world_size", lambda: 1)
    vocabulary = 70001
    for scheme in SCHEMES:
        checkpoint, x = Checkpoint(torch.bfloat16), tensor(5, 3, 32, dtype=torch.bfloat16)
        checkpoint.add("lm_head", scheme, tensor(1, vocabulary, 32, dtype=torch.float32))
        with rank(monkeypatch, 0, 1):
            head = ParallelLMHead(
                vocabulary, 32, params_dtype=torch.bfloat16, quant_config=config(checkpoint), prefix="lm_head"
            )
        load(head, checkpoint, ["lm_head"])
        before = calls()
        got = head.quant_method.apply(head, x)
        operator = "npu_weight_quant_batchmatmul" if scheme == "W8A16" else "npu_quant_matmul"
        assert calls()[operator] - before.get(operator, 0) == 2
        assert got.shape == (3, 70016)
        _assert_agrees(got[:, :vocabulary], [checkpoint.expected("lm_head", x)])
        assert not got[:, vocabulary:].any()


@pytest.mark.parametrize("policy", ["quantized", "off"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_weights_are_put_into_tiles_where_the_operator_takes_them(
    scheme: str, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.model_executor.layers.linear import ReplicatedLinear

    checkpoint = Checkpoint(torch.bfloat16)
    checkpoint.add(NAME, scheme, tensor(1, 48, 80, dtype=torch.float32))
    monkeypatch.setattr(settings, "_current", dataclasses.replace(settings.current(), weight_nz=policy))
    before = calls().get("npu_format_cast", 0)
    with rank(monkeypatch, 0, 1):
        layer = ReplicatedLinear(
            80, 48, bias=False, params_dtype=torch.bfloat16, quant_config=config(checkpoint), prefix=NAME
        )
    load(layer, checkpoint, [NAME])
    casts = calls().get("npu_format_cast", 0) - before
    assert casts == (1 if policy == "quantized" and scheme != "W8A16" else 0)
    assert layer.weight.shape == (80, 48)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_compiled_layer_is_one_graph(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.model_executor.layers.linear import ReplicatedLinear

    checkpoint, x = Checkpoint(torch.bfloat16), tensor(5, 6, 80, dtype=torch.bfloat16)
    checkpoint.add(NAME, scheme, tensor(1, 48, 80, dtype=torch.float32), tensor(2, 48, dtype=torch.float32))
    with rank(monkeypatch, 0, 1):
        layer = ReplicatedLinear(
            80, 48, bias=True, params_dtype=torch.bfloat16, quant_config=config(checkpoint), prefix=NAME
        )
    load(layer, checkpoint, [NAME])
    torch._dynamo.reset()
    with torch.no_grad():
        compiled = torch.compile(lambda x: layer(x)[0], fullgraph=True, dynamic=True, backend="aot_eager")
        for count in (6, 9):
            x = tensor(5, count, 80, dtype=torch.bfloat16)
            assert torch.equal(compiled(x), layer(x)[0])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_without_a_checkpoint_a_layer_can_be_run(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """load_format="dummy" fills floats with anything, and loads nothing."""
    from vllm.model_executor.layers.linear import QKVParallelLinear

    checkpoint = _qkv_checkpoint(scheme, torch.bfloat16, 4, 2)
    with rank(monkeypatch, 0, 1):
        layer = QKVParallelLinear(
            64,
            16,
            4,
            2,
            bias=False,
            params_dtype=torch.bfloat16,
            quant_config=config(checkpoint, QKV),
            prefix="model.layers.0.self_attn.qkv_proj",
        )
    for parameter in layer.parameters():
        if parameter.is_floating_point():
            parameter.data.uniform_(-1e-3, 1e-3)
    layer.quant_method.process_weights_after_loading(layer)
    assert not layer(tensor(5, 6, 64, dtype=torch.bfloat16))[0].any()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_weights_can_be_loaded_again(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trainer does so: vLLM restores the parameters as they were before processing, and keeps the memory."""
    from vllm.model_executor.layers.linear import ReplicatedLinear
    from vllm.model_executor.model_loader.reload import (
        finalize_layerwise_reload,
        initialize_layerwise_reload,
        record_metadata_for_reloading,
    )

    first, second = Checkpoint(torch.bfloat16), Checkpoint(torch.bfloat16)
    for seed, checkpoint in enumerate((first, second)):
        checkpoint.add(NAME, scheme, tensor(seed, 48, 80, dtype=torch.float32))
    with rank(monkeypatch, 0, 1):
        layer = ReplicatedLinear(
            80, 48, bias=False, params_dtype=torch.bfloat16, quant_config=config(first), prefix=NAME
        )
        record_metadata_for_reloading(layer)
        load(layer, first, [NAME])
        address, x = layer.weight.data_ptr(), tensor(5, 6, 80, dtype=torch.bfloat16)
        _assert_agrees(layer(x)[0], [first.expected(NAME, x)])
        initialize_layerwise_reload(layer)
        for name, value in second.tensors.items():
            parameter = getattr(layer, name.rpartition(".")[2])
            parameter.weight_loader(parameter, value)
        finalize_layerwise_reload(layer, None)
        assert layer.weight.data_ptr() == address
        _assert_agrees(layer(x)[0], [second.expected(NAME, x)])


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(
    ("role", "static"), [(None, False), ("kv_producer", False), ("kv_both", False), ("kv_consumer", True)]
)
def test_the_mixed_scheme_is_static_where_an_engine_only_decodes(
    role: str | None, static: bool, biased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.config import KVTransferConfig, get_current_vllm_config
    from vllm.model_executor.layers.linear import RowParallelLinear

    transfer = KVTransferConfig(kv_connector="SharedStorageConnector", kv_role=role) if role else None
    monkeypatch.setattr(get_current_vllm_config(), "kv_transfer_config", transfer)
    checkpoint, x = Checkpoint(torch.bfloat16, decodes=static), tensor(5, 6, 80, dtype=torch.bfloat16)
    bias = tensor(2, 48, dtype=torch.float32) if biased else None
    checkpoint.add(NAME, "W8A8_MIX", tensor(1, 48, 80, dtype=torch.float32), bias)
    with rank(monkeypatch, 0, 1):
        layer = RowParallelLinear(
            80, 48, bias=biased, params_dtype=torch.bfloat16, quant_config=config(checkpoint), prefix=NAME
        )
    load(layer, checkpoint, [NAME])
    assert layer.scheme.type == ("W8A8" if static else "W8A8_DYNAMIC")
    before = tracing.counts()
    _assert_agrees(layer(x)[0], [checkpoint.expected(NAME, x)])
    ran = {name for name, count in tracing.counts().items() if count != before.get(name, 0)}
    assert ran == ({"npu_quantize", "npu_quant_matmul"} if static else {"npu_dynamic_quant", "npu_quant_matmul"})
    kept = {name for name, _ in layer.named_parameters()} - {"bias"}
    wanted = {"input_scale_reciprocal", "input_offset", "deq_scale", "quant_bias"} if static else {"weight_scale"}
    assert kept == wanted | {"weight"}, "nothing of the other scheme is kept in memory"


def test_the_mixed_scheme_misses_what_it_computes_with(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.model_executor.layers.linear import ReplicatedLinear

    checkpoint = Checkpoint(torch.bfloat16)
    checkpoint.add(NAME, "W8A8_MIX", tensor(1, 48, 80, dtype=torch.float32))
    for last in ("input_scale", "deq_scale"):
        del checkpoint.tensors[f"{NAME}.{last}"]

    def built() -> Any:
        with rank(monkeypatch, 0, 1):
            made = config(checkpoint)
            return ReplicatedLinear(80, 48, bias=False, params_dtype=torch.bfloat16, quant_config=made, prefix=NAME)

    load(built(), checkpoint, [NAME])
    del checkpoint.tensors[f"{NAME}.weight_scale"]
    with pytest.raises(CheckpointError, match=r"has no .*o_proj\.weight_scale"):
        load(built(), checkpoint, [NAME])


def test_every_scheme_has_a_test() -> None:
    from ascend_overlay.quantization import LinearScheme, schemes

    assert {type_ for kind, type_ in schemes() if kind is LinearScheme} == set(SCHEMES)
    assert list(itertools.chain(OPERATORS)) == list(SCHEMES)
