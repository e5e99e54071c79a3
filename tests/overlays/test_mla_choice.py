"""Which models the overlay mla serves, and what the CPU platform makes of that."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from layer_kit import one_rank

import ascend_overlay
from ascend_overlay.errors import OverlayError

pytestmark = pytest.mark.vllm

ONLY = ["mla"]
BESIDE = ["mla", "attention"]
"""Both overlays wrap the platform's choice."""


@pytest.fixture(autouse=True)
def _tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a processor without AMX: on one with it, stock vLLM takes AMX_MLA, and keeps prefixes by itself."""
    import torch

    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)


def _selected(**changes: Any) -> tuple[str, list[str]]:
    """Return the backend that the platform chooses for a layer of MLA, and what the overlay noted."""
    import torch
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.platforms.cpu import CpuPlatform
    from vllm.v1.attention.selector import AttentionSelectorConfig

    config = VllmConfig()
    config.model_config = changes.pop("model", None)
    selected = changes.pop("selected", None)
    heads = changes.pop("num_heads", 16)
    for name in ("block_size", "cache_dtype"):
        if name in changes:
            setattr(config.cache_config, name, changes.pop(name))
            config.cache_config.user_specified_block_size = True
    for name in ("decode_context_parallel_size", "kv_transfer_config"):
        if name in changes:
            value = changes.pop(name)
            setattr(config if name.startswith("kv") else config.parallel_config, name, value)
    defaults = {"head_size": 576, "dtype": torch.bfloat16, "kv_cache_dtype": "auto", "block_size": None}
    wanted = AttentionSelectorConfig(**{**defaults, "use_mla": True, **changes})
    with set_current_vllm_config(config):
        path = CpuPlatform.get_attn_backend_cls(selected, attn_selector_config=wanted, num_heads=heads)
    return path.rpartition(".")[2], [text for _, text in ascend_overlay.ledger().notes]


def _model(**text: Any) -> Any:
    import torch

    sizes = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128}
    return SimpleNamespace(
        dtype=torch.bfloat16, is_hybrid=text.pop("hybrid", False), hf_text_config=SimpleNamespace(**{**sizes, **text})
    )


LEFT: list[tuple[dict[str, Any], str]] = [
    ({"head_size": 320}, "320 elements a token"),
    ({"dtype": "float32"}, "not torch.float32"),
    ({"kv_cache_dtype": "fp8"}, "the KV cache is fp8"),
    ({"num_heads": 256}, "a rank has 256 heads"),
    ({"has_sliding_window": True}, "sliding windows"),
    ({"block_size": 64}, "the block size is 64"),
    ({"decode_context_parallel_size": 2}, "context parallelism"),
    ({"kv_transfer_config": SimpleNamespace(is_kv_transfer_instance=True)}, "moves a KV cache by blocks"),
    ({"model": _model(kv_lora_rank=256)}, "has 256 + 64 elements"),
    ({"model": _model(qk_nope_head_dim=192)}, "keys have 256 elements a head"),
    ({"model": _model(index_topk=64)}, "npu_lightning_indexer"),
    ({"model": _model(hybrid=True)}, "hybrid"),
    ({"model": _model(num_attention_heads=256)}, "a rank has 256 heads"),
]


def test_what_the_operators_do_not_take_is_left_to_vllm_and_noted() -> None:
    import torch

    with ascend_overlay.enabled(only=ONLY):
        for changes, reason in LEFT:
            if "dtype" in changes:
                changes = {"dtype": getattr(torch, changes["dtype"])}
            chosen, notes = _selected(**changes)
            assert chosen == "CPUMLABackend", reason
            assert any("stays vLLM's" in note and reason in note for note in notes), (reason, notes)


def test_whoever_asks_for_another_backend_gets_it() -> None:
    from vllm.v1.attention.backends.registry import AttentionBackendEnum

    with ascend_overlay.enabled(only=BESIDE):
        assert _selected(model=_model())[0] == "AscendMLABackend"
        chosen, notes = _selected(selected=AttentionBackendEnum.CPU_MLA)
        assert chosen == "CPUMLABackend"
        assert any("CPU_MLA was asked for" in note for note in notes)
        ours = AttentionBackendEnum["ASCEND_MLA"]
        assert _selected(selected=ours)[0] == "AscendMLABackend"
        with pytest.raises(OverlayError, match=r"asks for ASCEND_MLA, which cannot serve this model: .* 320 elements"):
            _selected(selected=ours, head_size=320)
        assert _selected(use_mla=False, head_size=128)[0] == "AscendAttentionBackend"
        with pytest.raises(NotImplementedError):
            _selected(use_sparse=True)
        assert any("npu_lightning_indexer" in text for _, text in ascend_overlay.ledger().notes)


def test_the_choice_is_not_remembered_from_before_or_after() -> None:
    import torch
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.v1.attention.selector import get_attn_backend

    def chosen() -> str:
        with set_current_vllm_config(VllmConfig()):
            found = get_attn_backend(576, torch.bfloat16, "auto", use_mla=True, num_heads=16)
        return str(found.get_name())

    assert chosen() != "ASCEND_MLA"
    with ascend_overlay.enabled(only=ONLY):
        assert chosen() == "ASCEND_MLA"
    assert chosen() != "ASCEND_MLA"


def test_chunked_prefill_and_prefix_caching_stay_on(tmp_path: Any) -> None:
    from vllm.platforms.cpu import CpuPlatform

    def settled(ranks: int = 1, **changes: Any) -> tuple[bool, bool, int]:
        from vllm.config import VllmConfig

        config = VllmConfig()
        config.parallel_config.tensor_parallel_size = ranks
        model = _model(**changes)
        dtype = changes.get("dtype")
        config.model_config = SimpleNamespace(
            **{**vars(model), "dtype": dtype or model.dtype},
            use_mla=True,
            max_model_len=512,
            hf_config=SimpleNamespace(model_type="deepseek_v2"),
            architecture="DeepseekV2ForCausalLM",
            has_inner_state=False,
        )
        config.scheduler_config.max_num_batched_tokens = 64
        CpuPlatform.check_and_update_config(config)
        scheduler = config.scheduler_config
        return (
            scheduler.enable_chunked_prefill,
            config.cache_config.enable_prefix_caching,
            scheduler.max_num_batched_tokens,
        )

    import torch

    assert settled() == (False, False, 2048)
    with ascend_overlay.enabled(only=ONLY):
        assert settled() == (True, True, 64)
        assert settled(dtype=torch.float32) == (False, False, 2048)
        # What counts is the number of heads on a rank, as where the backend is chosen.
        assert settled(num_attention_heads=256) == (False, False, 2048)
        assert settled(num_attention_heads=256, ranks=2) == (True, True, 64)


def test_graphs_are_split_where_the_cache_is_written() -> None:
    import torch
    from vllm.config import CompilationConfig, CompilationMode

    def settled(**changes: Any) -> list[str]:
        config = CompilationConfig(mode=CompilationMode.VLLM_COMPILE, **changes)
        config.set_splitting_ops_for_v1("allgather_reducescatter")
        assert config.splitting_ops is not None
        return config.splitting_ops

    stock = settled()
    with ascend_overlay.enabled(only=ONLY):
        # The operator is defined beside the layer that calls it.
        import vllm.model_executor.layers.mla  # noqa: F401

        (added,) = set(settled()) - set(stock)
        assert added == torch.ops.vllm.ascend_mla_norm_rope_cache._qualified_op_name
        # Whoever keeps attention in the graphs wants all of it there.
        assert settled(splitting_ops=[]) == []
        assert settled(splitting_ops=list(stock)) == [*stock, added]
        assert settled(splitting_ops=[*stock, added]) == [*stock, added]
    assert settled() == stock


def test_what_splits_a_graph_writes_to_what_it_is_given() -> None:
    """A captured piece behind such an operator reads the addresses that it was captured with."""
    import torch
    from vllm.config import CompilationConfig, CompilationMode

    config = CompilationConfig(mode=CompilationMode.VLLM_COMPILE)
    config.set_splitting_ops_for_v1("allgather_reducescatter")
    stock = set(config.splitting_ops or ())
    with ascend_overlay.enabled():
        import vllm.model_executor.layers.mla  # noqa: F401

        config.set_splitting_ops_for_v1("allgather_reducescatter")
        ours = set(config.splitting_ops or ()) - stock
    assert ours
    for name in ours:
        schema = getattr(torch.ops.vllm, name.removeprefix("vllm::")).default._schema
        written = [argument.name for argument in schema.arguments if argument.alias_info is not None]
        assert not schema.returns, schema
        assert written, schema


MARKED = """
import torch
import ascend_overlay
ascend_overlay.enable(only=["mla"])
import vllm.model_executor.layers.mla
from vllm.compilation.breakable_cudagraph import BreakableCUDAGraphCapture

seen = []

class Capture:
    _capturing = True
    def add_eager(self, call):
        seen.append(call)

BreakableCUDAGraphCapture.current = staticmethod(Capture)
q, kv = torch.zeros(2, 4, 192), torch.zeros(2, 576)
others = torch.ones(512), torch.arange(2), torch.zeros(9, 64), torch.zeros(9, 64), 1e-6, "a layer"
latents, keys = torch.zeros(2, 512), torch.zeros(2, 1, 64)
torch.ops.vllm.ascend_mla_norm_rope_cache(q, kv, *others, latents, keys, False)
print("kept out of the capture:", len(seen))
"""


def test_what_splits_a_graph_breaks_a_capture_without_a_compiler(python: Any) -> None:
    """vLLM asks for its mark there, and not for its list of operators."""
    # weak_ref_tensor is an operator of vLLM's builds for CUDA.
    stand_in = "import vllm.compilation.breakable_cudagraph as b; b._weak_ref_capture_arg = lambda a: a"
    done = python.script(
        MARKED.replace("seen = []", f"{stand_in}\nseen = []"),
        env={"VLLM_USE_BREAKABLE_CUDAGRAPH": "1", "HF_HUB_OFFLINE": "1"},
        timeout=300,
    )
    assert "kept out of the capture: 1" in done.stdout


def test_afterwards_nothing_is_left() -> None:
    from ascend_overlay.overlays.mla.cases.steps import LatentSteps

    with one_rank():
        with ascend_overlay.enabled(only=ONLY):
            LatentSteps()
        layer = LatentSteps()
    assert type(layer.attention).__name__ == "MLAAttention"
    assert type(layer.attention.impl).__name__ == "CPUMLAImpl"
    assert type(layer.layer.mla_attn).__name__ == "MultiHeadLatentAttentionWrapper"
