"""Norms and activations before quantized layers quantize what they return, where nobody else reads it."""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from layer_kit import configured, tensor

import ascend_overlay

torch = pytest.importorskip("torch")

from quantization_kit import Checkpoint, config, load, rank  # noqa: E402

pytestmark = pytest.mark.vllm

HIDDEN, OUTPUTS, EPSILON = 96, 48, 1e-5
NAME = "model.layers.0.self_attn.qkv_proj"


@pytest.fixture(autouse=True, scope="module")
def overlay() -> Iterator[None]:
    """Have the overlays, and vLLM's configuration."""
    pytest.importorskip("vllm.model_executor.layers.linear")
    only = ["quantization", "layernorm", "activation"]
    with ascend_overlay.enabled(only=only, trace=True, propagate=False), configured():
        yield


def _linear(
    checkpoint: Checkpoint, name: str, scheme: str, outputs: int, inputs: int, kind: str, **options: Any
) -> Any:
    from vllm.model_executor.layers import linear

    checkpoint.add(name, scheme, tensor(1, outputs, inputs, dtype=torch.float32) / 9)
    given = {"bias": False, "quant_config": config(checkpoint), "prefix": name, "params_dtype": checkpoint.dtype}
    return load(getattr(linear, kind)(inputs, outputs, **given, **options), checkpoint, [name])


class _Layer(torch.nn.Module):
    """What LlamaDecoderLayer has that matters here."""

    def __init__(self, scheme: str = "W8A8_DYNAMIC", dtype: Any = torch.bfloat16) -> None:
        super().__init__()
        from vllm.model_executor.layers.activation import SiluAndMul
        from vllm.model_executor.layers.layernorm import RMSNorm
        from vllm.model_executor.models import llama

        checkpoint = Checkpoint(dtype)
        self.__class__ = type("LlamaDecoderLayer", (_Layer,), {"forward": llama.LlamaDecoderLayer.forward})
        self.input_layernorm = RMSNorm(HIDDEN, EPSILON, dtype=dtype)
        self.input_layernorm.weight.data.copy_(tensor(5, HIDDEN, dtype=dtype))
        self.self_attn = torch.nn.Module()
        self.self_attn.__class__ = type("Attention", (torch.nn.Module,), {"forward": llama.LlamaAttention.forward})
        self.self_attn.qkv_proj = _linear(checkpoint, NAME, scheme, OUTPUTS, HIDDEN, "ColumnParallelLinear")
        self.post_attention_layernorm = RMSNorm(HIDDEN, EPSILON, dtype=dtype)
        self.mlp = torch.nn.Module()
        self.mlp.__class__ = type("MLP", (torch.nn.Module,), {"forward": llama.LlamaMLP.forward})
        gate, down = ("model.layers.0.mlp.gate_up_proj", "model.layers.0.mlp.down_proj")
        self.mlp.gate_up_proj = _linear(checkpoint, gate, scheme, 2 * OUTPUTS, HIDDEN, "ColumnParallelLinear")
        self.mlp.act_fn = SiluAndMul()
        self.mlp.down_proj = _linear(checkpoint, down, scheme, HIDDEN, OUTPUTS, "RowParallelLinear")


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be one rank of one, in a process where norms and activations may quantize."""
    from ascend_overlay import settings

    monkeypatch.setattr(settings, "_current", settings.Settings().updated(fused_quant=True))
    with rank(monkeypatch, 0, 1):
        yield


def _fused(layer: Any, dtype: Any = torch.bfloat16) -> list[bool]:
    from ascend_overlay.overlays.quantization import fusion

    fusion.fuse(layer, dtype)
    norms = [type(getattr(layer, name)) is fusion.QuantizingNorm for name in fusion._HANDS_ON]
    return [*norms, type(layer.mlp.act_fn) is fusion.QuantizingSwiglu]


def test_a_norm_and_the_layer_behind_it_compute_what_they_did(alone: None) -> None:
    layer = _Layer()
    x, residual = (tensor(seed, 33, HIDDEN, dtype=torch.bfloat16) for seed in (2, 3))
    plain, total = layer.input_layernorm(x, residual.clone())
    wanted, _ = layer.self_attn.qkv_proj(plain)
    assert _fused(layer) == [True, True, True]
    handed, same = layer.input_layernorm(x, residual.clone())
    assert handed.numbers.dtype == torch.int8 and handed.scales.shape == (33,)
    got, _ = layer.self_attn.qkv_proj(handed)
    assert torch.equal(same, total) and got.dtype == wanted.dtype
    # The norm is not rounded in between: what is quantized may be one step of 127 another one, now and then.
    torch.testing.assert_close(got.float(), wanted.float(), rtol=0.02, atol=0.02)
    assert not torch.equal(got, wanted)


def test_without_a_residual_a_norm_returns_floats(alone: None) -> None:
    layer = _Layer()
    x = tensor(2, 33, HIDDEN, dtype=torch.bfloat16)
    wanted = layer.input_layernorm(x)
    assert all(_fused(layer))
    assert torch.equal(layer.input_layernorm(x), wanted)


@pytest.mark.parametrize("shape", [(33,), (3, 11)])
def test_an_activation_and_the_layer_behind_it_compute_what_they_did(alone: None, shape: tuple[int, ...]) -> None:
    layer = _Layer()
    x = tensor(2, *shape, 2 * OUTPUTS, dtype=torch.bfloat16)
    wanted, _ = layer.mlp.down_proj(layer.mlp.act_fn(x))
    assert all(_fused(layer))
    got, _ = layer.mlp.down_proj(layer.mlp.act_fn(x))
    assert got.shape == wanted.shape == (*shape, HIDDEN)
    torch.testing.assert_close(got.float(), wanted.float(), rtol=0.02, atol=0.02)


def test_who_takes_quantized_rows_for_a_tensor_gets_an_error(alone: None) -> None:
    layer = _Layer()
    assert all(_fused(layer))
    x = tensor(2, 4, HIDDEN, dtype=torch.bfloat16)
    handed, _ = layer.input_layernorm(x, x.clone())
    for wrong in (lambda: handed * 2.0, lambda: torch.nn.functional.linear(handed, x), lambda: handed.shape):
        with pytest.raises((TypeError, AttributeError)):
            wrong()


def test_float16_leaves_the_activation_alone(alone: None) -> None:
    assert _fused(_Layer(dtype=torch.float16), torch.float16) == [True, True, False]


@pytest.mark.parametrize("scheme", ["W8A8", "W8A16"])
def test_layers_of_another_type_leave_everything_alone(alone: None, scheme: str) -> None:
    assert _fused(_Layer(scheme)) == [False, False, False]


def test_a_layer_that_is_computed_otherwise_is_left_alone(alone: None) -> None:
    layer = _Layer()

    def forward(self: Any, positions: Any, hidden_states: Any) -> Any:
        return hidden_states + self.qkv_proj(hidden_states)[0]

    type(layer.self_attn).forward = forward
    assert _fused(layer) == [False, True, True]


def test_one_reader_of_floats_is_enough_to_leave_a_norm_alone(alone: None) -> None:
    from vllm.model_executor.layers.linear import ReplicatedLinear

    layer = _Layer()
    layer.self_attn.reads_input = ("qkv_proj", "gate")
    layer.self_attn.gate = ReplicatedLinear(HIDDEN, 4, bias=False)
    assert _fused(layer) == [False, True, True]


def test_a_norm_with_a_weight_of_another_dtype_is_left_alone(alone: None) -> None:
    layer = _Layer()
    layer.input_layernorm.weight.data = layer.input_layernorm.weight.data.float()
    assert _fused(layer) == [False, True, True]


def test_rows_wider_than_the_operator_has_room_for_are_left_alone(alone: None) -> None:
    layer = _Layer()
    layer.mlp.down_proj.input_size_per_partition = 4097
    assert _fused(layer) == [True, True, False]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"fused_quant": False}, [False, False, False]),
        ({}, [True, True, True]),
        ({"exclude": ["layernorm"]}, [False, False, True]),
        ({"exclude": ["activation"]}, [True, True, False]),
    ],
)
def test_the_settings_are_heeded(
    alone: None, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], found: list[bool]
) -> None:
    from ascend_overlay import settings

    monkeypatch.setattr(settings, "_current", settings.Settings().updated(**{"fused_quant": True, **asked}))
    assert _fused(_Layer()) == found


# --- the tables say of vLLM's source what it does ---------------------------------------------------------------------


def _forward(name: str) -> ast.FunctionDef:
    from ascend_overlay.overlays.quantization import fusion

    module, _, cls = name.partition(":")
    found = getattr(importlib.import_module(f"{fusion._MODELS}{module}"), cls)
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(found.forward))).body
    assert isinstance(function, ast.FunctionDef)
    return function


def _calls(function: ast.FunctionDef) -> dict[ast.AST, str]:
    """Return for each argument of a call `self.NAME(...)` the NAME."""
    found: dict[ast.AST, str] = {}
    for call in ast.walk(function):
        if isinstance(call, ast.Call):
            owner, _, name = ast.unparse(call.func).partition(".")
            for given in [*call.args, *(keyword.value for keyword in call.keywords)]:
                # Classes of ours have themselves as `layer` for the type checker.
                found[given] = name if owner in ("self", "layer") else "?"
    return found


def _readers(function: ast.FunctionDef, variable: str, made_by: str | None) -> set[str]:
    """Return who is given `variable`, as it is at the beginning, or as `made_by` made it; "?" is anything else.

    What is done where ranks have parts of a sequence is left out.
    """
    calls, found = _calls(function), set[str]()

    def look(computed: ast.AST, reading: bool) -> bool:
        names = [node for node in ast.walk(computed) if isinstance(node, ast.Name) and node.id == variable]
        if reading:
            found.update(calls.get(node, "?") for node in names if isinstance(node.ctx, ast.Load))
        if any(isinstance(node.ctx, ast.Store) for node in names):
            return made_by is not None and f"self.{made_by}" in ast.unparse(computed)
        return reading

    def walk(body: list[ast.stmt], reading: bool) -> bool:
        for statement in body:
            if not isinstance(statement, ast.If):
                reading = look(statement, reading)
            elif "sequence_parallel" in ast.unparse(statement.test):
                reading = walk(statement.orelse, reading)
            else:
                look(statement.test, reading)
                either = [walk(branch, reading) for branch in (statement.body, statement.orelse)]
                reading = any(either)
        return reading

    walk(function.body, made_by is None)
    return found


def test_who_reads_what_in_vllm_is_as_the_table_has_it() -> None:
    from ascend_overlay.overlays.quantization import fusion

    for name, readers in fusion._READS.items():
        function = _forward(name)
        (variable,) = {arg.arg for arg in function.args.args} & {"hidden_states", "x"}
        assert _readers(function, variable, None) == set(readers), name


def test_what_vllms_layers_hand_on_is_as_the_table_has_it() -> None:
    from ascend_overlay.overlays.quantization import fusion

    for name in fusion._LAYERS:
        for norm, reader in fusion._HANDS_ON.items():
            assert _readers(_forward(name), "hidden_states", norm) == {reader}, (name, norm)


def test_what_an_activation_returns_is_read_as_the_table_has_it() -> None:
    from ascend_overlay.overlays.quantization import fusion

    for name in fusion._ACTIVATES:
        function = _forward(name)
        made = [node for node in ast.walk(function) if isinstance(node, ast.Assign) and "act_fn" in ast.unparse(node)]
        ((target,),) = [node.targets for node in made]
        assert isinstance(target, ast.Name)
        assert _readers(function, target.id, "act_fn") == {"down_proj"}, name


def test_a_reader_that_the_tables_do_not_have_is_found() -> None:
    """As `_readers` is what the tables are held to."""
    text = "def forward(self, x):\n    y = self.gate(x)\n    z = x.sum()\n    x = self.down(y)\n    return x"
    (function,) = ast.parse(text).body
    assert isinstance(function, ast.FunctionDef)
    assert _readers(function, "x", None) == {"gate", "?"}
    assert _readers(function, "x", "down") == {"?"}


def test_our_own_classes_say_who_reads_their_input() -> None:
    from ascend_overlay.overlays.attention.offering import Offering
    from ascend_overlay.overlays.mla.wrapper import AscendMultiHeadLatentAttention as Latent

    (function,) = ast.parse(textwrap.dedent(inspect.getsource(Offering.forward))).body
    assert isinstance(function, ast.FunctionDef)
    # The call of vLLM's own forward is not one of self.
    assert _readers(function, "hidden_states", None) == {*Offering.reads_input, "?"}
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(Latent._projected))).body
    assert isinstance(function, ast.FunctionDef)
    found = set()
    for rank_ in (None, 8):
        stand_in = SimpleNamespace(is_fused=True, q_lora_rank=rank_)
        found |= set(Latent.reads_input.fget(stand_in))
    assert _readers(function, "hidden_states", None) == found
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(Latent.forward))).body
    assert isinstance(function, ast.FunctionDef)
    assert _readers(function, "hidden_states", None) == {"_projected", "?"}
    stand_in = SimpleNamespace(is_fused=False, q_lora_rank=None)
    assert Latent.reads_input.fget(stand_in) is None
