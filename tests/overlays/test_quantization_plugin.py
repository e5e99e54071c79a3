"""A plugin's scheme is loaded, spread over ranks and computed like the built-in ones: two 4-bit weights in a byte."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from layer_kit import assert_rounded_once, configured, tensor

import ascend_overlay
from ascend_overlay import npu
from ascend_overlay.errors import CheckpointError
from ascend_overlay.hooks import hookimpl
from ascend_overlay.quantization import CheckpointTensor, Linear, LinearScheme

torch = pytest.importorskip("torch")

from quantization_kit import Checkpoint, config, load, rank  # noqa: E402

pytestmark = pytest.mark.vllm

NAME = "model.layers.0.mlp.down_proj"


class W4A16Bytes(LinearScheme):
    """Weights from -8 to 7: input 2 i in the low half of byte i, input 2 i + 1 in the high half."""

    type = "W4A16_BYTES"

    def tensors(self, linear: Linear) -> Sequence[CheckpointTensor]:
        """Return the packed weight, and a scale for each output."""
        outputs = sum(linear.outputs)
        packed = (outputs, linear.inputs // 2)
        return [
            CheckpointTensor(name="weight", shape=packed, dtype=torch.uint8, output_dim=0, input_dim=1),
            CheckpointTensor(name="weight_scale", shape=(outputs,), dtype=torch.float32, output_dim=0),
        ]

    def process(self, layer: Any, linear: Linear) -> None:
        """Unpack the weight."""
        packed = layer.weight.data.int()
        halves = torch.stack([packed & 15, packed >> 4], -1).flatten(1)
        weight = torch.where(halves > 7, halves - 16, halves).to(torch.int8)
        layer.weight = torch.nn.Parameter(weight.t(), requires_grad=False)
        layer.weight_scale = torch.nn.Parameter(layer.weight_scale.data.to(linear.dtype), requires_grad=False)

    def apply(self, layer: Any, x: Any, bias: Any) -> Any:
        """Multiply."""
        bias = None if bias is None else bias.float()
        return torch.ops.npu.npu_weight_quant_batchmatmul(x, layer.weight, layer.weight_scale, bias=bias)


@pytest.fixture(autouse=True, scope="module")
def plugin() -> Iterator[None]:
    pytest.importorskip("vllm.model_executor.layers.linear")

    @hookimpl
    def ascend_overlay_quantization_schemes() -> list[LinearScheme]:
        return [W4A16Bytes()]

    npu.load("npu_weight_quant_batchmatmul")
    contributed = SimpleNamespace(ascend_overlay_quantization_schemes=ascend_overlay_quantization_schemes)
    ascend_overlay.register(contributed, name="bytes")
    with ascend_overlay.enabled(only=["quantization"], propagate=False), configured():
        yield
    ascend_overlay.api._engine.plugins._manager.unregister(contributed)


def _checkpoint(outputs: int, inputs: int) -> tuple[Checkpoint, Any]:
    """Return a packed checkpoint, and the weight that is in it."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randint(-8, 8, (outputs, inputs), generator=generator)
    scale = (tensor(2, outputs, dtype=torch.float32).abs() + 0.1).bfloat16()
    pairs = (weight % 16).unflatten(1, (-1, 2))
    checkpoint = Checkpoint(torch.bfloat16)
    packed = (pairs[..., 0] + 16 * pairs[..., 1]).to(torch.uint8)
    checkpoint.put(NAME, "W4A16_BYTES", {"weight": packed, "weight_scale": scale})
    return checkpoint, weight * scale.double()[:, None]


@pytest.mark.parametrize("kind", ["ColumnParallelLinear", "RowParallelLinear"])
def test_each_rank_has_its_part(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.model_executor.layers import linear

    checkpoint, weight = _checkpoint(40, 64)
    x = tensor(3, 5, 64, dtype=torch.bfloat16)
    for number in range(2):
        with rank(monkeypatch, number, 2):
            layer = getattr(linear, kind)(
                64, 40, bias=False, params_dtype=torch.bfloat16, quant_config=config(checkpoint), prefix=NAME
            )
            load(layer, checkpoint, [NAME])
            rows, columns = slice(None), slice(None)
            if kind == "RowParallelLinear":
                columns = slice(number * 32, number * 32 + 32)
            else:
                rows = slice(number * 20, number * 20 + 20)
            got = layer(x[:, columns].contiguous())[0]
        part, own = weight[rows, columns], x[:, columns].double()
        assert_rounded_once(got, own @ part.t(), terms=own.abs() @ part.abs().t())


def test_what_does_not_fit_is_named_as_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.model_executor.layers.linear import RowParallelLinear

    checkpoint, _ = _checkpoint(40, 32)
    with rank(monkeypatch, 0, 2):
        layer = RowParallelLinear(
            64, 40, bias=False, params_dtype=torch.bfloat16, quant_config=config(checkpoint), prefix=NAME
        )
    with pytest.raises(CheckpointError, match=r"down_proj\.weight has the shape \(40, 16\) .* \(40, 32\)"):
        load(layer, checkpoint, [NAME])


def test_it_is_listed_among_those_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.model_executor.layers.linear import ReplicatedLinear

    made = config(Checkpoint(torch.bfloat16, types={f"{NAME}.weight": "W4A16_BITES"}))
    with rank(monkeypatch, 0, 1), pytest.raises(CheckpointError, match=r"Did you mean 'W4A16_BYTES'"):
        ReplicatedLinear(64, 40, quant_config=made, prefix=NAME)
