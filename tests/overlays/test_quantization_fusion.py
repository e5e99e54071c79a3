"""Norms and activations before quantized layers quantize what they return, where nobody else reads it."""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
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
    return getattr(linear, kind)(inputs, outputs, **given, **options)


class _Layer(torch.nn.Module):
    """What LlamaDecoderLayer has that matters here; `fused` before its weights come, as vLLM's models are."""

    def __init__(self, scheme: str = "W8A8_DYNAMIC", dtype: Any = torch.bfloat16, *, fused: bool = False) -> None:
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
        if fused:
            _fused(self, dtype)
        for name, layer in ((NAME, self.self_attn.qkv_proj), (gate, self.mlp.gate_up_proj), (down, self.mlp.down_proj)):
            load(layer, checkpoint, [name])


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be one rank of one."""
    with rank(monkeypatch, 0, 1):
        yield


def _fused(layer: Any, dtype: Any = torch.bfloat16) -> list[bool]:
    from ascend_overlay.overlays.quantization import fusion

    fusion.fuse(layer, dtype)
    norms = [isinstance(getattr(layer, name), fusion.QuantizingNorm) for name in fusion._HANDS_ON]
    return [*norms, isinstance(layer.mlp.act_fn, fusion.QuantizingSwiglu)]


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


# --- who looks on gets tensors ----------------------------------------------------------------------------------------

Looker = Callable[[Any, Callable[..., None]], Any]


def _given_to_the_object(path: str) -> Looker:
    def look(layer: Any, seen: Callable[..., None]) -> Any:
        module = layer.get_submodule(path)
        forward = module.forward
        module.forward = lambda *args, **options: (seen(*args), forward(*args, **options))[1]
        return lambda: vars(module).pop("forward")

    return look


def _given_to_the_class(path: str) -> Looker:
    def look(layer: Any, seen: Callable[..., None]) -> Any:
        module = layer.get_submodule(path)
        kind = module.__class__
        forward = kind.forward
        own = "forward" in vars(kind)
        kind.forward = lambda self, *args, **options: (seen(*args), forward(self, *args, **options))[1]
        return lambda: setattr(kind, "forward", forward) if own else delattr(kind, "forward")

    return look


def _hooked(path: str, kind: str, read: int) -> Looker:
    def look(layer: Any, seen: Callable[..., None]) -> Any:
        return getattr(layer.get_submodule(path), kind)(lambda *given: seen(given[read])).remove

    return look


def _everywhere(layer: Any, seen: Callable[..., None]) -> Any:
    from torch.nn.modules.module import register_module_forward_hook

    return register_module_forward_hook(lambda module, args, output: seen(args, output)).remove


OF_THE_NORM: dict[str, Looker] = {
    "a hook of the norm": _hooked("input_layernorm", "register_forward_hook", 2),
    "a hook before attention": _hooked("self_attn", "register_forward_pre_hook", 1),
    "a hook behind attention": _hooked("self_attn", "register_forward_hook", 1),
    "a hook before the product": _hooked("self_attn.qkv_proj", "register_forward_pre_hook", 1),
    "a hook behind the product": _hooked("self_attn.qkv_proj", "register_forward_hook", 1),
    "a hook of everything": _everywhere,
    "attention of its own": _given_to_the_object("self_attn"),
    "another attention": _given_to_the_class("self_attn"),
    "a product of its own": _given_to_the_object("self_attn.qkv_proj"),
    "another product": _given_to_the_class("self_attn.qkv_proj"),
    "a layer of its own": _given_to_the_object(""),
    "another layer": _given_to_the_class(""),
}
OF_THE_ACTIVATION: dict[str, Looker] = {
    "a hook of the activation": _hooked("mlp.act_fn", "register_forward_hook", 2),
    "a hook before the product": _hooked("mlp.down_proj", "register_forward_pre_hook", 1),
    "a hook behind the product": _hooked("mlp.down_proj", "register_forward_hook", 1),
    "a hook of everything": _everywhere,
    "a product of its own": _given_to_the_object("mlp.down_proj"),
    "another product": _given_to_the_class("mlp.down_proj"),
    "an MLP of its own": _given_to_the_object("mlp"),
    "another MLP": _given_to_the_class("mlp"),
}


def _tensors(found: Any) -> list[Any]:
    from ascend_overlay.overlays.quantization.quantized_rows import QuantizedRows

    assert not isinstance(found, QuantizedRows)
    return [found] if not isinstance(found, tuple) else [tensor for part in found for tensor in _tensors(part)]


def _attended(layer: Any, x: Any, residual: Any) -> Any:
    """Do what a layer and its attention do with a norm."""
    normed, _ = layer.input_layernorm(x, residual.clone())
    forward = type(layer.self_attn).forward
    type(layer.self_attn).plain = lambda self, given: self.qkv_proj(given)[0]
    try:
        for hook in layer.self_attn._forward_pre_hooks.values():
            hook(layer.self_attn, (normed,))
        found = layer.self_attn.plain(normed)
        for hook in layer.self_attn._forward_hooks.values():
            hook(layer.self_attn, (normed,), found)
        return found
    finally:
        del type(layer.self_attn).plain
        assert type(layer.self_attn).forward is forward


@pytest.mark.parametrize("scheme", ["W8A8_DYNAMIC", "W8A8"])
@pytest.mark.parametrize("looker", OF_THE_NORM)
def test_who_looks_at_what_a_norm_made_gets_a_tensor(alone: None, looker: str, scheme: str) -> None:
    layer, seen = _Layer(scheme, fused=True), []
    x, residual = (tensor(seed, 33, HIDDEN, dtype=torch.bfloat16) for seed in (2, 3))
    wanted = _attended(_Layer(scheme), x, residual)
    fused = _attended(layer, x, residual)
    assert not torch.equal(fused, wanted)
    away = OF_THE_NORM[looker](layer, lambda *given: seen.extend(_tensors(given)))
    try:
        assert torch.equal(_attended(layer, x, residual), wanted)
        assert seen or looker.startswith(("a layer", "another", "attention"))
    finally:
        away()
    assert torch.equal(_attended(layer, x, residual), fused)


@pytest.mark.parametrize("looker", OF_THE_ACTIVATION)
def test_who_looks_at_what_an_activation_made_gets_a_tensor(alone: None, looker: str) -> None:
    layer, seen = _Layer(), []
    x = tensor(2, 5, 2 * OUTPUTS, dtype=torch.bfloat16)
    run = lambda: layer.mlp.down_proj(layer.mlp.act_fn(x))[0]  # noqa: E731
    wanted = run()
    assert all(_fused(layer))
    fused = run()
    assert not torch.equal(fused, wanted)
    away = OF_THE_ACTIVATION[looker](layer, lambda *given: seen.extend(_tensors(given)))
    try:
        assert torch.equal(run(), wanted)
        assert seen or "MLP" in looker
    finally:
        away()
    assert torch.equal(run(), fused)


@pytest.mark.parametrize("scheme", ["W8A8_DYNAMIC", "W8A8"])
@pytest.mark.parametrize("hooked", [False, True])
def test_the_compiler_sees_who_looks_on(alone: None, hooked: bool, scheme: str) -> None:
    layer = _Layer(scheme, fused=True)
    x, residual = (tensor(seed, 33, HIDDEN, dtype=torch.bfloat16) for seed in (2, 3))

    def run(x: Any, residual: Any) -> Any:
        return layer.self_attn.qkv_proj(layer.input_layernorm(x, residual)[0])[0]

    plain = _Layer(scheme)
    wanted = plain.self_attn.qkv_proj(plain.input_layernorm(x, residual)[0])[0]
    if hooked:
        layer.self_attn.qkv_proj.register_forward_pre_hook(lambda module, args: None)
    found = torch.compile(run, fullgraph=True, backend="eager")(x, residual)
    assert torch.equal(found, wanted) is hooked
    assert torch.equal(found, run(x, residual))


def test_a_linear_layer_of_somebody_else_is_left_alone(alone: None) -> None:
    layer = _Layer()
    product = layer.self_attn.qkv_proj
    product.__class__ = type("Theirs", (type(product),), {"forward": lambda self, x: (x.sum(), None)})
    assert _fused(layer) == [False, True, True]


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


def test_layers_of_another_type_leave_everything_alone(alone: None) -> None:
    assert _fused(_Layer("W8A16")) == [False, False, False]


# --- a scale that is known before -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_norm_takes_the_scale_of_the_one_layer_that_reads_it(alone: None, dtype: Any) -> None:
    layer, plain = _Layer("W8A8", dtype, fused=True), _Layer("W8A8", dtype)
    x, residual = (tensor(seed, 33, HIDDEN, dtype=dtype) for seed in (2, 3))
    handed, total = layer.input_layernorm(x, residual.clone())
    normed, same = plain.input_layernorm(x, residual.clone())
    exact = (normed.double() / 2**-5 - 32).clamp(-128, 127)
    assert handed.scales is None and torch.equal(total, same)
    # What is not rounded in between is another step now and then.
    assert (handed.numbers.double() - exact).abs().max() < 0.51 + (2**-8 * exact.abs().max())
    assert (handed.numbers == exact.round()).double().mean() > 0.9
    found, wanted = (own.self_attn.qkv_proj(rows)[0] for own, rows in ((layer, handed), (plain, normed)))
    torch.testing.assert_close(found.float(), wanted.float(), rtol=0.02, atol=0.05)


def test_a_layer_whose_scale_nobody_takes_does_not_keep_it_for_a_norm(alone: None) -> None:
    fused, plain = _Layer("W8A8", fused=True), _Layer("W8A8")
    assert hasattr(fused.self_attn.qkv_proj, "norm_scale") and not hasattr(plain.self_attn.qkv_proj, "norm_scale")
    assert not hasattr(fused.mlp.down_proj, "norm_scale")


def test_two_readers_may_have_two_scales_and_leave_a_norm_alone(alone: None) -> None:
    layer = _Layer("W8A8")
    layer.self_attn.reads_input = ("qkv_proj", "other")
    layer.self_attn.other = layer.mlp.gate_up_proj
    assert _fused(layer) == [False, True, False]


def test_rows_that_do_not_fill_whole_pieces_of_memory_are_left_alone(alone: None) -> None:
    layer = _Layer("W8A8")
    layer.input_layernorm.weight.data = layer.input_layernorm.weight.data[:-1]
    assert _fused(layer) == [False, True, False]


@pytest.mark.parametrize("decodes", [True, False])
def test_w8a8_mix_is_the_one_or_the_other(alone: None, monkeypatch: pytest.MonkeyPatch, decodes: bool) -> None:
    from ascend_overlay.overlays.quantization import fusion
    from ascend_overlay.overlays.quantization.schemes import w8a8_mix

    for module in (fusion, w8a8_mix):
        monkeypatch.setattr(module, "only_decodes", lambda: decodes)
    layer = _Layer("W8A8_MIX", fused=True)
    x, residual = (tensor(seed, 5, HIDDEN, dtype=torch.bfloat16) for seed in (2, 3))
    handed, _ = layer.input_layernorm(x, residual)
    assert (handed.scales is None) is decodes
    plain = _Layer("W8A8_MIX")
    wanted, _ = plain.self_attn.qkv_proj(plain.input_layernorm(x, residual)[0])
    torch.testing.assert_close(layer.self_attn.qkv_proj(handed)[0].float(), wanted.float(), rtol=0.02, atol=0.05)


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

    monkeypatch.setattr(settings, "_current", settings.Settings().updated(**asked))
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
