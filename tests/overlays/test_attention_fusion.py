"""Norms, rotary embedding and cache write in one operator: what it computes, when it is taken, what is said else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from layer_kit import calls, configured, tensor

import ascend_overlay
from ascend_overlay.errors import OverlayError

pytestmark = pytest.mark.vllm

FUSED, APART = "npu_qkv_rms_norm_rope_cache", "npu_scatter_pa_kv_cache"


@pytest.fixture(autouse=True)
def vllm_loaded() -> None:
    pytest.importorskip("vllm.model_executor.layers.attention")


@pytest.fixture
def overlaid() -> Iterator[None]:
    with ascend_overlay.enabled(only=["attention"], trace=True, propagate=False):
        yield


def _requests() -> list[list[Any]]:
    from ascend_overlay.overlays.attention.cases.batches import Request

    return [
        [Request((6, 1), 0, 150), Request((4,), 0, 3), Request((0,), 0, 1)],
        [Request((6, 1), 150, 20), Request((4,), 3, 1), Request((0, 2), 1, 140)],
        [Request((6, 1), 170, 1), Request((4,), 4, 1), Request((0, 2), 141, 1)],
        [Request((4,), 5, 1)],
    ]


def _served(dtype: Any, seed: int = 0, **options: Any) -> tuple[Any, list[Any]]:
    from ascend_overlay.overlays.attention.cases.normed import NormedLayer

    layer, found = NormedLayer(dtype, **options), []
    width = (layer.cached.heads + 2 * layer.cached.kv_heads) * layer.cached.size
    for number, requests in enumerate(_requests()):
        new = sum(request.new for request in requests)
        found.append(layer.run(requests, tensor(seed + number, new, width, dtype=dtype)))
    return layer, found


@pytest.mark.parametrize("options", [{}, {"kv_heads": 1}, {"per_layer_sliding_window": 40}], ids=str)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_one_operator_does_what_several_do(options: dict[str, Any], dtype: str) -> None:
    import torch

    kind = getattr(torch, dtype)
    _, theirs = _served(kind, **options)
    with ascend_overlay.enabled(only=["attention"], trace=True, propagate=False):
        layer, ours = _served(kind, **options)
        assert layer.impl.fused is not None
        assert calls()[FUSED] == len(ours) and APART not in calls()
    unit = torch.finfo(kind).eps
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, other, rtol=4 * unit, atol=4 * unit)


def test_a_product_that_does_not_lie_in_one_piece_is_put_together(overlaid: None) -> None:
    import torch

    from ascend_overlay.overlays.attention import fusion

    for tokens in (1, 5):
        product = tensor(1, tokens, 8 * 128, dtype=torch.bfloat16)
        parts = [x.view(-1, x.shape[1] // 128, 128) for x in product.split([4 * 128, 2 * 128, 2 * 128], 1)]
        together = fusion._in_one(*parts)
        assert together.data_ptr() == product.data_ptr() and torch.equal(together, product)
    query, key, value = parts
    others = ([query.clone(), key, value], [query, key.clone(), value], [query, value, key], [query, key, key])
    for apart in others:
        put = fusion._in_one(*apart)
        assert put.data_ptr() != product.data_ptr()
        assert torch.equal(put, torch.cat([x.flatten(1) for x in apart], 1))


def test_a_token_of_nobody_is_written_nowhere(overlaid: None) -> None:
    import torch

    layer, _ = _served(torch.bfloat16)
    before = layer.cached.cache.clone()
    batch = layer.cached.builder.build(0, dataclasses.replace(layer.cached.batch(_requests()[3])))
    assert batch.positions is not None
    # As vLLM says it of what pads a graph.
    from ascend_overlay.overlays.attention import cache

    batch.slots = cache.slots(torch.tensor([-1]), 128)
    assert batch.slots.tolist() == [-1]
    halves = layer.impl._halves_of(layer.cached.cache)
    parts = [x.view(1, -1, 128) for x in tensor(7, 1, 8 * 128, dtype=torch.bfloat16).split([512, 256, 256], 1)]
    layer.impl.fused.write(*parts, batch, *halves[:2])
    assert torch.equal(layer.cached.cache, before)


def test_angles_are_looked_up_once_a_batch_and_once_a_graph(overlaid: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that took those of its warm-up would rotate by the positions of that for ever."""
    import torch

    from ascend_overlay.npu import captures

    layer, _ = _served(torch.bfloat16)
    batch = layer.cached.builder.build(0, layer.cached.batch(_requests()[0]))
    fused = layer.impl.fused
    eager = fused._angles(batch)
    assert fused._angles(batch)[0] is eager[0]
    monkeypatch.setattr(captures, "_captured", [object()])
    captured = fused._angles(batch)
    assert captured[0] is not eager[0] and fused._angles(batch)[0] is captured[0]
    batch.positions, batch.angles = None, {}
    with pytest.raises(OverlayError, match="switch the setting fused_qkv off"):
        fused._angles(batch)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "heads of 64": ({"size": 64}, "heads have 64 elements, and the operator takes 128"),
    "neighbours": ({"rope": {"is_neox_style": False}}, "neighbours are rotated"),
    "a part": ({"rope": {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}}, "a part of each"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_stays_apart_and_is_said(name: str) -> None:
    import torch

    options, reason = REFUSED[name]
    _, theirs = _served(torch.bfloat16, **options)
    with ascend_overlay.enabled(only=["attention"], trace=True, propagate=False):
        layer, ours = _served(torch.bfloat16, **options)
        assert layer.impl.fused is None and calls()[APART] and FUSED not in calls()
        assert any(reason in note for _, note in ascend_overlay.ledger().notes)
    unit = torch.finfo(torch.bfloat16).eps
    assert all(
        torch.allclose(mine, other, rtol=4 * unit, atol=4 * unit) for mine, other in zip(ours, theirs, strict=True)
    )


def test_norms_and_embeddings_of_others_are_not_taken(overlaid: None) -> None:
    import torch
    from vllm.model_executor.layers.rotary_embedding import RotaryEmbedding

    layer, _ = _served(torch.bfloat16)
    offered, norms = layer.impl.offered, list(layer.norms)

    class Other(type(norms[0])):  # type: ignore[misc]
        pass

    def why() -> str:
        assert offered.taken(layer.impl, torch.bfloat16) is None
        return ascend_overlay.ledger().notes[-1][1]

    assert offered.taken(layer.impl, torch.bfloat16) is offered
    norms[0].__class__ = Other
    assert "no RMSNorm of vLLM's" in why()
    norms[0].__class__ = type(norms[1])
    norms[1].variance_epsilon = 1e-3
    assert "different numbers under the root" in why()
    norms[1].variance_epsilon = norms[0].variance_epsilon
    norms[0].weight.data = norms[0].weight.data.float()
    assert "a weight of torch.float32" in why()
    norms[0].weight.data = norms[0].weight.data.bfloat16()

    class Mine(RotaryEmbedding):  # type: ignore[misc]
        pass

    with configured():
        offered._rotary = Mine(128, 128, 64, 10000.0, True, torch.bfloat16)
    assert "rotates in a way of its own" in why()


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("place", ["qwen3:Qwen3Attention", "qwen3_moe:Qwen3MoeAttention"])
def test_the_setting_asks_for_it(place: str, on: bool) -> None:
    import importlib

    module, _, name = place.partition(":")
    models = importlib.import_module(f"vllm.model_executor.models.{module}")
    with ascend_overlay.enabled(only=["attention"], propagate=False, fused_qkv=on):
        assert getattr(models, name).__name__ == (f"Ascend{name}" if on else name)
        (entry,) = [entry for entry in ascend_overlay.ledger().of("attention") if entry.target.endswith(place)]
        assert entry.state == ("applied" if on else "skipped")
    assert getattr(models, name).__name__ == name
