"""Int8 experts of ModelSlim's checkpoints: loaded as they are, and exact but for the roundings that the format has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from layer_kit import calls
from moe_kit import HIDDEN, INTERMEDIATE, build, forward, inputs, model_around

import ascend_overlay
from ascend_overlay.errors import CheckpointError

torch = pytest.importorskip("torch")

from quantization_kit import Checkpoint, config  # noqa: E402

pytestmark = pytest.mark.vllm

NAME = "model.layers.0.mlp.experts"
EXPERTS = 8
SHARDS = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
OPERATORS = {
    "npu_grouped_matmul": 2,
    "npu_moe_init_routing_v2": 1,
    "npu_moe_token_unpermute": 1,
}


@pytest.fixture(autouse=True)
def model() -> Iterator[Any]:
    """vLLM's configuration and the overlay around each test."""
    pytest.importorskip("vllm.model_executor.layers.fused_moe")
    with (
        ascend_overlay.enabled(only=["quantization", "moe"], trace=True, propagate=False),
        model_around() as made,
    ):
        yield made


def _checkpoint(dtype: Any) -> Checkpoint:
    """Quantize random experts."""
    checkpoint = Checkpoint(dtype)
    for expert in range(EXPERTS):
        for seed, projection in enumerate(SHARDS):
            shape = (HIDDEN, INTERMEDIATE) if projection == "down_proj" else (INTERMEDIATE, HIDDEN)
            generator = torch.Generator().manual_seed(10 * expert + seed)
            weight = torch.randn(shape, generator=generator) * shape[1] ** -0.5
            checkpoint.add(f"{NAME}.{expert}.{projection}", "W8A8_DYNAMIC", weight)
    return checkpoint


def _layer(checkpoint: Checkpoint, **options: Any) -> Any:
    return build(
        checkpoint.dtype, num_experts=EXPERTS, prefix=NAME, quant_config=config(checkpoint), process=False, **options
    )


def _load(layer: Any, checkpoint: Checkpoint) -> None:
    """Load the tensors as vLLM's models do."""
    experts = layer.routed_experts
    for name, tensor in checkpoint.tensors.items():
        expert, projection, last = name.removeprefix(f"{NAME}.").split(".")
        shard = SHARDS[projection]
        parameter = getattr(experts, f"{'w2' if shard == 'w2' else 'w13'}_{last}")
        full = f"{NAME}.{'w2' if shard == 'w2' else 'w13'}_{last}"
        parameter.weight_loader(parameter, tensor, full, shard_id=shard, expert_id=int(expert), return_success=True)
    experts.quant_method.process_weights_after_loading(experts)


def _quantized(x: Any) -> tuple[Any, Any]:
    scale = x.float().abs().amax() / 127
    return (x.float() / scale).round().clamp(-128, 127).long(), scale


def _expected(
    checkpoint: Checkpoint, x: Any, weights: Any, experts: Any, part: slice = slice(None), *, fused: bool = False
) -> Any:
    """Compute token by token and expert by expert, with the sums in whole numbers, on a part of the intermediate."""
    dtype = checkpoint.dtype
    # The NPU takes a scale of bfloat16 where it writes that.
    scales = dtype if dtype == torch.bfloat16 else torch.float32

    def first(rows: Any, step: Any, weight: Any, scale: Any) -> Any:
        if not fused:
            return product(rows, step, weight, scale).float()
        return (rows @ weight.long().t()).float() * scale.float().flatten() * step

    def product(rows: Any, step: Any, weight: Any, scale: Any) -> Any:
        return ((rows @ weight.long().t()).float() * scale.to(scales).float().flatten() * step).to(dtype)

    result = torch.zeros(x.shape[0], HIDDEN)
    for token in range(x.shape[0]):
        rows, step = _quantized(x[token])
        for weight, expert in zip(weights[token], experts[token].tolist(), strict=True):
            (w1, s1), (w3, s3), (w2, s2) = (
                [checkpoint.tensors[f"{NAME}.{expert}.{projection}.{last}"] for last in ("weight", "weight_scale")]
                for projection in SHARDS
            )
            gate = first(rows, step, w1[part], s1[part])
            activated = gate * torch.sigmoid(gate) * first(rows, step, w3[part], s3[part])
            # Where one operator activates and quantizes, nothing is rounded in between.
            kept = activated if fused or dtype == torch.bfloat16 else activated.to(dtype)
            result[token] += weight * product(*_quantized(kept), w2[:, part], s2).float()
    return result.to(dtype)


def _assert_equal(got: Any, wanted: Any) -> None:
    """See that two results are equal but for the last rounding: a sigmoid may be off by one unit of float32."""
    off = (got.double() - wanted.double()).abs()
    assert (off > 0).double().mean() < 0.01
    assert (off <= torch.finfo(got.dtype).eps * wanted.double().abs()).all()


@pytest.mark.parametrize("nz", ["quantized", "off"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_is_the_integer_formula(model: Any, dtype: Any, nz: str) -> None:
    checkpoint = _checkpoint(dtype)
    with ascend_overlay.enabled(only=["quantization", "moe"], trace=True, propagate=False, weight_nz=nz):
        layer = _layer(checkpoint)
        _load(layer, checkpoint)
        hidden, logits = inputs(dtype)
        weights, experts = layer.router.select_experts(hidden, logits)
        got = forward(layer, model, hidden, logits)
        counts = calls()
    assert {name: counts[name] for name in OPERATORS} == OPERATORS
    # One operator between the products, where torch_npu documents it.
    one, two = ("npu_dequant_swiglu_quant",), ("npu_swiglu", "npu_dynamic_quant")
    between = one if dtype == torch.bfloat16 else two
    assert {name: counts.get(name, 0) for name in one + two} == {name: int(name in between) for name in one + two}
    assert counts.get("npu_format_cast", 0) == (2 if nz == "quantized" else 0)
    assert got.dtype == dtype
    _assert_equal(got, _expected(checkpoint, hidden, weights, experts))
    held = layer.routed_experts
    assert (held.w13_weight.dtype, held.w2_weight.dtype) == (torch.int8, torch.int8)
    assert not hasattr(held, "w13_weight_offset")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_fused_nothing_is_rounded_before_the_second_product(model: Any, dtype: Any) -> None:
    checkpoint = _checkpoint(dtype)
    only = ["quantization", "moe"]
    with ascend_overlay.enabled(only=only, trace=True, propagate=False, fused_experts=True):
        layer = _layer(checkpoint)
        _load(layer, checkpoint)
        hidden, logits = inputs(dtype)
        weights, experts = layer.router.select_experts(hidden, logits)
        got = forward(layer, model, hidden, logits)
        counts = calls()
    names = ("npu_grouped_matmul_swiglu_quant_v2", "npu_grouped_matmul", "npu_dequant_swiglu_quant", "npu_swiglu")
    assert [counts.get(name, 0) for name in names] == [1, 1, 0, 0]
    _assert_equal(got, _expected(checkpoint, hidden, weights, experts, fused=True))


def test_fused_weights_are_in_nz_or_it_says_why_not(model: Any) -> None:
    checkpoint = _checkpoint(torch.bfloat16)
    asked = {"only": ["quantization", "moe"], "trace": True, "propagate": False, "fused_experts": True}
    with ascend_overlay.enabled(**asked, weight_nz="off"):
        layer = _layer(checkpoint)
        _load(layer, checkpoint)
        forward(layer, model, *inputs(torch.bfloat16))
        assert calls()["npu_grouped_matmul"] == 2
        notes = [text for _, text in ascend_overlay.ledger().notes]
    assert any("stay apart, since the setting weight_nz leaves out FRACTAL_NZ" in text for text in notes)


def test_it_is_close_to_the_experts_in_float(model: Any) -> None:
    checkpoint = _checkpoint(torch.bfloat16)
    layer = _layer(checkpoint)
    _load(layer, checkpoint)
    hidden, logits = inputs(torch.bfloat16)
    got = forward(layer, model, hidden, logits)
    model.compilation_config.static_forward_context.clear()
    floats = build(torch.bfloat16, num_experts=EXPERTS, prefix=NAME)
    with torch.no_grad():
        for expert in range(EXPERTS):
            gate, up, down = (
                checkpoint.tensors[f"{NAME}.{expert}.{projection}.weight"].float()
                * checkpoint.tensors[f"{NAME}.{expert}.{projection}.weight_scale"].float()
                for projection in SHARDS
            )
            floats.routed_experts.w13_weight[expert] = torch.cat((gate, up)).to(torch.bfloat16)
            floats.routed_experts.w2_weight[expert] = down.to(torch.bfloat16)
    wanted = forward(floats, model, hidden, logits)
    assert (got - wanted).float().norm() < 0.03 * wanted.float().norm()


@pytest.mark.parametrize("number", [0, 1])
def test_a_rank_loads_its_part(model: Any, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    from vllm.model_executor.layers.fused_moe import config as fused_moe_config

    monkeypatch.setattr(fused_moe_config, "get_tensor_model_parallel_rank", lambda: number)
    checkpoint = _checkpoint(torch.bfloat16)
    layer = _layer(checkpoint, tp_size=2)
    _load(layer, checkpoint)
    hidden, logits = inputs(torch.bfloat16)
    weights, experts = layer.router.select_experts(hidden, logits)
    held = layer.routed_experts
    got = held.quant_method.apply(held, hidden, weights, experts, None, None)
    half = INTERMEDIATE // 2
    _assert_equal(got, _expected(checkpoint, hidden, weights, experts, slice(number * half, (number + 1) * half)))


def test_random_weights_are_taken(model: Any) -> None:
    """load_format="dummy" loads nothing."""
    layer = _layer(_checkpoint(torch.bfloat16))
    layer.routed_experts.quant_method.process_weights_after_loading(layer.routed_experts)
    assert torch.isfinite(forward(layer, model, *inputs(torch.bfloat16))).all()


def test_compiled_it_is_one_graph(model: Any) -> None:
    from vllm.forward_context import set_forward_context

    checkpoint = _checkpoint(torch.bfloat16)
    layer = _layer(checkpoint)
    _load(layer, checkpoint)
    torch._dynamo.reset()
    compiled = torch.compile(lambda *x: layer(*x), fullgraph=True, dynamic=True, backend="aot_eager")
    arguments = inputs(torch.bfloat16)
    with set_forward_context(None, model, num_tokens=arguments[0].shape[0]):
        assert torch.equal(compiled(*arguments), layer(*arguments))


def _changed(last: str, change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    def edit(tensors: dict[str, Any]) -> None:
        name = f"{NAME}.3.up_proj.{last}"
        tensors[name] = change(tensors[name])

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda tensors: tensors.pop(f"{NAME}.3.up_proj.weight"), r"has no .*experts\.3\.up_proj\.weight, which"),
        (lambda tensors: tensors.pop(f"{NAME}.7.down_proj.weight_scale"), r"has no .*experts\.7\.down_proj\.weight_sc"),
        (_changed("weight", lambda t: t.float()), r"3\.up_proj\.weight is torch\.float32 .* have torch\.int8"),
        (_changed("weight_scale", lambda t: t.to(torch.int8)), r"3\.up_proj\.weight_scale is torch\.int8"),
        (_changed("weight", lambda t: t[:3]), r"up_proj\.weight has the shape \(3, 128\) .* it is \(64, 128\)"),
        (_changed("weight_scale", lambda t: t[:3]), r"weight_scale has the shape \(3, 1\) .* it is \(64, 1\)"),
        (_changed("weight_offset", lambda t: t + 1), r"experts\.3\.up_proj\.weight_offset is not zero"),
        (_changed("weight_scale", lambda t: t * float("nan")), r"experts\.3\.up_proj\.weight_scale holds nan"),
    ],
)
def test_a_wrong_checkpoint_is_an_error_that_says_so(model: Any, edit: Any, message: str) -> None:
    checkpoint = _checkpoint(torch.bfloat16)
    layer = _layer(checkpoint)
    edit(checkpoint.tensors)
    with pytest.raises(CheckpointError, match=message):
        _load(layer, checkpoint)


def test_what_may_be_absent_or_of_another_form(model: Any) -> None:
    """No offsets at all, and scales in one dimension."""
    checkpoint = _checkpoint(torch.bfloat16)
    layer, plain = _layer(checkpoint), Checkpoint(torch.bfloat16)
    plain.tensors = {
        name: tensor.flatten() if name.endswith("_scale") else tensor
        for name, tensor in checkpoint.tensors.items()
        if not name.endswith("_offset")
    }
    _load(layer, plain)
    hidden, logits = inputs(torch.bfloat16)
    weights, experts = layer.router.select_experts(hidden, logits)
    _assert_equal(forward(layer, model, hidden, logits), _expected(checkpoint, hidden, weights, experts))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"activation": "situ"}, "the activation situ"), ({"has_bias": True}, "biases")],
)
def test_what_has_no_int8_experts_is_refused(model: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=f"there are no int8 experts with {message}"):
        _layer(_checkpoint(torch.bfloat16), **options)
