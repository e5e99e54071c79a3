"""Experts and routers on torch_npu's operators compute what vLLM's do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from layer_kit import DTYPES, calls, dtype_of
from moe_kit import HIDDEN, build, forward, inputs, model_around, numbers

import ascend_overlay

pytestmark = pytest.mark.vllm

ONLY = ["moe"]
BIAS = [0.3, -0.2, 0.1, 0.4, -0.3, 0.0, 0.2, -0.1]
GROUPED = {"use_grouped_topk": True, "num_expert_group": 2, "topk_group": 1}
SIGMOID = GROUPED | {"scoring_func": "sigmoid", "e_score_correction_bias": BIAS}
MODES: dict[str, dict[str, Any]] = {
    "softmax": {"renormalize": False},
    "softmax, renormalized": {},
    "grouped": GROUPED | {"renormalize": False},
    "grouped, renormalized and scaled": GROUPED | {"routed_scaling_factor": 2.5},
    "grouped, biased": GROUPED | {"e_score_correction_bias": BIAS},
    "sigmoid, grouped, biased": SIGMOID,
    "sigmoid, grouped, biased, not renormalized": SIGMOID | {"renormalize": False, "routed_scaling_factor": 1.5},
    "sigmoid, all groups": SIGMOID | {"topk_group": 2, "top_k": 3},
    "one group": GROUPED | {"num_expert_group": 1, "top_k": 4},
    "groups of two": GROUPED | {"num_expert_group": 4, "topk_group": 2},
}
LEFT = {"groups of two"}


@pytest.fixture(autouse=True)
def model() -> Iterator[Any]:
    """vLLM's configuration around each test."""
    pytest.importorskip("vllm.model_executor.layers.fused_moe")
    with model_around() as config:
        yield config


def _options(mode: str) -> dict[str, Any]:
    import torch

    options = dict(MODES[mode])
    if "e_score_correction_bias" in options:
        options["e_score_correction_bias"] = torch.tensor(options["e_score_correction_bias"])
    return options


def _run(config: Any, dtype: Any, *, tokens: int = 7, num_experts: int = 8, **options: Any) -> tuple[Any, Any]:
    """Return what a new layer makes of the inputs, and the layer."""
    hidden = options.get("hidden_size", HIDDEN)
    config.compilation_config.static_forward_context.clear()
    layer = build(dtype, num_experts=num_experts, **options)
    return forward(layer, config, *inputs(dtype, tokens=tokens, num_experts=num_experts, hidden_size=hidden)), layer


def _exact(layer: Any, dtype: Any, weights: Any, experts: Any, **sizes: Any) -> Any:
    """Return the weighted sum of gated experts in float64, token by token."""
    import torch

    x = inputs(dtype, **sizes)[0].double()
    w13, w2 = (parameter.detach().double() for parameter in (layer.w13_weight, layer.w2_weight))
    rows = []
    for token in range(x.shape[0]):
        total = torch.zeros(w2.shape[1], dtype=torch.float64)
        for weight, expert in zip(weights[token].double(), experts[token].tolist(), strict=True):
            if expert >= 0:
                gate, up = (w13[expert] @ x[token]).chunk(2)
                total += weight * (w2[expert] @ (gate / (1 + (-gate).exp()) * up))
        rows.append(total)
    return torch.stack(rows)


def _assert_same_routing(got: tuple[Any, Any], wanted: tuple[Any, Any]) -> None:
    import torch

    (weights, experts), (wanted_weights, wanted_experts) = got, wanted
    order, wanted_order = experts.argsort(-1), wanted_experts.argsort(-1)
    assert torch.equal(experts.gather(-1, order).long(), wanted_experts.gather(-1, wanted_order).long())
    torch.testing.assert_close(weights.gather(-1, order), wanted_weights.gather(-1, wanted_order), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "name"), [*((mode, "bfloat16") for mode in MODES), ("softmax", "float16"), ("grouped", "float32")]
)
def test_the_routers_choose_alike(model: Any, name: str, mode: str) -> None:
    import torch

    hidden, logits = inputs(dtype_of(name), tokens=50)
    # vLLM's computes a softmax without groups in the dtype of the logits; in float32 it is exact.
    weights, experts = _run(model, torch.float32, **_options(mode))[1].router.select_experts(hidden, logits.float())
    with ascend_overlay.enabled(only=ONLY, trace=True):
        layer = _run(model, dtype_of(name), **_options(mode))[1]
        assert type(layer.router).__name__ == "AscendCPURouter"
        before = sum(count for operator, count in calls().items() if "gating" in operator)
        got_weights, got_experts = layer.router.select_experts(hidden, logits)
        gated = sum(count for operator, count in calls().items() if "gating" in operator)
        assert gated - before == (0 if mode in LEFT else 1)
    assert (got_weights.dtype, got_experts.dtype) == (torch.float32, torch.int32)
    # Equal logits of a token, which a float of 16 bits has now and then: either expert is right.
    clear = (logits.sort(-1).values.diff(dim=-1) > 0).all(-1)
    assert clear.sum() > 40
    _assert_same_routing((got_weights[clear], got_experts[clear]), (weights[clear], experts[clear]))


@pytest.mark.parametrize(
    "sizes",
    [
        {"tokens": 1},
        {"tokens": 200},
        {"tokens": 3, "num_experts": 40},
        {"tokens": 9, "num_experts": 5, "top_k": 5},
        {"tokens": 6, "intermediate_size": 96, "top_k": 1},
    ],
    ids=["one token", "many tokens", "empty experts", "all experts", "odd size of a rank"],
)
@pytest.mark.parametrize("name", DTYPES)
def test_the_experts_are_as_exact_as_vllms(model: Any, name: str, sizes: dict[str, int]) -> None:
    import torch

    dtype = dtype_of(name)
    stock, _ = _run(model, dtype, **sizes)
    shape = {key: value for key, value in sizes.items() if key in ("tokens", "num_experts")}
    with ascend_overlay.enabled(only=ONLY, trace=True):
        got, layer = _run(model, dtype, **sizes)
        weights, experts = layer.router.select_experts(*inputs(dtype, **shape))
        counts = calls()
        exact = _exact(layer.routed_experts, dtype, weights, experts, **shape)
    assert type(layer.routed_experts.quant_method).__name__ == "AscendUnquantizedFusedMoEMethod"
    assert {name: counts[name] for name in ("npu_moe_init_routing_v2", "npu_grouped_matmul", "npu_swiglu")} == {
        "npu_moe_init_routing_v2": 1,
        "npu_grouped_matmul": 2,
        "npu_swiglu": 1,
    }
    assert got.dtype == dtype
    torch.testing.assert_close(got, stock, rtol=0.02 if dtype != torch.float32 else 1e-4, atol=0.02 * exact.abs().max())
    # vLLM's kernel rounds once between the products; these round each product, as the NPU's do.
    off = [(result.double() - exact).abs().mean() for result in (got, stock)]
    assert off[0] <= 4 * off[1] + 1e-6


@pytest.mark.parametrize("name", ["silu", "gelu", "gelu_tanh"])
def test_activations(model: Any, name: str) -> None:
    import torch

    stock, _ = _run(model, torch.float32, activation=name)
    with ascend_overlay.enabled(only=ONLY, trace=True):
        got, _ = _run(model, torch.float32, activation=name)
        assert sum(calls().get(operator, 0) for operator in ("npu_swiglu", "npu_geglu")) == 1
    torch.testing.assert_close(got, stock, rtol=1e-4, atol=1e-5)


def test_activations_that_vllm_does_not_have_on_a_cpu(model: Any) -> None:
    """SwiGLU as in gpt-oss, and without a gate: against vLLM's layers of the same names."""
    import torch
    from vllm.model_executor.layers.activation import SiluAndMulWithClamp, SwigluOAIAndMul

    from ascend_overlay.npu.moe.activation import activation

    x = numbers(1, 9, 64, dtype=torch.float32, scale=8)
    clamped = SiluAndMulWithClamp(3.0, compile_native=False).forward_native(x)
    pairs: list[tuple[Any, Any]] = [
        (activation("silu", limit=3.0), clamped),
        (activation("swigluoai"), SwigluOAIAndMul().forward_native(x)),
        (activation("relu2_no_mul"), torch.relu(x) ** 2),
        (activation("silu_no_mul"), x * x.sigmoid()),
        (activation("gelu_tanh_no_mul"), torch.nn.functional.gelu(x, approximate="tanh")),
    ]
    for computed, wanted in pairs:
        torch.testing.assert_close(computed(x), wanted, rtol=1e-5, atol=1e-5)
    assert activation("situ") is None
    assert activation("swigluoai_uninterleave") is None, "it has no limit"


def test_experts_of_a_size_that_vllm_refuses_on_a_cpu(model: Any) -> None:
    import torch

    sizes = {"hidden_size": 72, "tokens": 5}
    with pytest.raises(NotImplementedError):
        _run(model, torch.float32, **sizes)
    with ascend_overlay.enabled(only=ONLY):
        got, layer = _run(model, torch.float32, **sizes)
        weights, experts = layer.router.select_experts(*inputs(torch.float32, **sizes))
        exact = _exact(layer.routed_experts, torch.float32, weights, experts, **sizes)
    torch.testing.assert_close(got.double(), exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"has_bias": True},
        {"top_k": 1, "apply_router_weight_on_input": True},
        {"routed_scaling_factor": 2.0, "apply_routed_scale_to_output": True},
    ],
    ids=["biases", "weights on the input", "scale on the output"],
)
def test_what_else_a_layer_may_have(model: Any, options: dict[str, Any]) -> None:
    import torch

    for dtype in (torch.float32, torch.float16):
        stock, _ = _run(model, dtype, **options)
        with ascend_overlay.enabled(only=ONLY):
            got, _ = _run(model, dtype, **options)
        torch.testing.assert_close(
            got, stock, rtol=1e-2 if dtype == torch.float16 else 1e-4, atol=2e-2 * got.abs().max()
        )


def test_shared_experts_and_a_gate_run_beside(model: Any) -> None:
    import torch
    from torch import nn

    class Shared(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * 3

    class Gate(nn.Module):
        def forward(self, x: Any) -> Any:
            return x[:, :8] * 2, None

    results = []
    for enabled in (False, True):
        with ascend_overlay.enabled(only=ONLY if enabled else ["roles"]):
            results.append(_run(model, torch.float32, shared_experts=Shared(), gate=Gate())[0])
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)


def test_the_models_own_routing_function_is_left_to_vllm(model: Any) -> None:
    import torch

    def first_two(hidden_states: Any, gating_output: Any, topk: int, renormalize: bool) -> Any:
        ids = torch.arange(topk).expand(gating_output.shape[0], topk)
        return torch.full(ids.shape, 0.5), ids

    stock, _ = _run(model, torch.float32, custom_routing_function=first_two)
    with ascend_overlay.enabled(only=ONLY, trace=True):
        got, _ = _run(model, torch.float32, custom_routing_function=first_two)
        assert calls()["npu_grouped_matmul"] == 2
        notes = [text for _, text in ascend_overlay.ledger().notes]
    torch.testing.assert_close(got, stock, rtol=1e-4, atol=1e-5)
    assert any("first_two is left to vLLM's CPURouter" in text for text in notes)


def test_what_the_operators_do_not_compute_is_left_to_vllm_and_said(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(model.kernel_config, "moe_backend", "triton")
    with ascend_overlay.enabled(only=ONLY):
        with pytest.raises(ValueError, match="backend TRITON does not support"):
            _run(model, torch.float32)
        monkeypatch.undo()
        with pytest.raises(NotImplementedError, match="No Unquantized MoE backend"):
            _run(model, torch.float32, activation="situ")
        notes = [text for _, text in ascend_overlay.ledger().notes]
    assert "experts with the setting moe_backend=triton are left to vLLM" in notes
    assert "experts with the activation situ are left to vLLM" in notes


def test_experts_left_to_vllm_run_there(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    stock, _ = _run(model, torch.float32)
    with ascend_overlay.enabled(only=ONLY, trace=True):
        from ascend_overlay.npu.moe import layer

        monkeypatch.setattr(layer, "GROUPS", 7)
        left, _ = _run(model, torch.float32)
        assert set(calls()) == {"npu_moe_gating_top_k_softmax_v2"}
        notes = [text for _, text in ascend_overlay.ledger().notes]
    torch.testing.assert_close(left, stock, rtol=1e-5, atol=1e-6)
    assert any(text.startswith("experts with 8 experts on one rank") for text in notes)


@pytest.mark.parametrize("biased", [False, True])
def test_a_single_expert_is_told_where_it_ends(biased: bool) -> None:
    """npu_grouped_matmul takes no single size; with one expert a rank, and with one at all."""
    import torch

    from ascend_overlay.npu.moe.experts import float_experts

    x = numbers(1, 5, 16, dtype=torch.float32)
    w13, w2 = numbers(2, 1, 16, 24, dtype=torch.float32), numbers(3, 1, 24, 16, dtype=torch.float32)
    bias = numbers(4, 1, 24, dtype=torch.float32) if biased else None
    wanted = torch.relu(x @ w13[0] + (0 if bias is None else bias[0])) @ w2[0]
    ones = torch.zeros(5, 1, dtype=torch.int32)
    got = float_experts(x, ones, None, w13, w2, torch.relu, bias13=bias)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    elsewhere = torch.tensor([[1], [0], [2], [1], [-1]], dtype=torch.int32)
    got = float_experts(x, elsewhere, None, w13, w2, torch.relu, bias13=bias, expert_map=torch.tensor([-1, 0, -1]))
    torch.testing.assert_close(got, wanted * (elsewhere == 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("first", [0, 3])
def test_experts_of_other_ranks_add_nothing(model: Any, first: int) -> None:
    """Expert parallelism: the ranks' results add up to that of all experts."""
    import torch

    with ascend_overlay.enabled(only=ONLY):
        whole, layer = _run(model, torch.float32)
        method, experts = layer.routed_experts.quant_method, layer.routed_experts
        x, logits = inputs(torch.float32)
        weights, ids = layer.router.select_experts(x, logits)
        total = torch.zeros_like(whole)
        w13, w2 = experts.w13_weight.data, experts.w2_weight.data
        for rank in range(2):
            here = torch.arange(8) % 2 == rank if first else torch.arange(8) // 4 == rank
            expert_map = torch.where(here, here.cumsum(0) - 1, -1).to(torch.int32)
            experts._expert_map = expert_map
            experts.w13_weight.data, experts.w2_weight.data = w13[here], w2[here]
            part = method.apply(experts, x, weights, ids, None, None)
            chosen = torch.where(here[ids.long()], expert_map[ids.long()], -1)
            exact = _exact(experts, torch.float32, weights, chosen)
            torch.testing.assert_close(part.double(), exact, rtol=1e-4, atol=1e-5)
            total += part
        padded = torch.where(torch.arange(7).unsqueeze(1) < 2, -1, ids)
        nothing = method.apply(experts, x, weights, padded, None, None)
    torch.testing.assert_close(total, whole, rtol=1e-4, atol=1e-5)
    assert not nothing[:2].any(), "an expert of -1 is none"


def test_rows_of_other_ranks_may_hold_anything(model: Any) -> None:
    """An NPU leaves the rows beyond the last group as they are in memory."""
    import torch

    from ascend_overlay.npu.moe.experts import add_up, sort_by_expert

    x, experts = numbers(1, 3, 4, dtype=torch.float32), torch.tensor([[0, 2], [1, 3], [3, 2]], dtype=torch.int32)
    tokens = sort_by_expert(x, experts, 2, torch.tensor([0, -1, 1, -1]))
    assert tokens.counts.tolist() == [1, 2]
    rows = tokens.rows.clone()
    rows[3:] = float("nan")
    weights = torch.tensor([[0.25, 0.75], [0.5, 0.5], [0.1, 0.9]])
    torch.testing.assert_close(add_up(rows, tokens, weights), x * torch.tensor([[1.0], [0.0], [0.9]]))


@pytest.mark.parametrize("mode", ["softmax, renormalized", "sigmoid, grouped, biased"])
def test_compiled_it_is_one_graph(model: Any, mode: str) -> None:
    import torch
    from vllm.forward_context import set_forward_context

    with ascend_overlay.enabled(only=ONLY, trace=True):
        _, layer = _run(model, torch.bfloat16, **_options(mode))
        torch._dynamo.reset()
        compiled = torch.compile(lambda *x: layer(*x), fullgraph=True, dynamic=True, backend="aot_eager")
        for tokens in (7, 4):
            arguments = inputs(torch.bfloat16, tokens=tokens)
            with set_forward_context(None, model, num_tokens=tokens):
                assert torch.equal(compiled(*arguments), layer(*arguments))
        assert calls()["npu_grouped_matmul"] == 10


def test_new_weights_are_used_and_the_layout_is_as_the_setting_says(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    with ascend_overlay.enabled(only=ONLY, trace=True):
        before, layer = _run(model, torch.bfloat16)
        address = layer.routed_experts.w13_weight.data_ptr()
        experts = layer.routed_experts
        with torch.no_grad():
            experts.w2_weight.mul_(2)
        experts.quant_method.process_weights_after_loading(experts)
        assert experts.w13_weight.data_ptr() == address
        torch.testing.assert_close(forward(layer, model, *inputs(torch.bfloat16)), before * 2)
        assert "npu_format_cast" not in calls()
    with ascend_overlay.enabled(only=ONLY, trace=True, weight_nz="all"):
        cast, layer = _run(model, torch.bfloat16)
        assert calls()["npu_format_cast"] == 2
        assert layer.routed_experts.w13_weight.shape == (8, HIDDEN, 128)
        assert layer.routed_experts.w13_weight.is_contiguous()
        assert layer.routed_experts.w13_weight.weight_loader is not None
    torch.testing.assert_close(cast, before)


def test_routers_that_the_overlay_does_not_have_are_noted(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from vllm.model_executor.layers.fused_moe.router import router_factory

    def made(**options: Any) -> tuple[str, list[str]]:
        router = router_factory.create_fused_moe_router(top_k=2, global_num_experts=8, renormalize=True, **options)
        return type(router).__name__, [text for _, text in ascend_overlay.ledger().notes]

    with ascend_overlay.enabled(only=ONLY):
        name, notes = made()
        assert name == "AscendCPURouter"
        assert not any("routing by" in text for text in notes)
        name, notes = made(zero_expert_type="identity", num_logical_experts=6, e_score_correction_bias=torch.zeros(8))
        assert name == "ZeroExpertRouter"
        assert any(text.startswith("routing by ZeroExpertRouter is left to vLLM: it computes") for text in notes)
        monkeypatch.setenv("VLLM_MOE_ROUTING_SIMULATION_STRATEGY", "uniform_random")
        _run(model, torch.bfloat16)
        notes = [text for _, text in ascend_overlay.ledger().notes]
        assert any(text.startswith("routing by RoutingSimulatorRouter is left to vLLM: VLLM_MOE") for text in notes)


def test_routers_of_other_platforms(model: Any) -> None:
    """The router that vLLM builds on a CPU computes the same; the classes are not used there."""
    import torch
    from vllm.model_executor.layers.fused_moe.router import cpu_router

    bias = torch.tensor(BIAS)
    x, logits = inputs(torch.float32, tokens=20)
    common: dict[str, Any] = {"top_k": 2, "global_num_experts": 8}
    scaled = {"e_score_correction_bias": bias, "routed_scaling_factor": 2.5}
    with ascend_overlay.enabled(only=ONLY, trace=True):
        from vllm.model_executor.layers.fused_moe.router import (
            fused_topk_bias_router,
            fused_topk_router,
            grouped_topk_router,
        )

        routers: list[tuple[Any, dict[str, Any]]] = [
            (fused_topk_router.FusedTopKRouter(**common), {}),
            (fused_topk_router.FusedTopKRouter(**common, renormalize=False), {"renormalize": False}),
            (
                fused_topk_bias_router.FusedTopKBiasRouter(**common, **scaled),
                scaled | {"scoring_func": "sigmoid", "use_grouped_topk": True, "num_expert_group": 1, "topk_group": 1},
            ),
            (
                grouped_topk_router.GroupedTopKRouter(**common, num_expert_group=2, topk_group=1),
                {"use_grouped_topk": True, "num_expert_group": 2, "topk_group": 1},
            ),
        ]
        found = [router.select_experts(x, logits, topk_indices_dtype=torch.int64) for router, _ in routers]
        assert sum(calls().values()) == len(routers)
    for (weights, experts), (router, options) in zip(found, routers, strict=True):
        assert type(router).__name__.startswith("Ascend")
        assert experts.dtype == torch.int64
        _assert_same_routing((weights, experts), cpu_router.CPURouter(**common, **options).select_experts(x, logits))


def test_a_bias_without_groups_counts_on_a_cpu_too(model: Any) -> None:
    import torch

    x, logits = inputs(torch.float32, tokens=20)
    bias = torch.zeros(8)
    bias[5] = 10
    with ascend_overlay.enabled(only=ONLY):
        _, layer = _run(model, torch.float32, scoring_func="sigmoid", e_score_correction_bias=bias)
        weights, experts = layer.router.select_experts(x, logits)
    assert (experts[:, 0] == 5).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(20))


def test_afterwards_nothing_is_left(model: Any) -> None:
    from vllm.model_executor.custom_op import op_registry_oot
    from vllm.model_executor.layers.fused_moe.router import cpu_router, router_factory

    before = dict(op_registry_oot), cpu_router.CPURouter
    with ascend_overlay.enabled(only=ONLY):
        assert router_factory.CPURouter is cpu_router.CPURouter is not before[1]
    assert (dict(op_registry_oot), cpu_router.CPURouter, router_factory.CPURouter) == (*before, before[1])


def test_in_the_middle_of_imports() -> None:
    """vLLM imports a router while it imports another; what stands in for it must be there by then."""
    code = (
        "import ascend_overlay; ascend_overlay.enable(only=['moe']); "
        "import vllm.model_executor.layers.quantization, vllm.model_executor.layers.fused_moe.router.router_factory; "
        "print([entry.state for entry in ascend_overlay.ledger() if not entry.machinery])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert str(["applied"] * 6) in done.stdout, done.stdout + done.stderr[-3000:]
