"""Multi-head latent attention is computed by torch_npu's operators, no worse than by vLLM's own backend.

A layer of DeepSeek's attention is served step by step, as vLLM's worker does (overlays/mla/cases/steps.py), stock
and overlaid, and compared with the plain formula, without absorption, in float64. Its own roundings make vLLM's layer
miss that by a few thousandths of its size in bfloat16; the overlaid layer may miss it by no more, but for a tenth.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from layer_kit import calls, one_rank

import ascend_overlay
from ascend_overlay.errors import CheckpointError, ConfigError, OverlayError
from ascend_overlay.npu import tracing

pytestmark = pytest.mark.vllm

ONLY = ["mla"]
FUSED = {"npu_kv_rmsnorm_rope_cache", "npu_interleave_rope"}
ATTENTION = {"npu_fused_infer_attention_score"}
CHUNKS = {"npu_gather_pa_kv_cache", "npu_attention_update"}

Plan = Sequence[Mapping[int, int]]
"""Steps; each says how many tokens of which sequence are new, those that are decoded first."""

PLANS: dict[str, tuple[Plan, set[str]]] = {
    "decode": ([{0: 5, 1: 16, 2: 17}, {0: 1, 1: 1, 2: 1}, {0: 1, 2: 1}], set()),
    "prompts of one and of many tokens": ([{0: 1}, {1: 2, 2: 90}], set()),
    "chunks of a prompt": ([{0: 30, 1: 7}, {0: 41, 1: 60}, {0: 100}], CHUNKS),
    "more context than the workspace": ([{0: 150, 1: 40}, {1: 5, 0: 9}, {1: 70, 0: 80}], CHUNKS),
    "decode, a chunk and a new prompt": ([{0: 20, 1: 33}, {0: 1, 1: 30, 2: 12}, {0: 1, 1: 1, 2: 40}], CHUNKS),
}


@pytest.fixture(scope="module", autouse=True)
def groups() -> Iterator[None]:
    """Have vLLM's groups of processes."""
    pytest.importorskip("vllm.model_executor.models.deepseek_v2")
    with one_rank():
        yield


def _steps(**options: Any) -> Any:
    from ascend_overlay.overlays.mla.cases.steps import LatentSteps

    return LatentSteps(**options)


def _run(plan: Plan, **options: Any) -> tuple[Any, dict[int, Any]]:
    """Return the layer and, by sequence, all of its output."""
    import torch

    layer = _steps(**options)
    found: dict[int, list[Any]] = {}
    for new in plan:
        for sequence, out in zip(new, layer.step(new), strict=True):
            found.setdefault(sequence, []).append(out)
    return layer, {sequence: torch.cat(parts) for sequence, parts in found.items()}


def _off(layer: Any, found: dict[int, Any]) -> float:
    """Return by how much the outputs miss the formula, relative to their size."""
    import torch

    exact = torch.cat([layer.exact(sequence, len(out)) for sequence, out in found.items()])
    got = torch.cat(list(found.values())).double()
    assert got.isfinite().all()
    return float((got - exact).norm() / exact.norm())


SIZES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "small heads": ({"plain": 32, "value": 32}, FUSED),
    "values wider than keys": ({"plain": 64, "value": 192}, FUSED),
    "3 heads": ({"heads": 3}, FUSED | {"npu_transpose_batchmatmul"}),
    "20 heads": ({"heads": 20, "hidden": 128}, FUSED | {"npu_transpose_batchmatmul"}),
    "1 head": ({"heads": 1}, FUSED | {"npu_transpose_batchmatmul"}),
    "halves rotated": ({"neox": True}, {"npu_scatter_pa_kv_cache", "npu_transpose_batchmatmul"}),
}


def _cases() -> Iterator[tuple[str, Plan, dict[str, Any], set[str]]]:
    """Yield name, steps, layer, and the operators that must run."""
    for plan, (steps, more) in PLANS.items():
        decodes = any(count == 1 for new in steps for count in new.values())
        operators = FUSED | ATTENTION | more | ({"npu_transpose_batchmatmul"} if decodes else set())
        for rank in (None, 96):
            for dtype in ("bfloat16", "float16"):
                compressed = "compressed queries, " if rank else ""
                yield f"{plan}, {compressed}{dtype}", steps, {"dtype": dtype, "q_lora_rank": rank}, operators
    for size, (options, operators) in SIZES.items():
        yield size, PLANS["decode, a chunk and a new prompt"][0], options, operators | ATTENTION | CHUNKS


@pytest.fixture(scope="module")
def stock(groups: None) -> dict[str, float]:
    """By how much vLLM's own layer misses the formula, by case."""
    return {name: _off(*_run(steps, **options)) for name, steps, options, _ in _cases()}


@pytest.fixture(scope="module")
def enabled(stock: dict[str, float]) -> Iterator[None]:
    """Have the overlay enabled for all tests of this module: finding every copy of a class takes a second or two."""
    with ascend_overlay.enabled(only=ONLY, trace=True):
        yield


@pytest.fixture(autouse=True)
def overlaid(enabled: None) -> None:
    """Have the overlay, and nothing counted yet."""
    tracing.reset()


def test_what_it_is_compared_with_computes_the_formula(stock: dict[str, float]) -> None:
    """vLLM chooses a backend for bfloat16 alone on CPUs with AMX, and gives it float16, too."""
    assert {name: off for name, off in stock.items() if not off < 0.01} == {}


@pytest.mark.parametrize("case", [name for name, *_ in _cases()])
def test_it_is_as_near_to_the_formula_as_vllms_own(stock: dict[str, float], case: str) -> None:
    steps, options, operators = next(found[1:] for found in _cases() if found[0] == case)
    # What was never written must not be looked at.
    layer, found = _run(steps, **options, fill=float("nan"))
    assert type(layer.attention.impl).__name__ == "AscendMLAImpl"
    ran = calls()
    assert set(ran) == operators
    assert ran.get("npu_kv_rmsnorm_rope_cache", ran.get("npu_scatter_pa_kv_cache")) == len(steps)
    assert _off(layer, found) <= 1.1 * stock[case]


def test_blocks_of_128_tokens() -> None:
    small = _run([{0: 130, 1: 40}, {0: 1, 1: 100}, {0: 1, 1: 1}], workspace=256)[1]
    large = _run([{0: 130, 1: 40}, {0: 1, 1: 100}, {0: 1, 1: 1}], workspace=256, block_size=128)[1]
    for sequence, out in small.items():
        assert (out == large[sequence]).all()


def test_a_hit_of_the_prefix_cache_gives_the_same_as_no_hit() -> None:
    import torch

    layer = _steps(workspace=512)
    first = layer.inputs(0, 100)
    second = torch.cat((first[:64], layer.inputs(1, 100)[64:]))
    layer.step({0: 70}, {0: first})
    layer.share(1, 0, 64)
    (hit,) = layer.step({1: 36}, {1: second})
    (again,) = layer.step({2: 100}, {2: second})
    # Of another order of summation only.
    torch.testing.assert_close(hit.float(), again[64:].float(), rtol=2e-2, atol=2e-2 * float(again.abs().max()))
    exact = layer.exact(1, 100, second)[64:]
    assert float((hit.double() - exact).norm() / exact.norm()) < 0.01


def test_several_queries_of_a_sequence_are_decoded_together() -> None:
    """As with speculative decoding: vLLM asks for what was proposed, and takes some of it."""
    import torch

    plan = [{0: 40, 1: 9, 2: 20}, {0: 1, 1: 3, 2: 4}, {1: 4, 2: 2, 0: 4}]
    layer, found = _run(plan, speculative=3)
    assert layer.builder.reorder_batch_threshold == 4
    # One call for the prompts, one for each of the steps behind.
    assert calls()["npu_fused_infer_attention_score"] == 3
    assert not calls().keys() & CHUNKS
    assert _off(layer, found) < 0.01
    assert _steps(speculative=40).builder.reorder_batch_threshold == 16
    one_by_one = _run([{0: 40, 1: 9, 2: 20}, {0: 1, 1: 3, 2: 4}], speculative=3)[1]
    assert torch.equal(one_by_one[2], found[2][:24])


def test_rows_that_belong_to_nobody_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from ascend_overlay.overlays.mla.impl import AscendMLAImpl

    theirs, written = AscendMLAImpl.write, []

    def write(self: Any, latents: Any, keys: Any, cache: Any, slots: Any) -> None:
        # torch_npu documents no slots below 0.
        assert len(slots) == len(latents) == len(keys)
        assert (slots >= 0).all()
        written.append(len(slots))
        theirs(self, latents, keys, cache, slots)

    monkeypatch.setattr(AscendMLAImpl, "write", write)
    for options in ({}, {"neox": True}):
        plain, padded = _steps(**options), _steps(**options)
        for new in ({0: 20, 1: 30}, {0: 1, 1: 1}):
            for one, other in zip(plain.step(new), padded.step(new, padding=5), strict=True):
                torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-2)
        assert torch.equal(plain.attention.kv_cache, padded.attention.kv_cache)
    assert written == [50, 50, 2, 2]


def test_compiled_it_is_one_graph_with_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    import gc

    import torch

    # vLLM's linear layers free memory when they go, which they cannot while something is traced.
    gc.collect()
    eager, compiled = _steps(), _steps()
    call = torch.compile(lambda p, x: compiled.layer(p, x, None), fullgraph=True, backend="inductor")
    monkeypatch.setattr(compiled, "forward", lambda p, x: call(p, x))
    torch._dynamo.reset()
    for new in ({0: 20, 1: 30}, {0: 1, 1: 1}, {0: 1, 1: 25}):
        for one, other in zip(eager.step(new), compiled.step(new), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-2)
    assert calls()["npu_kv_rmsnorm_rope_cache"] == 6


def test_nothing_is_computed_while_vllm_measures_its_memory() -> None:
    import torch
    from vllm.forward_context import set_forward_context

    layer = _steps(fill=7.0)
    with layer._configured(), torch.inference_mode(), set_forward_context(None, layer.config, slot_mapping={}):
        out = layer.forward(torch.arange(6), torch.zeros(6, layer.hidden, dtype=layer.dtype))
    assert not out.any()
    assert (layer.attention.kv_cache == 7).all()
    assert not calls()


def test_rotated_queries_are_handed_over_where_all_tokens_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from ascend_overlay.overlays.mla.impl import AscendMLAImpl

    handed = []
    theirs = AscendMLAImpl.hand_over

    def hand_over(self: Any, metadata: Any, rotated: Any) -> None:
        handed.append(None if rotated is None else tuple(rotated.shape))
        theirs(self, metadata, rotated)

    monkeypatch.setattr(AscendMLAImpl, "hand_over", hand_over)
    plain, scaled = _steps(), _steps()
    # What scales the queries comes between rotation and attention.
    monkeypatch.setattr(scaled, "forward", lambda p, x: scaled.layer(p, x, torch.ones((), dtype=x.dtype)))
    for new in ({0: 20, 1: 30}, {0: 1, 1: 1}, {0: 1, 2: 4}):
        for one, other in zip(plain.step(new), scaled.step(new), strict=True):
            assert torch.equal(one, other)
    decoded = (2, plain.attention.num_heads, 64)
    assert handed == [None, None, decoded, None, None, None]


def test_rotated_queries_of_another_step_are_not_taken() -> None:
    import torch

    impl, heads = _steps().attention.impl, 4
    queries = torch.zeros(1, heads, 512), torch.zeros(1, heads, 64)
    impl.hand_over(object(), queries[1])
    layer = types.SimpleNamespace(layer_name="model.layers.0")
    with pytest.raises(OverlayError, match=r"made for the attention of 'model.layers.0', \(1, 4, 64\), are not those"):
        impl.forward_mqa(queries, torch.zeros(1), object(), layer)


def test_the_angles_of_a_step_are_looked_up_once_for_all_layers() -> None:
    import torch

    from ascend_overlay.overlays.mla.backend import AscendMLAMetadata

    step = object.__new__(AscendMLAMetadata)
    step.num_actual_tokens = 2
    cosines, sines = torch.rand(9, 64), torch.rand(9, 64)
    positions = torch.tensor([7, 3, 0])
    found = step.angles(positions, cosines, sines)
    for got, table in zip(found, (cosines, sines), strict=True):
        assert torch.equal(got, table[[7, 3]].view(2, 1, 1, 64))
    assert step.angles(positions, cosines, sines) is found
    assert torch.equal(step.angles(positions, sines, cosines)[0], found[1])
    assert torch.equal(step.angles(torch.tensor([1, 1]), cosines, sines)[0], cosines[[1, 1]].view(2, 1, 1, 64))
    (kept,) = (field for field in dataclasses.fields(AscendMLAMetadata) if field.name == "_angles")
    assert not kept.init  # nor handed on to the metadata of a part of the step


def test_the_cache_is_two_planes_of_one_allocation() -> None:
    import torch

    from ascend_overlay.overlays.mla.cache import planes

    cache = torch.arange(3 * 16 * 576).view(3, 16, 576)
    latents, keys = planes(cache)
    assert (latents.shape, keys.shape) == ((3, 16, 1, 512), (3, 16, 1, 64))
    assert latents.is_contiguous()
    assert keys.is_contiguous()
    assert torch.equal(torch.cat((latents.flatten(), keys.flatten())), cache.flatten())
    with pytest.raises(ConfigError, match=r"other layers' blocks lie between.*LBHNC"):
        planes(torch.zeros(3, 2, 16, 576)[:, 0])


class _Quantized:
    """A method whose layer multiplies by its weights, in its own way."""

    def __init__(self, weight: Any, limit: float) -> None:
        self.weight, self.limit = weight, limit

    def apply(self, layer: Any, x: Any, bias: Any = None) -> Any:
        return x.clamp(-self.limit, self.limit) @ self.weight.T


@pytest.mark.parametrize(("limit", "fine"), [(100.0, True), (0.7, False)])
def test_a_quantized_projection_must_give_its_weights_back(limit: float, fine: bool) -> None:
    layer = _steps()
    projection = layer.layer.kv_b_proj
    projection.quant_method = _Quantized(layer.weights["kv_b_proj.weight"], limit)
    if fine:
        before = layer.attention.W_UV.clone()
        layer.attention.process_weights_after_loading(layer.dtype)
        assert (before == layer.attention.W_UV).all()
        return
    with pytest.raises(CheckpointError, match=r"model\.layers\.0\.self_attn\.kv_b_proj cannot be read off"):
        layer.attention.process_weights_after_loading(layer.dtype)


def test_the_absorbed_weights_are_contiguous_and_follow_a_reload() -> None:
    layer = _steps()
    where = layer.attention.W_UV.data_ptr()
    layer.layer.kv_b_proj.weight.data.mul_(2)
    before = layer.attention.W_UV.clone()
    layer.attention.process_weights_after_loading(layer.dtype)
    for absorbed in (layer.attention.W_UV, layer.attention.W_UK_T):
        assert absorbed.is_contiguous()
    assert (2 * before == layer.attention.W_UV).all()
    assert layer.attention.W_UV.data_ptr() == where
