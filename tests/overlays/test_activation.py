"""Activations run on NPU operators, whichever method vLLM picks, and so does what is derived from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from layer_kit import DISPATCH, DTYPES, assert_rounded_once, calls, configured, dtype_of, tensor

import ascend_overlay
from ascend_overlay.npu import tracing

pytestmark = pytest.mark.vllm

ONLY = ["activation"]

LAYERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    # case -> class, operator, arguments of the class
    "silu and mul": ("SiluAndMul", "npu_swiglu", {"compile_native": False}),
    "clamped": ("SiluAndMulWithClamp", "npu_clipped_swiglu", {"swiglu_limit": 1.5, "compile_native": False}),
    "clamped, alpha and beta": (
        "SiluAndMulWithClamp",
        "npu_clipped_swiglu",
        {"swiglu_limit": 0.7, "alpha": 1.702, "beta": 1.0, "compile_native": False},
    ),
    "swiglu oai": ("SwigluOAIAndMul", "npu_clipped_swiglu", {}),
    "swiglu oai, alpha and limit": ("SwigluOAIAndMul", "npu_clipped_swiglu", {"alpha": 1.1, "limit": 0.9}),
    "gelu and mul": ("GeluAndMul", "npu_geglu", {}),
    "gelu and mul, tanh": ("GeluAndMul", "npu_geglu", {"approximate": "tanh"}),
    "gelu": ("GELU", "npu_gelu", {}),
    "gelu, tanh": ("GELUTanh", "npu_gelu", {}),
    "new gelu": ("NewGELU", "npu_gelu", {}),
    "fast gelu": ("FastGELU", "npu_gelu", {}),
    "quick gelu": ("QuickGELU", "npu_fast_gelu", {}),
}

SHAPES = [(5, 48), (2, 3, 30), (0, 8)]


@pytest.fixture(autouse=True)
def vllm_loaded() -> None:
    pytest.importorskip("vllm.model_executor.layers.activation")


def _layer(case: str) -> Any:
    from vllm.model_executor.layers import activation

    name, _, arguments = LAYERS[case]
    return getattr(activation, name)(**arguments)


def _terms(x: Any, exact: Any) -> Any:
    """Return the size of what makes up a result: GELU subtracts from one what is nearly one."""
    gate = x.float().abs().amax(dim=-1, keepdim=True)
    return exact.abs() + 0.05 * gate * (1 + gate) if exact.shape != x.shape else exact.abs() + 0.05 * x.float().abs()


@pytest.mark.parametrize("case", LAYERS)
def test_the_npu_operator_computes_it(case: str) -> None:
    inputs = [tensor(1, *shape, dtype=dtype_of(name)) for shape in SHAPES for name in DTYPES]
    with configured():
        stock = _layer(case)
        exact = [stock.forward_native(x.float()) for x in inputs]
    # Enabling takes longer than all of these.
    with ascend_overlay.enabled(only=ONLY, trace=True):
        for custom_ops, method in DISPATCH.items():
            with configured(custom_ops):
                layer = _layer(case)
            assert isinstance(layer, type(stock))
            assert layer._forward_method.__name__ == method
            tracing.reset()
            for x, wanted in zip(inputs, exact, strict=True):
                before = x.clone()
                for result in (layer(x), layer.forward_oot(x), layer.forward_cpu(x)):
                    assert result.dtype == x.dtype
                    assert_rounded_once(result, wanted, terms=_terms(x, wanted))
                assert (x == before).all()
            assert calls() == {LAYERS[case][1]: 3 * len(inputs)}


@pytest.mark.parametrize("case", LAYERS)
def test_a_strided_input(case: str) -> None:
    wide = tensor(1, 5, 64, dtype=dtype_of("bfloat16"))
    with ascend_overlay.enabled(only=ONLY), configured():
        layer = _layer(case)
        assert (layer(wide[:, 8:40]) == layer(wide[:, 8:40].contiguous())).all()


def test_a_single_row() -> None:
    """npu_clipped_swiglu takes two dimensions at least."""
    x = tensor(1, 8, dtype=dtype_of("float32"))
    with ascend_overlay.enabled(only=ONLY), configured():
        for case in ("clamped", "swiglu oai"):
            layer = _layer(case)
            assert layer(x).shape == (4,)
            assert (layer(x) == layer(x.unsqueeze(0))[0]).all()


def test_silu_and_mul_on_the_class() -> None:
    from vllm.model_executor.layers.activation import SiluAndMul

    x = tensor(1, 5, 48, dtype=dtype_of("bfloat16"))
    with ascend_overlay.enabled(only=ONLY, trace=True), configured():
        layer = SiluAndMul(compile_native=False)
        assert (type(layer).forward_native(x) == layer(x)).all()


@pytest.mark.parametrize("case", LAYERS)
def test_compiled_it_is_one_graph(case: str) -> None:
    import torch

    x = tensor(1, 5, 48, dtype=torch.bfloat16)
    with ascend_overlay.enabled(only=ONLY, trace=True), configured("none"):
        layer = _layer(case)
        torch._dynamo.reset()
        compiled: Callable[..., Any] = torch.compile(layer, fullgraph=True, dynamic=True, backend="inductor")
        assert torch.equal(compiled(x), layer(x))
        assert torch.equal(compiled(x[:3]), layer(x[:3]))
        assert calls() == {LAYERS[case][1]: 4}


def test_a_layer_that_vllm_compiles_by_itself() -> None:
    """Where custom operators are off, vLLM compiles the native method for use inside opaque operators."""
    import torch
    from vllm.model_executor.layers.activation import SiluAndMul

    x = tensor(1, 5, 48, dtype=torch.bfloat16)
    with ascend_overlay.enabled(only=ONLY, trace=True), configured("none"):
        torch._dynamo.reset()
        got = SiluAndMul()(x)
        assert torch.equal(got, torch.ops.npu.npu_swiglu(x))
        assert calls() == {"npu_swiglu": 2}


@pytest.mark.parametrize("case", LAYERS)
def test_derived_classes_follow_before_and_after(case: str) -> None:
    from vllm.model_executor.layers import activation

    name, operator, arguments = LAYERS[case]
    base: Any = getattr(activation, name)

    class Before(base):
        pass

    x = tensor(1, 5, 48, dtype=dtype_of("bfloat16"))
    with ascend_overlay.enabled(only=ONLY, trace=True):

        class After(base):
            pass

        with configured():
            for count, cls in enumerate((Before, After), 1):
                cls(**arguments)(x)
                assert calls() == {operator: count}
    assert Before.__bases__ == After.__bases__ == (base,)


def test_layers_by_name_are_not_those_that_were_built_before() -> None:
    from vllm.model_executor.layers.activation import get_act_and_mul_fn, get_act_fn

    with configured():
        stock = get_act_fn("gelu_new"), get_act_and_mul_fn("geglu"), get_act_fn("quick_gelu")
        with ascend_overlay.enabled(only=ONLY):
            ours = get_act_fn("gelu_new"), get_act_and_mul_fn("geglu"), get_act_fn("quick_gelu")
            assert [type(layer).__name__ for layer in ours] == ["AscendNewGELU", "AscendGeluAndMul", "AscendQuickGELU"]
            assert get_act_fn("gelu_new") is ours[0]
        again = get_act_fn("gelu_new"), get_act_and_mul_fn("geglu"), get_act_fn("quick_gelu")
    assert all(now is then for now, then in zip(again, stock, strict=True))


def test_afterwards_nothing_is_left() -> None:
    from vllm.model_executor.custom_op import op_registry_oot
    from vllm.model_executor.layers.activation import SiluAndMul

    before: dict[str, Any] = dict(op_registry_oot)
    with ascend_overlay.enabled(only=ONLY), configured():
        assert type(SiluAndMul()).__name__ == "AscendSiluAndMul"
        assert SiluAndMul().name == "silu_and_mul", "custom_ops=['-silu_and_mul'] still reaches it"
    assert op_registry_oot == before
    with configured():
        assert type(SiluAndMul()) is SiluAndMul
