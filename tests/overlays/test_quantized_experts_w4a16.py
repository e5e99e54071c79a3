"""Experts of 4 bits: loaded as the checkpoint has them, and what the numbers of the checkpoint give."""

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
EXPERTS, GROUP = 8, 16
SHARDS = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}


@pytest.fixture(autouse=True)
def model() -> Iterator[Any]:
    """vLLM's configuration and the overlay around each test."""
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
        weights: expert and projection -> (outputs, inputs), float64: what they stand for.
    """

    def __init__(self, dtype: Any, *, offsets: bool = False) -> None:
        self.checkpoint = Checkpoint(dtype, types={"group_size": GROUP})
        self.weights: dict[tuple[int, str], Any] = {}
        for expert in range(EXPERTS):
            for seed, projection in enumerate(SHARDS):
                self._add(expert, seed, projection, offsets)

    def _add(self, expert: int, seed: int, projection: str, offsets: bool) -> None:
        outputs, inputs_ = (HIDDEN, INTERMEDIATE) if projection == "down_proj" else (INTERMEDIATE, HIDDEN)
        generator = torch.Generator().manual_seed(10 * expert + seed)
        numbers = torch.randint(-8, 8, (outputs, inputs_), generator=generator)
        scale = (torch.rand(outputs, inputs_ // GROUP, generator=generator) + 0.5) * inputs_**-0.5 / 5
        scale = scale.to(self.checkpoint.dtype)
        offset = torch.randint(-2, 3, scale.shape, generator=generator).to(scale.dtype) if offsets else None
        packed = torch.zeros(outputs, inputs_ // 8, dtype=torch.int64)
        for place in range(8):
            packed |= (numbers[:, place::8] + 8) << (4 * place)
        tensors = {"weight_packed": packed.to(torch.int32), "weight_scale": scale}
        if offset is not None:
            tensors["weight_offset"] = offset
        self.checkpoint.put(f"{NAME}.{expert}.{projection}", "W4A16", tensors)
        shift = 0 if offset is None else offset.double().repeat_interleave(GROUP, 1)
        self.weights[expert, projection] = (numbers.double() + shift) * scale.double().repeat_interleave(GROUP, 1)


def _layer(checkpoint: Checkpoint, **options: Any) -> Any:
    return build(
        checkpoint.dtype, num_experts=EXPERTS, prefix=NAME, quant_config=config(checkpoint), process=False, **options
    )


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


def _expected(found: _Numbers, x: Any, weights: Any, experts: Any, part: slice = slice(None)) -> Any:
    """Compute token by token and expert by expert in float64, with the roundings that the format has between."""
    dtype, result = found.checkpoint.dtype, torch.zeros(x.shape[0], HIDDEN, dtype=torch.float64)
    for token in range(x.shape[0]):
        for weight, expert in zip(weights[token], experts[token].tolist(), strict=True):
            gate, up = (
                (x[token].double() @ found.weights[expert, name][part].t()).to(dtype).double()
                for name in ("gate_proj", "up_proj")
            )
            activated = (gate * torch.sigmoid(gate) * up).to(dtype).double()
            down = (activated @ found.weights[expert, "down_proj"][:, part].t()).to(dtype).double()
            result[token] += weight.double() * down
    return result


def _assert_near(got: Any, wanted: Any) -> None:
    # Sums in float32, and what was rounded once too often or too rarely between the products.
    off = (got.double() - wanted).abs()
    assert (off <= 2 * torch.finfo(got.dtype).eps * wanted.abs().amax()).all()
    assert off.norm() < 0.5 * torch.finfo(got.dtype).eps * wanted.norm()


@pytest.mark.parametrize("offsets", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_is_the_formula(model: Any, dtype: Any, offsets: bool) -> None:
    found = _Numbers(dtype, offsets=offsets)
    layer = _layer(found.checkpoint)
    _load(layer, found.checkpoint)
    hidden, logits = inputs(dtype)
    weights, experts = layer.router.select_experts(hidden, logits)
    got = forward(layer, model, hidden, logits)
    assert calls()["npu_grouped_matmul"] == 2 and "npu_dynamic_quant" not in {k for k, v in calls().items() if v}
    assert got.dtype == dtype
    _assert_near(got, _expected(found, hidden, weights, experts))
    held = layer.routed_experts
    assert held.w13_weight_packed.shape == (EXPERTS, HIDDEN, 2 * INTERMEDIATE // 8)
    assert not hasattr(held, "w13_weight_shape")


@pytest.mark.parametrize("number", [0, 1])
def test_a_rank_loads_its_part(model: Any, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    from vllm.model_executor.layers.fused_moe import config as fused_moe_config

    monkeypatch.setattr(fused_moe_config, "get_tensor_model_parallel_rank", lambda: number)
    found = _Numbers(torch.bfloat16, offsets=True)
    layer = _layer(found.checkpoint, tp_size=2)
    _load(layer, found.checkpoint)
    hidden, logits = inputs(torch.bfloat16)
    weights, experts = layer.router.select_experts(hidden, logits)
    held = layer.routed_experts
    got = held.quant_method.apply(held, hidden, weights, experts, None, None)
    half = INTERMEDIATE // 2
    _assert_near(got, _expected(found, hidden, weights, experts, slice(number * half, (number + 1) * half)))


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


def test_the_shapes_that_a_checkpoint_may_hold_are_passed_over(model: Any) -> None:
    found = _Numbers(torch.bfloat16)
    for expert in range(EXPERTS):
        for projection in SHARDS:
            found.checkpoint.tensors[f"{NAME}.{expert}.{projection}.weight_shape"] = torch.tensor([1, 2])
    layer = _layer(found.checkpoint)
    _load(layer, found.checkpoint)
    assert torch.isfinite(forward(layer, model, *inputs(torch.bfloat16))).all()


def _changed(last: str, change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    def edit(tensors: dict[str, Any]) -> None:
        name = f"{NAME}.3.up_proj.{last}"
        tensors[name] = change(tensors[name])

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda tensors: tensors.pop(f"{NAME}.3.up_proj.weight_packed"), r"has no .*3\.up_proj\.weight_packed, which"),
        (lambda tensors: tensors.pop(f"{NAME}.7.down_proj.weight_scale"), r"has no .*7\.down_proj\.weight_scale"),
        (_changed("weight_packed", lambda t: t.to(torch.int8)), r"weight_packed is torch\.int8 .* have torch\.int32"),
        (_changed("weight_packed", lambda t: t[:, :4]), r"weight_packed has the shape \(64, 4\) .* it is \(64, 16\)"),
        (_changed("weight_scale", lambda t: t[:, :4]), r"weight_scale has the shape \(64, 4\) .* it is \(64, 8\)"),
        (_changed("weight_scale", lambda t: t * float("nan")), r"up_proj\.weight_scale holds nan"),
    ],
)
def test_what_is_wrong_is_named(model: Any, edit: Callable[[dict[str, Any]], None], message: str) -> None:
    found = _Numbers(torch.bfloat16)
    edit(found.checkpoint.tensors)
    layer = _layer(found.checkpoint)
    with pytest.raises(CheckpointError, match=message):
        _load(layer, found.checkpoint)


@pytest.mark.parametrize(
    ("group", "message"),
    [(48, "groups of 48 inputs"), (-1, "group_size = -1, which is no number"), ("32", "group_size = '32'")],
)
def test_groups_that_do_not_fit_are_named(model: Any, group: Any, message: str) -> None:
    checkpoint = _Numbers(torch.bfloat16).checkpoint
    checkpoint.types["group_size"] = group
    with pytest.raises(CheckpointError, match=message):
        _layer(checkpoint)
