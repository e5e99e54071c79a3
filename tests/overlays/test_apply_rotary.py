"""ApplyRotaryEmb turns heads with npu_rotary_mul."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from layer_kit import DISPATCH, DTYPES, assert_rounded_once, calls, configured, dtype_of, tensor

import ascend_overlay

pytestmark = pytest.mark.vllm

ONLY = ["rotary"]
SHAPES = [(6, 3, 64), (2, 6, 3, 64), (1, 5, 2, 20), (0, 2, 16)]


@pytest.fixture(autouse=True)
def vllm_loaded() -> None:
    pytest.importorskip("vllm.model_executor.layers.rotary_embedding.common")


def _apply(**options: Any) -> Any:
    from vllm.model_executor.layers.rotary_embedding.common import ApplyRotaryEmb

    return ApplyRotaryEmb(**options)


def _angles(tokens: int, pairs: int, dtype: Any) -> tuple[Any, Any]:
    import torch

    angles = torch.arange(tokens)[:, None] * torch.logspace(0, -3, pairs)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def _terms(x: Any) -> Any:
    return 4 * x.float().abs().amax(dim=-1, keepdim=True).expand_as(x)


@pytest.mark.parametrize("custom_ops", DISPATCH)
@pytest.mark.parametrize("neox", [True, False], ids=["halves", "neighbours"])
def test_npu_rotary_mul_turns_the_pairs(neox: bool, custom_ops: str) -> None:
    cases = []
    for shape, name in itertools.product(SHAPES, DTYPES):
        x, (cos, sin) = tensor(1, *shape, dtype=dtype_of(name)), _angles(shape[-3], shape[-1] // 2, dtype_of(name))
        with configured(custom_ops):
            cases.append((x, cos, sin, _apply(is_neox_style=neox).forward_native(x.float(), cos, sin)))
    # Enabling takes longer than all of these.
    with ascend_overlay.enabled(only=ONLY, trace=True), configured(custom_ops):
        layer = _apply(is_neox_style=neox)
        for x, cos, sin, exact in cases:
            before = x.clone()
            for got in (layer(x, cos, sin), layer.forward_oot(x, cos, sin)):
                assert got.dtype == x.dtype
                assert_rounded_once(got, exact, terms=_terms(x))
            assert (x == before).all()
        assert calls() == {"npu_rotary_mul": 2 * len(cases)}


@pytest.mark.parametrize("neox", [True, False], ids=["halves", "neighbours"])
def test_angles_in_float32_are_kept_where_vllm_asks_for_it(neox: bool) -> None:
    import torch

    x, (cos, sin) = tensor(1, 6, 3, 64, dtype=torch.bfloat16), _angles(6, 32, torch.float32)
    options = {"is_neox_style": neox, "enable_fp32_compute": True}
    with configured():
        exact = _apply(**options).forward_native(x.float(), cos, sin)
    with ascend_overlay.enabled(only=ONLY, trace=True), configured():
        got = _apply(**options)(x, cos, sin)
        assert got.dtype == torch.bfloat16
        assert_rounded_once(got, exact, terms=_terms(x))
        assert calls() == {"npu_rotary_mul": 1}


@pytest.mark.parametrize("neox", [True, False], ids=["halves", "neighbours"])
def test_only_the_first_elements_of_a_head(neox: bool) -> None:
    import torch

    with ascend_overlay.enabled(only=ONLY, trace=True), configured():
        layer = _apply(is_neox_style=neox)
        for shape in SHAPES:
            x, (cos, sin) = tensor(1, *shape, dtype=torch.bfloat16), _angles(shape[-3], 4, torch.bfloat16)
            got, part = layer(x, cos, sin), layer(x[..., :8], cos, sin)
            assert torch.equal(got[..., :8], part)
            assert torch.equal(got[..., 8:], x[..., 8:])
        assert calls() == {"npu_rotary_mul": 2 * len(SHAPES)}


def test_what_npu_rotary_mul_does_not_take_stays_vllms() -> None:
    import torch

    wide, many = tensor(1, 2, 1, 896, dtype=torch.float32), tensor(2, 40, 2, 25, 8, dtype=torch.float32)
    own, own_angles = (
        tensor(3, 2, 5, 3, 8, dtype=torch.float32),
        [a.view(2, 5, 4) for a in _angles(10, 4, torch.float32)],
    )
    with ascend_overlay.enabled(only=ONLY, trace=True), configured():
        layer = _apply()
        for x, (cos, sin) in (
            (wide, _angles(2, 448, torch.float32)),
            (many, _angles(2, 4, torch.float32)),
            (own, own_angles),
        ):
            assert torch.equal(layer(x, cos, sin), layer.forward_static(x, cos, sin))
        assert calls() == {}
    assert _noted() == {
        "896 rotated elements of a head or more",
        "1000 heads, counted over all sequences, or more",
        "angles other than one row for each token",
    }


def _noted() -> set[str]:
    """Return what the ledger says that vLLM's layer keeps, and forget it."""
    notes = ascend_overlay.api._engine._state.notes
    found = {text.removeprefix("ApplyRotaryEmb with ").partition(" stays vLLM's: ")[0] for _, text in notes}
    notes.clear()
    return found


def test_a_compiled_layer_that_stays_vllms_is_noted_and_one_graph() -> None:
    import torch

    x, (cos, sin) = tensor(1, 2, 6, 600, 8, dtype=torch.bfloat16), _angles(6, 4, torch.bfloat16)
    with ascend_overlay.enabled(only=ONLY, trace=True), configured("none"):
        layer = _apply()
        _noted()
        torch._dynamo.reset()
        compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
        assert torch.equal(compiled(x, cos, sin), layer.forward_static(x, cos, sin))
    assert _noted() == {"1000 heads, counted over all sequences, or more"}


@pytest.mark.parametrize(("shape", "neox"), [((6, 3, 64), False), ((2, 6, 3, 20), True)])
def test_compiled_it_is_one_graph(shape: tuple[int, ...], neox: bool) -> None:
    import torch

    x, (cos, sin) = tensor(1, *shape, dtype=torch.bfloat16), _angles(6, shape[-1] // 2, torch.bfloat16)
    with ascend_overlay.enabled(only=ONLY, trace=True), configured("none"):
        layer = _apply(is_neox_style=neox)
        torch._dynamo.reset()
        compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="inductor")
        assert torch.equal(compiled(x, cos, sin), layer(x, cos, sin))
        fewer = (x.narrow(-3, 0, 4), cos[:4], sin[:4])
        assert torch.equal(compiled(*fewer), layer(*fewer))
        assert calls() == {"npu_rotary_mul": 4}
