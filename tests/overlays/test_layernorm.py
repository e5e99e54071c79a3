"""RMSNorm and GemmaRMSNorm run on npu_rms_norm, npu_add_rms_norm and npu_gemma_rms_norm."""

from __future__ import annotations

from typing import Any

import pytest
from layer_kit import DTYPES, assert_rounded_once, calls, configured, dtype_of, tensor

import ascend_overlay

pytestmark = pytest.mark.vllm

ONLY = ["layernorm"]


@pytest.fixture(autouse=True)
def vllm_loaded() -> None:
    pytest.importorskip("vllm.model_executor.layers.layernorm")


def _norm(kind: str, dtype: Any) -> Any:
    from vllm.model_executor.layers.layernorm import GemmaRMSNorm, RMSNorm

    layer = {
        "RMSNorm": lambda: RMSNorm(48, eps=1e-5, dtype=dtype),
        "without weight": lambda: RMSNorm(48, eps=1e-5, dtype=dtype, has_weight=False),
        "part of the row": lambda: RMSNorm(48, eps=1e-5, dtype=dtype, var_hidden_size=32),
        "GemmaRMSNorm": lambda: GemmaRMSNorm(48, eps=1e-5).to(dtype),
        "GemmaRMSNorm, float32 weight": lambda: GemmaRMSNorm(48, eps=1e-5),
    }[kind]()
    if kind != "without weight":
        layer.weight.data.copy_(tensor(9, 48, dtype=dtype))
    return layer


def _in_float32(kind: str, layer: Any, x: Any, residual: Any) -> Any:
    """Return what vLLM's own layer computes, with all numbers in float32."""
    import torch

    exact = _norm(kind, torch.float32)
    exact.weight.data.copy_(layer.weight.data)
    return exact.forward_native(x.float(), None if residual is None else residual.float())


CASES = {
    # kind -> operators without and with residual
    "RMSNorm": ("npu_rms_norm", "npu_add_rms_norm"),
    "without weight": ("npu_rms_norm", "npu_add_rms_norm"),
    "GemmaRMSNorm": ("npu_gemma_rms_norm", "npu_gemma_rms_norm"),
    # npu_gemma_rms_norm takes a weight of the dtype of the input only, and so does npu_add_rms_norm.
    "GemmaRMSNorm, float32 weight": ("npu_rms_norm", "npu_rms_norm"),
}


@pytest.mark.parametrize("custom_ops", ["all", "none"])
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("name", DTYPES)
def test_a_norm_is_computed_by_the_npu_operator(kind: str, name: str, with_residual: bool, custom_ops: str) -> None:
    dtype = dtype_of(name)
    x, residual = tensor(1, 7, 48, dtype=dtype), tensor(2, 7, 48, dtype=dtype) if with_residual else None
    with configured(custom_ops):
        exact = _in_float32(kind, _norm(kind, dtype), x, residual)
    given = x.clone(), None if residual is None else residual.clone()
    with ascend_overlay.enabled(only=ONLY, trace=True), configured(custom_ops) as config:
        assert config.kernel_config.ir_op_priority.rms_norm == ["ascend", "native"]
        got = _norm(kind, dtype)(*given)
        operator = CASES[kind][with_residual]
        if kind == "GemmaRMSNorm, float32 weight" and name == "float32":
            operator = "npu_gemma_rms_norm"
        assert calls() == {operator: 1}
    if residual is None:
        assert_rounded_once(got, exact)
        return
    terms = (x.float().abs() + residual.float().abs()) * 4
    slack = 0.0
    if operator != "npu_add_rms_norm":
        # The sum is rounded before it is normalized.
        import torch

        slack = float(torch.finfo(dtype).eps)
    assert_rounded_once(got[0], exact[0], terms=terms + exact[0].abs() * slack / 4e-6)
    assert_rounded_once(got[1], exact[1], terms=terms)


@pytest.mark.parametrize("with_residual", [False, True])
def test_a_norm_over_a_part_of_the_row_stays_vllms(with_residual: bool) -> None:
    import torch

    dtype = torch.bfloat16
    arguments = [tensor(1, 7, 48, dtype=dtype), tensor(2, 7, 48, dtype=dtype)][: 1 + with_residual]
    with configured():
        wanted = _norm("part of the row", dtype)(*[x.clone() for x in arguments])
    with ascend_overlay.enabled(only=ONLY, trace=True), configured():
        got = _norm("part of the row", dtype)(*[x.clone() for x in arguments])
        assert not calls()
    for ours, theirs in zip(
        [got] if not with_residual else got, [wanted] if not with_residual else wanted, strict=True
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", CASES)
def test_a_compiled_norm_is_one_graph_with_the_operators_in_it(kind: str) -> None:
    import torch

    x, residual = tensor(1, 7, 48, dtype=torch.bfloat16), tensor(2, 7, 48, dtype=torch.bfloat16)
    with ascend_overlay.enabled(only=ONLY, trace=True), configured("none"), torch.no_grad():
        layer = _norm(kind, torch.bfloat16)
        wanted = [layer(x.clone()), *layer(x.clone(), residual.clone())]
        before = calls()
        torch._dynamo.reset()
        compiled = torch.compile(
            lambda x, r: (layer(x.clone()), *layer(x.clone(), r.clone())), fullgraph=True, backend="inductor"
        )
        got = compiled(x, residual)
        assert [torch.equal(ours, theirs) for ours, theirs in zip(got, wanted, strict=True)] == [True] * 3
        assert calls() == {name: 2 * count for name, count in before.items()}


@pytest.mark.parametrize("kind", CASES)
def test_strided_rows_and_no_rows(kind: str) -> None:
    """Gemma's norms of query and key get slices of a projection."""
    import torch

    wide = tensor(1, 7, 3, 80, dtype=torch.bfloat16)
    with ascend_overlay.enabled(only=ONLY), configured():
        layer = _norm(kind, torch.bfloat16)
        assert torch.equal(layer(wide[..., 16:64]), layer(wide[..., 16:64].contiguous()))
        assert layer(wide[:0, :, :48]).shape == (0, 3, 48)
        assert layer(wide[:0, 0, :48], wide[:0, 0, :48])[1].shape == (0, 48)


def test_vllms_own_parity_bounds_hold() -> None:
    """vLLM gives each of its operators inputs and tolerances for whoever implements it."""
    import torch
    import vllm.ir

    with ascend_overlay.enabled(only=ONLY):
        for name in ("rms_norm", "fused_add_rms_norm"):
            operator = getattr(vllm.ir.ops, name)
            for dtype in map(dtype_of, DTYPES):
                torch.manual_seed(0)
                arguments = operator.generate_inputs(num_tokens=33, hidden_size=512, dtype=dtype)
                impl = operator.impls["ascend"]
                assert impl.supports_args(*arguments)
                got, wanted = (
                    function(*[a.clone() if hasattr(a, "clone") else a for a in arguments])
                    for function in (impl.impl_fn, operator.impls["native"].impl_fn)
                )
                torch.testing.assert_close(got, wanted, **operator.get_tolerance(dtype))


def test_afterwards_nothing_is_left() -> None:
    import vllm.ir
    from vllm.config.kernel import KernelConfig

    before = (dict(vllm.ir.ops.rms_norm.impls), dict(vllm.ir.ops.fused_add_rms_norm.impls))
    method = vars(KernelConfig)["set_platform_defaults"]
    with ascend_overlay.enabled(only=ONLY):
        assert "ascend" in vllm.ir.ops.rms_norm.impls
        assert vars(KernelConfig)["set_platform_defaults"] is not method
    assert (dict(vllm.ir.ops.rms_norm.impls), dict(vllm.ir.ops.fused_add_rms_norm.impls)) == before
    assert vars(KernelConfig)["set_platform_defaults"] is method
    with configured() as config:
        assert config.kernel_config.ir_op_priority.rms_norm == ["native"]


def test_what_the_user_prefers_comes_first() -> None:
    from vllm.config import KernelConfig, VllmConfig
    from vllm.config.kernel import IrOpPriorityConfig

    with ascend_overlay.enabled(only=ONLY):
        config = VllmConfig(kernel_config=KernelConfig(ir_op_priority=IrOpPriorityConfig(rms_norm=["native"])))
        priority = config.kernel_config.ir_op_priority
        assert priority.rms_norm[0] == "native"
        assert priority.fused_add_rms_norm[0] == "ascend"
