"""Experts of 4 bits with inputs of int8: loaded as ModelSlim writes them, and exact but for the format's roundings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_kit import calls
from moe_kit import HIDDEN, build, forward, inputs, model_around

import ascend_overlay
from ascend_overlay.errors import CheckpointError

torch = pytest.importorskip("torch")

from quantization_kit import Checkpoint, config  # noqa: E402

pytestmark = pytest.mark.vllm

NAME = "model.layers.0.mlp.experts"
EXPERTS, INTERMEDIATE = 8, 128
SHARDS = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}


@pytest.fixture
def model() -> Iterator[Any]:
    """vLLM's configuration and the overlay around a test."""
    pytest.importorskip("vllm.model_executor.layers.fused_moe")
    with (
        ascend_overlay.enabled(only=["quantization", "moe"], trace=True, propagate=False),
        model_around() as made,
    ):
        yield made


class _Numbers:
    """A checkpoint, and the whole numbers that are in it.

    Attributes:
        checkpoint: its tensors.
        weights: expert and projection -> (outputs, inputs), int64, and (outputs,), float32: numbers and scales.
    """

    def __init__(self, dtype: Any, **said: Any) -> None:
        self.checkpoint = Checkpoint(dtype, types=dict(said))
        self.weights: dict[tuple[int, str], tuple[Any, Any]] = {}
        for expert in range(EXPERTS):
            for seed, projection in enumerate(SHARDS):
                self._add(expert, seed, projection)

    def _add(self, expert: int, seed: int, projection: str) -> None:
        outputs, count = (HIDDEN, INTERMEDIATE) if projection == "down_proj" else (INTERMEDIATE, HIDDEN)
        generator = torch.Generator().manual_seed(10 * expert + seed)
        # Sums that are not near zero, so that a wrong one shows.
        numbers = torch.randint(-8, 8, (outputs, count), generator=generator) | (seed == 2)
        scale = (torch.rand(outputs, generator=generator) + 0.5) * count**-0.5 / 5
        packed = (numbers[1::2] << 4) | (numbers[::2] & 15)
        parts = 16 if projection == "down_proj" else 1
        sums = 8 * (numbers.float() * scale[:, None]).reshape(outputs, parts, -1).sum(-1)
        tensors = {
            "weight": packed.to(torch.int8),
            "weight_scale": scale[:, None],
            "weight_offset": torch.zeros(outputs, 1),
            "scale_bias": sums,
        }
        self.checkpoint.put(f"{NAME}.{expert}.{projection}", "W4A8_DYNAMIC", tensors)
        self.weights[expert, projection] = numbers, scale


def _layer(checkpoint: Checkpoint, **options: Any) -> Any:
    made = {"num_experts": EXPERTS, "prefix": NAME, "process": False, "intermediate_size": INTERMEDIATE}
    return build(checkpoint.dtype, quant_config=config(checkpoint), **(made | options))


def _load(layer: Any, checkpoint: Checkpoint) -> None:
    experts = layer.routed_experts
    for name, tensor in checkpoint.tensors.items():
        expert, projection, last = name.removeprefix(f"{NAME}.").split(".")
        shard = SHARDS[projection]
        full = f"{'w2' if shard == 'w2' else 'w13'}_{last}"
        parameter = getattr(experts, full)
        parameter.weight_loader(
            parameter, tensor, f"{NAME}.{full}", shard_id=shard, expert_id=int(expert), return_success=True
        )
    experts.quant_method.process_weights_after_loading(experts)


def _quantized(x: Any) -> tuple[Any, Any]:
    step = x.float().abs().amax() / 127
    return (x.float() / step).round().clamp(-128, 127).long(), step


def _expected(found: _Numbers, x: Any, weights: Any, experts: Any, part: slice = slice(None)) -> Any:
    """Compute token by token and expert by expert, with the sums in whole numbers, on a part of the intermediate."""
    dtype, result = found.checkpoint.dtype, torch.zeros(x.shape[0], HIDDEN, dtype=torch.float64)

    def product(rows: Any, step: Any, numbers: Any, scale: Any) -> Any:
        return ((rows @ numbers.t()).double() * scale.double() * step.double()).to(dtype)

    for token in range(x.shape[0]):
        rows, step = _quantized(x[token])
        for weight, expert in zip(weights[token], experts[token].tolist(), strict=True):
            (gate, s1), (up, s3), (down, s2) = (found.weights[expert, name] for name in SHARDS)
            g, u = product(rows, step, gate[part], s1[part]).float(), product(rows, step, up[part], s3[part]).float()
            activated = g * torch.sigmoid(g) * u
            kept = activated if dtype == torch.bfloat16 else activated.to(dtype)
            result[token] += weight.double() * product(*_quantized(kept), down[:, part], s2).double()
    return result


def _assert_near(got: Any, wanted: Any) -> None:
    """See that two results are equal but for roundings that a unit of float32 turns to the other side."""
    off = (got.double() - wanted).abs()
    assert (off <= 2 * torch.finfo(got.dtype).eps * wanted.abs().amax()).all()
    assert (got == wanted.to(got.dtype)).double().mean() > 0.97


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_is_the_integer_formula(model: Any, dtype: Any) -> None:
    found = _Numbers(dtype)
    layer = _layer(found.checkpoint)
    _load(layer, found.checkpoint)
    hidden, logits = inputs(dtype)
    weights, experts = layer.router.select_experts(hidden, logits)
    got = forward(layer, model, hidden, logits)
    counts = calls()
    assert counts["npu_grouped_matmul"] == 2
    between = ("npu_dequant_swiglu_quant",) if dtype == torch.bfloat16 else ("npu_swiglu", "npu_dynamic_quant")
    assert all(counts.get(name) == 1 for name in between)
    assert got.dtype == dtype
    _assert_near(got, _expected(found, hidden, weights, experts))
    held = layer.routed_experts
    assert {name: (parameter.dtype, tuple(parameter.shape)) for name, parameter in held.named_parameters()} == {
        "w13_weight": (torch.int32, (EXPERTS, HIDDEN, 2 * INTERMEDIATE // 8)),
        "w2_weight": (torch.int32, (EXPERTS, INTERMEDIATE, HIDDEN // 8)),
        "w13_weight_scale": (torch.int64, (EXPERTS, 1, 2 * INTERMEDIATE)),
        "w2_weight_scale": (torch.int64, (EXPERTS, 1, HIDDEN)),
        "w13_scale_bias": (torch.float32, (EXPERTS, 2 * INTERMEDIATE)),
        "w2_scale_bias": (torch.float32, (EXPERTS, HIDDEN)),
    }


@pytest.mark.parametrize("number", [0, 1])
def test_a_rank_loads_its_part(model: Any, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    from vllm.model_executor.layers.fused_moe import config as fused_moe_config

    monkeypatch.setattr(fused_moe_config, "get_tensor_model_parallel_rank", lambda: number)
    found = _Numbers(torch.bfloat16)
    layer = _layer(found.checkpoint, tp_size=2)
    _load(layer, found.checkpoint)
    hidden, logits = inputs(torch.bfloat16)
    weights, experts = layer.router.select_experts(hidden, logits)
    held = layer.routed_experts
    got = held.quant_method.apply(held, hidden, weights, experts, None, None)
    half = INTERMEDIATE // 2
    _assert_near(got, _expected(found, hidden, weights, experts, slice(number * half, (number + 1) * half)))


def test_a_rank_with_some_of_the_experts_adds_what_is_theirs(model: Any) -> None:
    """Rows of the others come last, and have no product."""
    found = _Numbers(torch.bfloat16)
    layer = _layer(found.checkpoint)
    _load(layer, found.checkpoint)
    hidden, logits = inputs(torch.bfloat16)
    weights, experts = layer.router.select_experts(hidden, logits)
    held, total = layer.routed_experts, torch.zeros(len(hidden), HIDDEN, dtype=torch.float64)
    whole = {name: parameter.data for name, parameter in held.named_parameters()}
    for first in (0, 3):
        here = torch.arange(EXPERTS)
        mine = (here < 3) if first == 0 else (here >= 3)
        for name, tensor in whole.items():
            getattr(held, name).data = tensor[mine]
        held._expert_map = torch.where(mine, here - first, -1).to(torch.int32)
        got = held.quant_method.apply(held, hidden, weights, experts, None, None)
        total += got.double()
        alone = torch.where(mine[experts.long()], weights, 0)
        _assert_near(got, _expected(found, hidden, alone, experts))
    wanted = _expected(found, hidden, weights, experts)
    assert ((total - wanted).abs() <= 2 * torch.finfo(torch.bfloat16).eps * wanted.abs().amax()).all()


def test_it_is_close_to_the_experts_in_float(model: Any) -> None:
    found = _Numbers(torch.bfloat16)
    layer = _layer(found.checkpoint)
    _load(layer, found.checkpoint)
    hidden, logits = inputs(torch.bfloat16)
    got = forward(layer, model, hidden, logits)
    model.compilation_config.static_forward_context.clear()
    floats = build(torch.bfloat16, num_experts=EXPERTS, prefix=NAME, intermediate_size=INTERMEDIATE)
    with torch.no_grad():
        for expert in range(EXPERTS):
            gate, up, down = (
                numbers * scale[:, None] for numbers, scale in (found.weights[expert, name] for name in SHARDS)
            )
            floats.routed_experts.w13_weight[expert] = torch.cat((gate, up)).to(torch.bfloat16)
            floats.routed_experts.w2_weight[expert] = down.to(torch.bfloat16)
    wanted = forward(floats, model, hidden, logits)
    assert (got - wanted).float().norm() < 0.03 * wanted.float().norm()


def test_random_weights_are_taken(model: Any) -> None:
    """load_format="dummy" loads nothing."""
    layer = _layer(_Numbers(torch.bfloat16).checkpoint)
    layer.routed_experts.quant_method.process_weights_after_loading(layer.routed_experts)
    assert torch.isfinite(forward(layer, model, *inputs(torch.bfloat16))).all()


def test_compiled_it_is_one_graph(model: Any) -> None:
    from vllm.forward_context import set_forward_context

    found = _Numbers(torch.bfloat16)
    layer = _layer(found.checkpoint)
    _load(layer, found.checkpoint)
    torch._dynamo.reset()
    compiled = torch.compile(lambda *x: layer(*x), fullgraph=True, dynamic=True, backend="aot_eager")
    arguments = inputs(torch.bfloat16)
    with set_forward_context(None, model, num_tokens=arguments[0].shape[0]):
        assert torch.equal(compiled(*arguments), layer(*arguments))


def test_what_may_be_absent_or_of_another_form(model: Any) -> None:
    """No offsets, scales in one dimension, sums of 16 bits, and weights that the description calls packed."""
    found = _Numbers(torch.bfloat16)
    tensors, types = found.checkpoint.tensors, found.checkpoint.types
    for name in [name for name in tensors if name.endswith("weight_offset")]:
        del tensors[name], types[name]
    for name in [name for name in types if name.endswith(".weight")]:
        types[f"{name}_packed"] = types.pop(name)
        tensors[f"{name}_scale"] = tensors[f"{name}_scale"].flatten()
    for name in tensors:
        if name.endswith("gate_proj.scale_bias"):
            tensors[name] = tensors[name].flatten()
    layer = _layer(found.checkpoint)
    _load(layer, found.checkpoint)
    hidden, logits = inputs(torch.bfloat16)
    weights, experts = layer.router.select_experts(hidden, logits)
    _assert_near(forward(layer, model, hidden, logits), _expected(found, hidden, weights, experts))


def test_with_fused_experts_it_says_that_these_stay_apart(model: Any) -> None:
    found = _Numbers(torch.bfloat16)
    with ascend_overlay.enabled(only=["quantization", "moe"], trace=True, propagate=False, fused_experts=True):
        layer = _layer(found.checkpoint)
        _load(layer, found.checkpoint)
        forward(layer, model, *inputs(torch.bfloat16))
        assert calls()["npu_grouped_matmul"] == 2
        notes = [text for _, text in ascend_overlay.ledger().notes]
    assert any("experts of W4A8_DYNAMIC and their activation stay apart" in text for text in notes)


def _changed(projection: str, last: str, change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    def edit(tensors: dict[str, Any]) -> None:
        name = f"{NAME}.3.{projection}.{last}"
        tensors[name] = change(tensors[name])

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda tensors: tensors.pop(f"{NAME}.3.up_proj.scale_bias"), r"has no .*experts\.3\.up_proj\.scale_bias, wh"),
        (lambda tensors: tensors.pop(f"{NAME}.7.down_proj.scale_bias"), r"has no .*experts\.7\.down_proj\.scale_bias"),
        (lambda tensors: tensors.pop(f"{NAME}.7.down_proj.weight_scale"), r"has no .*7\.down_proj\.weight_scale"),
        (_changed("up_proj", "weight", lambda t: t.to(torch.int32)), r"up_proj\.weight is torch\.int32 .* torch\.int8"),
        # One number a byte, as ModelSlim's older format has it.
        (
            _changed("up_proj", "weight", lambda t: t.repeat(2, 1)),
            r"up_proj\.weight has the shape \(128, 128\) .* it is \(64, 128\)",
        ),
        (
            _changed("down_proj", "weight", lambda t: t[:, :4]),
            r"down_proj\.weight has the shape \(64, 4\) .* \(64, 128\)",
        ),
        (
            _changed("down_proj", "scale_bias", lambda t: t[:, :8]),
            r"scale_bias has the shape \(128, 8\) .* \(128, 16\)",
        ),
        (_changed("down_proj", "scale_bias", lambda t: t.sum(1)), r"scale_bias has the shape \(128,\) .* \(128, 16\)"),
        (_changed("up_proj", "scale_bias", lambda t: t[:3]), r"scale_bias has the shape \(3, 1\) .* \(128, 1\)"),
        (_changed("up_proj", "scale_bias", lambda t: t.to(torch.int8)), r"3\.up_proj\.scale_bias is torch\.int8"),
        (_changed("up_proj", "scale_bias", lambda t: t * 0), r"3\.up_proj\.scale_bias is not 8 times the sum"),
        (_changed("gate_proj", "scale_bias", lambda t: t / 8), r"3\.gate_proj\.scale_bias is not 8 times the sum"),
        (_changed("down_proj", "scale_bias", lambda t: t.flip(0)), r"3\.down_proj\.scale_bias is not 8 times the sum"),
        (_changed("down_proj", "scale_bias", lambda t: t / 0), r"3\.down_proj\.scale_bias is not 8 times the sum"),
        (_changed("up_proj", "weight_offset", lambda t: t + 1), r"3\.up_proj\.weight_offset is not zero"),
        (_changed("up_proj", "weight_scale", lambda t: t * float("nan")), r"3\.up_proj\.weight_scale holds nan"),
    ],
)
def test_a_wrong_checkpoint_is_an_error_that_says_so(model: Any, edit: Any, message: str) -> None:
    found = _Numbers(torch.bfloat16)
    edit(found.checkpoint.tensors)
    layer = _layer(found.checkpoint)
    with pytest.raises(CheckpointError, match=message):
        _load(layer, found.checkpoint)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"group_size": 256}, r"experts\.0\.down_proj\.weight_scale belongs .* says group_size = 256, .* per_channel"),
        ({"group_size": "32"}, "weight_scale belongs .* says group_size = '32'"),
        (
            {f"{NAME}.2.up_proj.weight_scale_second": "W4A8_DYNAMIC"},
            r"experts\.2\.up_proj\.weight_scale_second belongs .* lists it, .* writes scale_bias",
        ),
    ],
)
def test_scales_of_groups_are_refused_by_name(model: Any, said: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        _layer(_Numbers(torch.bfloat16, **said).checkpoint)
    _layer(_Numbers(torch.bfloat16, group_size=0).checkpoint)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tp_size": 3}, r"experts\.\*\.down_proj\.scale_bias has 16 columns, which 3 ranks cannot share"),
        ({"tp_size": 32}, "which 32 ranks cannot share"),
        ({"tp_size": 4}, "has 32 inputs and 128 outputs in w2 on a rank, and W4A8_DYNAMIC takes 64 inputs at a time"),
        ({"intermediate_size": 18496}, "18496 inputs .* 18432 at most"),
        ({"activation": "situ"}, "there are no experts of 4 bits with the activation situ"),
    ],
)
def test_what_does_not_fit_is_refused(model: Any, options: dict[str, Any], message: str) -> None:
    sizes = {"intermediate_size": 96 * 4} if options.get("tp_size") in (3, 32) else {}
    with pytest.raises(CheckpointError, match=message):
        _layer(_Numbers(torch.bfloat16).checkpoint, **(sizes | options))


def test_linear_layers_of_the_type_are_refused(model: Any) -> None:
    from vllm.model_executor.layers.linear import ReplicatedLinear

    made = config(Checkpoint(torch.bfloat16, types={"mlp.down_proj.weight": "W4A8_DYNAMIC"}))
    wanted = (
        r"mlp\.down_proj\.weight is 'W4A8_DYNAMIC', which is a type for routed experts alone\. For .*: .*W8A8_DYNAMIC"
    )
    with pytest.raises(CheckpointError, match=wanted):
        ReplicatedLinear(64, 40, quant_config=made, prefix="mlp.down_proj")


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_weights_are_packed_as_they_are_unpacked(experts: int, inputs_: int, eights: int, seed: int) -> None:
    from ascend_overlay.commands.quantize.arithmetic import packed_outputs
    from ascend_overlay.npu.reference.moe_matmul import unpacked
    from ascend_overlay.overlays.quantization.int4_columns import packed_columns, sums

    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(-8, 8, (experts, 8 * eights, inputs_), generator=generator, dtype=torch.int8)
    rows = torch.stack([packed_outputs(expert) for expert in numbers])
    assert rows.dtype == torch.int8 and rows.shape == (experts, 4 * eights, inputs_)
    columns = packed_columns(rows)
    assert torch.equal(unpacked(columns), numbers.transpose(1, 2).int())
    total, size = sums(columns)
    assert torch.equal(total, numbers.long().sum(-1).float()) and torch.equal(
        size, numbers.long().abs().sum(-1).float()
    )
