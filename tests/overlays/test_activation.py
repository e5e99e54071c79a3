"""SiluAndMul runs on npu_swiglu, whichever method vLLM picks, and so does what is derived from it."""

from __future__ import annotations

from typing import Any

import pytest
from layer_kit import DISPATCH, DTYPES, assert_rounded_once, calls, configured, dtype_of, tensor

import ascend_overlay

pytestmark = pytest.mark.vllm

ONLY = ["activation"]


@pytest.fixture(autouse=True)
def vllm_loaded() -> None:
    pytest.importorskip("vllm.model_executor.layers.activation")


@pytest.mark.parametrize("custom_ops", DISPATCH)
@pytest.mark.parametrize("shape", [(5, 48), (2, 3, 16), (0, 8)])
@pytest.mark.parametrize("name", DTYPES)
def test_the_npu_operator_computes_it(name: str, shape: tuple[int, ...], custom_ops: str) -> None:
    from vllm.model_executor.layers.activation import SiluAndMul

    x = tensor(1, *shape, dtype=dtype_of(name))
    with configured(custom_ops):
        exact = SiluAndMul(compile_native=False).forward_native(x.float())
    with ascend_overlay.enabled(only=ONLY, trace=True), configured(custom_ops):
        layer = SiluAndMul(compile_native=False)
        assert layer._forward_method.__name__ == DISPATCH[custom_ops]
        assert_rounded_once(layer(x), exact)
        assert_rounded_once(layer.forward_oot(x), exact)
        assert_rounded_once(type(layer).forward_native(x), exact)
        assert calls() == {"npu_swiglu": 3}


def test_compiled_it_is_one_graph(request: pytest.FixtureRequest) -> None:
    import torch
    from vllm.model_executor.layers.activation import SiluAndMul

    x = tensor(1, 5, 48, dtype=torch.bfloat16)
    with ascend_overlay.enabled(only=ONLY, trace=True), configured("none"):
        layer = SiluAndMul(compile_native=False)
        torch._dynamo.reset()
        compiled = torch.compile(layer, fullgraph=True, backend="inductor")
        assert torch.equal(compiled(x), layer(x))
        compiled(x)
        assert calls() == {"npu_swiglu": 3}


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


def test_derived_classes_follow_before_and_after() -> None:
    from vllm.model_executor.layers.activation import SiluAndMul

    class Before(SiluAndMul):
        pass

    x = tensor(1, 5, 48, dtype=dtype_of("bfloat16"))
    with ascend_overlay.enabled(only=ONLY, trace=True):

        class After(SiluAndMul):
            pass

        with configured():
            for count, cls in enumerate((Before, After), 1):
                cls()(x)
                assert calls() == {"npu_swiglu": count}
    assert Before.__bases__ == After.__bases__ == (SiluAndMul,)


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
