"""RMSNormGated runs on npu_rms_norm and npu_swiglu."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from layer_kit import DISPATCH, DTYPES, calls, configured, dtype_of, tensor

import ascend_overlay
from ascend_overlay.npu import tracing

pytestmark = pytest.mark.vllm

ONLY = ["layernorm"]
HIDDEN = 48
SHAPES = [(7, HIDDEN), (2, 3, HIDDEN), (0, HIDDEN)]

FORMS: list[dict[str, Any]] = [
    {"group_size": group_size, "norm_before_gate": before, "activation": activation}
    for group_size, before, activation in itertools.product(
        (None, HIDDEN, 16), (True, False), ("swish", "silu", "sigmoid")
    )
]


@pytest.fixture(autouse=True)
def vllm_loaded() -> None:
    pytest.importorskip("vllm.model_executor.layers.layernorm")


def _norm(dtype: Any, **form: Any) -> Any:
    from vllm.model_executor.layers.layernorm import RMSNormGated

    layer = RMSNormGated(HIDDEN, eps=1e-5, dtype=dtype, **form)
    layer.weight.data.copy_(tensor(9, HIDDEN, dtype=dtype))
    return layer


def _allowed(dtype: Any, exact: Any, form: dict[str, Any], *, gated: bool) -> Any:
    """Return what the roundings in between may add up to: of the norm, the gate, the weight and the result."""
    import torch

    half_unit = torch.finfo(dtype).eps / 2 if dtype != torch.float32 else 2e-6
    groups = form["group_size"] not in (None, HIDDEN)
    roundings = 1 + groups + gated * (2 if form["activation"] == "sigmoid" else 1)
    # A rounded element changes the norm of the others, too.
    return 1.05 * roundings * half_unit * exact.abs() + 1e-6 + half_unit * exact.abs().mean() * gated


@pytest.mark.parametrize("custom_ops", DISPATCH)
@pytest.mark.parametrize("name", DTYPES)
def test_the_npu_operators_compute_it(name: str, custom_ops: str) -> None:
    dtype = dtype_of(name)
    cases = []
    for form, shape, gated in itertools.product(FORMS, SHAPES, (True, False)):
        x, z = tensor(1, *shape, dtype=dtype), tensor(2, *shape, dtype=dtype) if gated else None
        with configured(custom_ops):
            exact = _norm(dtype, **form).forward_native(x.float(), None if z is None else z.float())
        cases.append((form, x, z, exact))
    # Enabling takes longer than all of these.
    with ascend_overlay.enabled(only=ONLY, trace=True), configured(custom_ops):
        for form, x, z, exact in cases:
            tracing.reset()
            layer = _norm(dtype, **form)
            for got in (layer(x, z), layer.forward_oot(x, z)):
                assert (got.dtype, got.shape) == (dtype, x.shape)
                assert ((got.float() - exact).abs() <= _allowed(dtype, exact, form, gated=z is not None)).all(), form
            gate = {"npu_swiglu": 2} if z is not None and form["activation"] != "sigmoid" else {}
            assert calls() == {"npu_rms_norm": 2} | gate


def test_what_the_operators_do_not_take_stays_vllms() -> None:
    import torch

    x, z = tensor(1, 5, HIDDEN, dtype=torch.bfloat16), tensor(2, 5, HIDDEN, dtype=torch.float32)
    with configured():
        wanted = _norm(torch.float32)(x, z), _norm(torch.float16)(x)
    with ascend_overlay.enabled(only=ONLY, trace=True), configured():
        got = _norm(torch.float32)(x, z), _norm(torch.float16)(x)
        assert [torch.equal(ours, theirs) for ours, theirs in zip(got, wanted, strict=True)] == [True, True]
        assert calls() == {}


def test_a_derived_class_follows() -> None:
    from vllm.model_executor.layers.layernorm import RMSNormGated

    class Own(RMSNormGated):
        pass

    x = tensor(1, 5, HIDDEN, dtype=dtype_of("bfloat16"))
    with ascend_overlay.enabled(only=ONLY, trace=True), configured():
        Own(HIDDEN, group_size=16, dtype=dtype_of("bfloat16"))(x, x)
        assert calls() == {"npu_rms_norm": 1, "npu_swiglu": 1}


def test_compiled_it_is_one_graph() -> None:
    import torch

    x, z = tensor(1, 5, HIDDEN, dtype=torch.bfloat16), tensor(2, 5, HIDDEN, dtype=torch.bfloat16)
    with ascend_overlay.enabled(only=ONLY, trace=True), configured("none"), torch.no_grad():
        layer = _norm(torch.bfloat16, group_size=16, activation="silu")
        torch._dynamo.reset()
        compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="inductor")
        torch.testing.assert_close(compiled(x, z), layer(x, z))
        torch.testing.assert_close(compiled(x[:3], z[:3]), layer(x[:3], z[:3]))
        assert calls() == {"npu_rms_norm": 4, "npu_swiglu": 4}
