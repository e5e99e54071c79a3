"""The attention backend ASCEND computes what vLLM's backend for CPUs computes, from the same KV cache."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from layer_kit import assert_rounded_once, calls, dtype_of, tensor

import ascend_overlay
from ascend_overlay.errors import OverlayError

pytestmark = pytest.mark.vllm

ONLY = ["attention"]
FIA, WRITE = "npu_fused_infer_attention_score_v2.out", "npu_scatter_pa_kv_cache"


@pytest.fixture(autouse=True)
def vllm_loaded() -> None:
    pytest.importorskip("vllm.model_executor.layers.attention")


def _request(blocks: Sequence[int], context: int, new: int) -> Any:
    from ascend_overlay.overlays.attention.cases.batches import Request

    return Request(tuple(blocks), context, new)


def _layer(dtype: Any, **options: Any) -> Any:
    from ascend_overlay.overlays.attention.cases.batches import CachedLayer

    return CachedLayer(dtype, **options)


def _batches() -> dict[str, list[Any]]:
    """Return batches that go to one cache, in their order; blocks are scattered and out of order."""
    return {
        "prompts": [_request([6, 1], 0, 150), _request([4], 0, 3), _request([0], 0, 128)],
        "parts of prompts": [_request([6, 1], 150, 60), _request([4], 3, 1), _request([4, 2], 4, 140)],
        "single tokens": [_request([6, 1], 210, 1), _request([4, 2], 144, 1), _request([0, 3], 128, 1)],
        "cached prefix": [_request([0, 7], 128, 30), _request([0, 5], 128, 1)],
        "mixed": [_request([0, 7], 158, 1), _request([6, 1], 211, 1), _request([0, 5], 129, 17), _request([8], 0, 9)],
    }


def _numbers(seed: int, layer: Any, requests: Sequence[Any]) -> list[Any]:
    new = sum(request.new for request in requests)
    sizes = (layer.heads, layer.kv_heads, layer.kv_heads)
    return [tensor(seed + i, new, heads * layer.size, dtype=layer.dtype) for i, heads in enumerate(sizes)]


class Exact:
    """The same in float64, with each token of the cache in a dictionary."""

    def __init__(
        self, layer: Any, window: int | None = None, sinks: Any = None, causal: bool = True, cap: float = 0.0
    ) -> None:
        self.layer, self.window, self.sinks, self.causal, self.cap = layer, window, sinks, causal, cap
        self.tokens: dict[tuple[int, int], Any] = {}

    def run(self, requests: Sequence[Any], query: Any, key: Any, value: Any) -> Any:
        import torch

        layer, at, found = self.layer, 0, []
        group = layer.heads // layer.kv_heads
        heads = (layer.heads, layer.kv_heads, layer.kv_heads)
        q, k, v = (x.double().view(-1, n, layer.size) for x, n in zip((query, key, value), heads, strict=True))
        for request in requests:
            total = request.context + request.new
            places = [(request.blocks[i // 128], i % 128) for i in range(total)]
            for i in range(request.new):
                self.tokens[places[request.context + i]] = k[at + i], v[at + i]
            keys, values = (torch.stack(x).repeat_interleave(group, 1) for x in zip(*map(self.tokens.get, places)))  # type: ignore[arg-type]  # noqa: B905
            for i in range(request.new):
                last = request.context + i + 1 if self.causal else total
                first = 0 if self.window is None else max(0, request.context + i + 1 - self.window)
                scores = torch.einsum("hd,lhd->hl", q[at + i], keys[first:last]) * layer.size**-0.5
                if self.cap:
                    scores = self.cap * (scores / self.cap).tanh()
                if self.sinks is not None:
                    scores = torch.cat((scores, self.sinks.double().view(-1, 1)), 1)
                weights = scores.softmax(1)[:, : last - first]
                found.append(torch.einsum("hl,lhd->hd", weights, values[first:last]).flatten())
            at += request.new
        return torch.stack(found)


OPTIONS: dict[str, dict[str, Any]] = {
    "grouped queries": {"heads": 4, "kv_heads": 2, "size": 64},
    "one head of keys": {"heads": 6, "kv_heads": 1, "size": 32},
    "all heads": {"heads": 2, "kv_heads": 2, "size": 128},
    "window": {"per_layer_sliding_window": 40},
    "window of a block and more": {"per_layer_sliding_window": 129, "size": 96},
    "sinks": {"sinks": "given"},
    "window and sinks": {"per_layer_sliding_window": 7, "sinks": "given"},
}


def _options(name: str, dtype: Any) -> dict[str, Any]:
    found = dict(OPTIONS[name])
    if "sinks" in found:
        found["sinks"] = tensor(77, found.get("heads", 4), dtype=dtype)
    return found


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("dtype_name", ["bfloat16", "float16"])
def test_every_state_of_a_batch(dtype_name: str, name: str) -> None:
    if dtype_name == "float16" and "sinks" in name:
        pytest.skip("torch_npu takes sinks in bfloat16 only")
    import torch

    dtype = dtype_of(dtype_name)
    options = _options(name, dtype)
    stock = _layer(dtype, blocks=9, **options)
    assert stock.backend.get_name() == "CPU_ATTN"
    exact = Exact(stock, options.get("per_layer_sliding_window"), options.get("sinks"))
    with ascend_overlay.enabled(only=ONLY, trace=True):
        ours = _layer(dtype, blocks=9, **options)
        assert ours.backend.get_name() == "ASCEND"
        for count, (state, requests) in enumerate(_batches().items(), 1):
            numbers = _numbers(10 * count, ours, requests)
            got, theirs, wanted = (layer.run(requests, *numbers) for layer in (ours, stock, exact))
            assert_rounded_once(got, wanted, terms=wanted.abs() + 1)
            # vLLM's backend rounds the weights to the dtype, too.
            bounds = {"rtol": 2**-6, "atol": 2**-6} if dtype is torch.bfloat16 else {"rtol": 2**-9, "atol": 2**-9}
            torch.testing.assert_close(got, theirs, **bounds, msg=lambda text, state=state: f"{state}: {text}")
        assert calls() == {FIA: 5, WRITE: 5}


@pytest.mark.parametrize("window", [None, 7, 129])
@pytest.mark.parametrize("dtype_name", ["bfloat16", "float16"])
def test_capped_scores_are_computed_without_the_operator(dtype_name: str, window: int | None) -> None:
    with ascend_overlay.enabled(only=ONLY, trace=True):
        layer = _layer(dtype_of(dtype_name), blocks=9, per_layer_sliding_window=window)
        # Where vLLM has a backend that caps, it is left the layer; on an NPU, it has none.
        layer.layer.impl.soft_cap = 0.5
        exact = Exact(layer, window, cap=0.5)
        for count, requests in enumerate(_batches().values(), 1):
            numbers = _numbers(10 * count, layer, requests)
            wanted = exact.run(requests, *numbers)
            assert_rounded_once(layer.run(requests, *numbers), wanted, terms=wanted.abs() + 1)
        assert calls() == {WRITE: 5}


def test_capped_scores_are_said_aloud_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    from ascend_overlay.overlays.attention import capped

    monkeypatch.setattr(capped, "_said", [])
    with ascend_overlay.enabled(only=ONLY), caplog.at_level("WARNING", logger="vllm.ascend_overlay"):
        monkeypatch.setattr(logging.getLogger("vllm"), "propagate", True)
        assert [_impl(logits_soft_cap=cap).soft_cap for cap in (30.0, None, 50.0)] == [30.0, None, 50.0]
        assert [text for name, text in ascend_overlay.ledger().notes if name == "attention"].count(capped._TEXT) == 1
    assert caplog.text.count("one request after the other, which is slow") == 1


def test_capped_scores_are_not_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph would keep the lengths of the requests that it was captured with."""
    from types import SimpleNamespace

    import torch

    with ascend_overlay.enabled(only=ONLY):
        layer = _layer(torch.bfloat16)
        layer.layer.impl.soft_cap = 0.5
        requests = [_request([3], 0, 5)]
        capturing = SimpleNamespace(is_current_stream_capturing=lambda: True)
        monkeypatch.setattr(torch, "npu", capturing, raising=False)
        with pytest.raises(OverlayError, match="cannot be captured in a graph"):
            layer.run(requests, *_numbers(1, layer, requests))


def test_a_decoder_that_looks_ahead() -> None:
    import torch

    with ascend_overlay.enabled(only=ONLY):
        layer = _layer(torch.bfloat16)
        exact = Exact(layer, causal=False)
        requests = [_request([3, 1], 0, 140), _request([2], 0, 5)]
        numbers = _numbers(1, layer, requests)
        batch = layer.batch(requests)
        batch.causal = False
        layer.batch = lambda _: batch
        wanted = exact.run(requests, *numbers)
        assert_rounded_once(layer.run(requests, *numbers), wanted, terms=wanted.abs() + 1)


def test_a_token_stays_in_its_block_and_the_cache_is_as_large_as_vllms() -> None:
    """Blocks are cleared, copied and shared by who does not know what is in them."""
    import torch

    stock = _layer(torch.bfloat16)
    with ascend_overlay.enabled(only=ONLY):
        layer = _layer(torch.bfloat16)
        assert layer.spec == stock.spec
        assert layer.spec.page_size_bytes == 128 * 2 * 2 * 64 * 2
        requests = [_request([5, 2], 0, 130)]
        layer.run(requests, *_numbers(1, layer, requests))
        assert [block for block in range(8) if layer.cache[block].any()] == [2, 5]
        # What is left of a request in another's block is not looked at.
        layer.cache[6] = torch.nan
        found = layer.run([_request([6], 0, 3)], *_numbers(2, layer, [_request([6], 0, 3)]))
        assert found.isfinite().all()
        # A block is all there is to a token: moved elsewhere, it is the same.
        decode = _numbers(3, layer, [_request([5, 2], 130, 1)])
        moved = layer.cache[[2, 5]].clone()
        wanted = layer.run([_request([5, 2], 130, 1)], *decode)
        layer.cache[[7, 0]] = moved
        assert torch.equal(layer.run([_request([0, 7], 130, 1)], *decode), wanted)


def test_while_vllm_measures_its_memory_the_results_are_zeros() -> None:
    """They are numbers: what lies in the memory, such as NaN, would go on to the choice of experts."""
    import torch

    impl = _impl()
    shapes = {"query": (3, 4, 64), "key": (3, 2, 64), "value": (3, 2, 64)}
    new = {name: torch.zeros(shape, dtype=torch.bfloat16) for name, shape in shapes.items()}
    output = torch.full((3, 4, 64), torch.nan, dtype=torch.bfloat16)
    assert impl.forward(None, **new, kv_cache=torch.zeros(0), attn_metadata=None, output=output) is output
    assert not output.any()


def test_a_layer_that_shares_a_cache_does_not_write() -> None:
    import torch

    from ascend_overlay.overlays.attention.cases.batches import PREFIX

    with ascend_overlay.enabled(only=ONLY, trace=True):
        layer = _layer(torch.bfloat16)
        requests = [_request([5, 2], 0, 130)]
        numbers = _numbers(1, layer, requests)
        wanted = layer.run(requests, *numbers)
        from vllm.config import set_current_vllm_config

        with set_current_vllm_config(layer._config):
            sharing = layer._layer("model.layers.1.self_attn.attn", {"kv_sharing_target_layer_name": PREFIX})
        sharing.kv_cache, sharing.layer_name = layer.cache, PREFIX
        layer._config.compilation_config.static_forward_context[PREFIX] = sharing
        layer.layer = sharing
        other = [numbers[0], *_numbers(9, layer, requests)[1:]]
        assert torch.equal(layer.run(requests, *other), wanted)
        assert calls() == {FIA: 2, WRITE: 1}


def test_compiled_it_is_vllms_one_operator() -> None:
    import torch

    with ascend_overlay.enabled(only=ONLY, trace=True):
        layer = _layer(torch.bfloat16)
        requests = [_request([5, 2], 0, 130)]
        numbers = _numbers(1, layer, requests)
        wanted = layer.run(requests, *numbers)
        graphs = []

        def keep(graph: Any, _: Any) -> Any:
            graphs.append(graph)
            return graph

        torch._dynamo.reset()
        layer.layer = torch.compile(layer.layer, fullgraph=True, backend=keep)
        assert torch.equal(layer.run(requests, *numbers), wanted)
        called = {node.target for node in graphs[0].graph.nodes if node.op == "call_function"}
        assert torch.ops.vllm.unified_attention_with_output in {getattr(t, "overloadpacket", t) for t in called}
        assert calls() == {FIA: 2, WRITE: 2}


def _noted(reason: str) -> bool:
    """Tell whether the ledger says that something is left to vLLM for this reason."""
    notes = ascend_overlay.ledger().notes
    return any(name == "attention" and "stays vLLM's: " in text and reason in text for name, text in notes)


LEFT: dict[str, tuple[str, dict[str, Any], str]] = {
    "soft cap": ("bfloat16", {"logits_soft_cap": 30.0}, "a soft cap of the scores (30.0)"),
    "ALiBi": ("bfloat16", {"alibi_slopes": [0.5, 0.25, 0.1, 0.2]}, "ALiBi"),
    "float32": ("float32", {}, "dtype not supported"),
    "wide heads": ("bfloat16", {"size": 512}, "head_size not supported"),
    "sinks in float16": ("float16", {"sinks": "given"}, "attention sinks with torch.float16"),
    "sinks of 96": ("bfloat16", {"sinks": "given", "size": 96}, "attention sinks with heads of 96 elements"),
    "encoder": ("bfloat16", {"attn_type": "encoder_only"}, "attention type encoder_only not supported"),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_the_operator_does_not_compute_stays_vllms_and_the_ledger_says_so(case: str) -> None:
    name, options, reason = LEFT[case]
    dtype = dtype_of(name)
    if "sinks" in options:
        options = options | {"sinks": tensor(1, 4, dtype=dtype)}
    with ascend_overlay.enabled(only=ONLY, trace=True):
        layer = _plain(dtype, None, **options)
        assert layer.get_attn_backend().get_name() == "CPU_ATTN"
        assert _noted(reason)
    with ascend_overlay.enabled(only=ONLY), pytest.raises(OverlayError, match="--attention-backend asks for ASCEND"):
        _plain(dtype, "ASCEND", **options)


def _plain(dtype: Any, backend: str | None, kv_cache_dtype: str = "auto", size: int = 64, **options: Any) -> Any:
    """Return a layer of vLLM without a cache."""
    from types import SimpleNamespace

    import torch
    from vllm.config import AttentionConfig, CacheConfig, VllmConfig, set_current_vllm_config
    from vllm.model_executor.layers.attention import Attention

    config = VllmConfig(
        cache_config=CacheConfig(block_size=128, cache_dtype=kv_cache_dtype),  # type: ignore[arg-type]
        attention_config=AttentionConfig(backend=backend),  # type: ignore[arg-type]
    )
    config.model_config = SimpleNamespace(dtype=dtype, is_mm_prefix_lm=False, rswa_window=None)  # type: ignore[assignment]
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with set_current_vllm_config(config):
            return Attention(4, size, 0.125, 2, cache_config=config.cache_config, prefix="layers.0.attn", **options)
    finally:
        torch.set_default_dtype(before)


def test_a_cache_in_fp8_stays_vllms_and_is_refused_where_it_is_asked_for() -> None:
    import torch

    with ascend_overlay.enabled(only=ONLY):
        assert _plain(torch.bfloat16, None, "fp8").get_attn_backend().get_name() == "CPU_ATTN"
        assert _noted("kv_cache_dtype not supported")
        with pytest.raises(OverlayError, match="kv_cache_dtype not supported"):
            _plain(torch.bfloat16, "ASCEND", "fp8")
        with pytest.raises(OverlayError, match=r"a KV cache of fp8: npu_fused_infer_attention_score_v2 has nothing"):
            _impl(kv_cache_dtype="fp8")


def _impl(**options: Any) -> Any:
    from ascend_overlay.overlays.attention.forward import AscendAttentionImpl

    return AscendAttentionImpl(4, 64, 0.125, 2, **options)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"logits_soft_cap": 5.0, "sinks": [1.0] * 4}, "a soft cap of the scores beside sinks"),
        ({"alibi_slopes": [1.0] * 4}, "ALiBi"),
        ({"attn_type": "encoder"}, "encoder attention"),
    ],
)
def test_where_nobody_else_serves_it_a_layer_is_refused(options: dict[str, Any], reason: str) -> None:
    """A platform for an NPU has no backend of vLLM's to leave it to."""
    with ascend_overlay.enabled(only=ONLY), pytest.raises(OverlayError, match=reason):
        _impl(**options)


def test_who_asks_for_vllms_backend_gets_it() -> None:
    import torch

    before = ascend_overlay.ledger().notes
    with ascend_overlay.enabled(only=ONLY):
        for backend, name in (("CPU_ATTN", "CPU_ATTN"), ("ascend", "ASCEND"), ("auto", "ASCEND")):
            assert _plain(torch.bfloat16, backend).get_attn_backend().get_name() == name
        assert ascend_overlay.ledger().notes == before


def test_batches_that_are_not_understood_are_errors() -> None:
    import torch
    from vllm.v1.kv_cache_interface import SinkFullAttentionSpec

    with ascend_overlay.enabled(only=ONLY):
        layer = _layer(torch.bfloat16)
        builder = type(layer.builder)
        batch = layer.batch([_request([1], 0, 3)])
        batch.causal = torch.ones(1, dtype=torch.bool)
        with pytest.raises(OverlayError, match="some look ahead and some do not"):
            layer.builder.build(0, batch)
        spec = SinkFullAttentionSpec(block_size=128, num_kv_heads=2, head_size=64, dtype=torch.bfloat16, sink_len=1)
        with pytest.raises(OverlayError, match="writes sinks to the KV cache by itself"):
            builder(spec, ["one"], layer._config, torch.device("cpu"))
        layer._config.speculative_config = object()
        with pytest.raises(OverlayError, match="does not serve speculative decoding"):
            builder(layer.spec, ["one"], layer._config, torch.device("cpu"))


def test_caches_that_the_operator_cannot_address_are_errors() -> None:
    import torch

    from ascend_overlay.overlays.attention.cache import halves

    with pytest.raises(OverlayError, match="are 8192 elements apart and have 4096"):
        halves(torch.zeros(3, 2, 16, 256)[:, :, :, :128])
    with pytest.raises(OverlayError, match="allow for 32767 blocks"):
        halves(torch.zeros(40000, 2, 128, 256, dtype=torch.bfloat16, device="meta"))


@pytest.fixture
def _restored() -> Iterator[None]:
    from vllm.v1.attention.backends.registry import AttentionBackendEnum

    before = list(AttentionBackendEnum)
    yield
    assert list(AttentionBackendEnum) == before


@pytest.mark.usefixtures("_restored")
def test_afterwards_nothing_is_left() -> None:
    import torch
    from vllm.v1.attention.backends.registry import AttentionBackendEnum

    for _ in range(2):
        with ascend_overlay.enabled(only=ONLY):
            assert AttentionBackendEnum["ASCEND"].get_class().__name__ == "AscendAttentionBackend"
            assert _plain(torch.bfloat16, None).get_attn_backend().get_name() == "ASCEND"
        assert _plain(torch.bfloat16, None).get_attn_backend().get_name() == "CPU_ATTN"
        assert not hasattr(AttentionBackendEnum, "ASCEND")


RELEASES = ("0.27.1", "0.28.0", "0.29.0", "0.30.0", "0.31.0", "0.32.0", "0.33.0")


def test_each_release_has_one_backend_and_it_says_what_its_cache_is() -> None:
    import torch
    from vllm.v1.kv_cache_layout import KVCacheLayout

    from ascend_overlay import versions
    from ascend_overlay.overlays.attention import cache, layouts, overlay, shapes

    backends = [patch for patch in overlay.patches if patch.kind == "attention backend"]
    found = {
        release: [
            patch.implementation.split(":")[0].rpartition(".")[2]
            for patch in backends
            if versions.in_range(patch.vllm, release, whose="a test")
        ]
        for release in RELEASES
    }
    assert found == {release: ["shapes" if release in ("0.27.1", "0.28.0") else "layouts"] for release in RELEASES}
    layout = layouts.AscendAttentionBackend.supported_kv_cache_layouts()
    assert layout == (KVCacheLayout.LBNHC, KVCacheLayout.LBHNC)
    shape = shapes.AscendAttentionBackend.get_kv_cache_shape(5, 128, 3, 64)
    assert [tuple(half.shape) for half in cache.halves(torch.zeros(shape))] == [(9, 128, 3, 64)] * 2
