"""Which of vLLM's own tests are run under the overlays: a row a file, for whoever serves another layer to add to."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class UpstreamFile:
    """Tests of one file of vLLM.

    Attributes:
        path: the file, below vLLM's folder tests.
        overlays: names of the overlays that the layers under test are served by.
        tests: names of the test functions; none: all of the file.
        at_most: parameter -> the largest value that is run; larger ones take long on a CPU.
        without: parameter -> values that are not run.
        unskip: run what vLLM skips where there is no CUDA.
        makes_tensors: the tests make tensors on "cuda", which are to be on the CPU.
        stock: they run without the overlays, too, and what passes there has to pass with them.
        operators: operators of torch_npu that must have run under the overlays.
        passes: how many tests pass under the overlays, at least, so that nobody takes an empty run for a good one.
        on_operators: how many of them run operators of torch_npu, at least; the others look at how a layer is chosen,
            built or split, or are about a part of it that is vLLM's own.
        left_out: what of the file is not run, and why, for docs/vllm_tests.md.
    """

    path: str
    overlays: tuple[str, ...]
    tests: tuple[str, ...] = ()
    at_most: dict[str, int] = field(default_factory=dict)
    without: dict[str, tuple[object, ...]] = field(default_factory=dict)
    unskip: bool = False
    makes_tensors: bool = False
    stock: bool = True
    operators: tuple[str, ...] = ()
    passes: int = 1
    on_operators: int = 0
    left_out: str = ""


FILES = (
    UpstreamFile(
        path="kernels/core/test_layernorm.py",
        overlays=("layernorm",),
        tests=("test_rms_norm", "test_rms_norm_weightless"),
        at_most={"num_tokens": 83, "hidden_size": 769},
        operators=("npu_rms_norm", "npu_add_rms_norm"),
        passes=108,
        on_operators=108,
        left_out="tests of vLLM's C kernels and of their fusion with fp8; more than 83 tokens",
    ),
    UpstreamFile(
        path="kernels/ir/test_layernorm.py",
        overlays=("layernorm",),
        # Of each provider; stock vLLM has none for the CPU beside its native one.
        tests=("test_impls",),
        at_most={"n_tokens": 8, "hidden_size": 4096},
        unskip=True,
        operators=("npu_rms_norm", "npu_add_rms_norm"),
        passes=48,
        on_operators=48,
        left_out="tests that are not of a provider; more than 8 tokens",
    ),
    UpstreamFile(
        path="kernels/core/test_activation.py",
        overlays=("activation",),
        tests=("test_act_and_mul", "test_silu_and_mul_with_clamp", "test_activation"),
        at_most={"num_tokens": 83, "d": 512},
        operators=("npu_swiglu", "npu_clipped_swiglu", "npu_geglu", "npu_gelu", "npu_fast_gelu"),
        passes=120,
        on_operators=96,
        left_out="layers that no overlay serves; more than 83 tokens",
    ),
    UpstreamFile(
        path="kernels/core/test_cpu_activation.py",
        overlays=("activation",),
        operators=("npu_swiglu", "npu_geglu", "npu_gelu", "npu_fast_gelu"),
        passes=50,
        on_operators=48,
    ),
    UpstreamFile(
        path="model_executor/layers/test_activation.py",
        overlays=("activation",),
        operators=("npu_swiglu", "npu_geglu"),
        passes=3,
        on_operators=3,
    ),
    UpstreamFile(
        path="kernels/core/test_pos_encoding.py",
        overlays=("rotary",),
        at_most={"seq_len": 11},
        # vLLM's own CPU kernel writes beyond the head in bfloat16 where its pairs are no multiple of 8.
        without={"head_size": (120,)},
        operators=("npu_mrope", "npu_rotary_mul"),
        passes=145,
        on_operators=144,
        left_out="heads of 120 elements, for which vLLM's own CPU kernel writes beyond the head; more than 11 tokens",
    ),
    UpstreamFile(
        path="kernels/moe/test_routing.py",
        overlays=("moe",),
        tests=("test_fused_topk", "test_fused_topk_bias", "test_grouped_topk", "test_custom"),
        at_most={"m": 32},
        makes_tensors=True,
        operators=("npu_moe_gating_top_k", "npu_moe_gating_top_k_softmax_v2"),
        # Stock vLLM's router of the CPU leaves a bias without groups out, and fails those.
        passes=240,
        on_operators=204,
        left_out="what vLLM does with the experts that are chosen; more than 32 tokens",
    ),
    UpstreamFile(
        path="kernels/core/test_vocab_parallel_embedding.py",
        overlays=("embedding",),
        tests=("test_embedding_optionally_reduces_output",),
        without={"use_fused": (True,)},
        unskip=True,
        makes_tensors=True,
        passes=2,
        left_out="a fused kernel for CUDA",
    ),
    UpstreamFile(path="model_executor/test_bailing_mrope.py", overlays=("rotary",), passes=3),
    UpstreamFile(path="model_executor/test_enabled_custom_ops.py", overlays=("layernorm", "activation"), passes=21),
    UpstreamFile(
        path="kernels/fla/test_fla_layernorm_guard.py",
        overlays=("layernorm",),
        tests=("test_rmsnorm_gated_3d_matches_flattened_2d",),
        operators=("npu_rms_norm", "npu_swiglu"),
        on_operators=1,
        left_out="a kernel in Triton, and vLLM's own `forward_native`",
    ),
    UpstreamFile(
        path="kernels/mamba/test_gdn_output_projection.py",
        overlays=("layernorm",),
        operators=("npu_rms_norm", "npu_swiglu"),
        on_operators=1,
    ),
    UpstreamFile(
        path="models/transformers/fusers/test_rms_norm.py",
        overlays=("layernorm",),
        operators=("npu_rms_norm", "npu_gemma_rms_norm"),
        passes=36,
        on_operators=6,
    ),
    UpstreamFile(
        path="model_executor/test_oink_integration.py",
        overlays=("layernorm",),
        left_out="what vLLM skips where there is no GPU",
    ),
    UpstreamFile(
        path="model_executor/test_gemma_hidden_act.py",
        overlays=("activation",),
        operators=("npu_geglu", "npu_swiglu"),
        passes=10,
        on_operators=6,
    ),
    UpstreamFile(
        path="models/kimi_k3/test_sequence_parallel.py",
        overlays=("activation",),
        tests=("test_sharded_sequence_parallel_mlp_matches_replicated",),
        operators=("npu_swiglu",),
        on_operators=1,
        left_out="tests that call no layer that an overlay serves",
    ),
    UpstreamFile(
        path="models/transformers/fusers/test_linear.py",
        overlays=("activation",),
        tests=("test_act_and_mul_derived_from_module", "test_unfusable_modules_are_not_fused"),
        passes=4,
        left_out="tests that call no layer that an overlay serves",
    ),
    UpstreamFile(
        path="models/transformers/test_layer_registry.py",
        overlays=("activation", "layernorm"),
        passes=2,
        left_out="tests that want a fixture of vLLM for its log",
    ),
    UpstreamFile(
        path="model_executor/test_k2_horizon_rope_fold.py",
        overlays=("rotary", "linear"),
        operators=("npu_mrope",),
        passes=21,
        on_operators=4,
        left_out="what vLLM skips where there is no GPU",
    ),
    UpstreamFile(
        path="kernels/moe/test_moe_layer.py",
        overlays=("moe", "activation"),
        tests=("test_moe_layer_no_parallel",),
        at_most={"m": 32},
        without={"quantization": ("fp8", "fp8_blocked", "modelopt_fp8", "modelopt_fp4")},
        makes_tensors=True,
        operators=(
            "npu_moe_gating_top_k_softmax_v2",
            "npu_moe_init_routing_v2",
            "npu_grouped_matmul",
            "npu_moe_token_unpermute",
        ),
        passes=40,
        on_operators=40,
        left_out="fp8 and fp4; several GPUs; more than 32 tokens",
    ),
    UpstreamFile(
        path="kernels/moe/test_grouped_topk.py",
        overlays=("moe",),
        tests=("test_kimi_grouped_topk_masks_padding_when_enabled",),
        unskip=True,
        makes_tensors=True,
        operators=("npu_moe_gating_top_k_softmax_v2",),
        passes=2,
        on_operators=1,
        left_out="a layer of which the test wants the method for CUDA, and a kernel for CUDA",
    ),
    UpstreamFile(
        path="compile/test_rotary_embedding_compile.py",
        overlays=("rotary",),
        unskip=True,
        operators=("npu_mrope",),
        on_operators=1,
    ),
    UpstreamFile(
        path="kernels/moe/test_routing_simulator.py",
        overlays=("moe",),
        tests=("test_routing_strategy_integration",),
        operators=("npu_moe_gating_top_k_softmax_v2",),
        on_operators=1,
        left_out="tests that call the simulator, not a layer",
    ),
    UpstreamFile(
        path="lora/test_layers.py",
        overlays=("embedding", "linear"),
        tests=("test_get_masked_input_and_mask", "test_vocab_parallel_embedding_indices", "test_embeddings"),
        at_most={"num_loras": 1, "vocab_size": 512},
        passes=11,
        left_out="linear layers, whose weights are not loaded here, which is when the overlay acts; several adapters",
    ),
    UpstreamFile(
        path="v1/attention/test_attention_backends.py",
        overlays=("attention",),
        tests=(
            "test_causal_backend_correctness",
            "test_sliding_window_backend_correctness",
            "test_non_causal_backend_correctness",
        ),
        # The number changes nothing but the name of the test.
        at_most={"tensor_parallel_size": 1},
        without={"kv_cache_dtype": ("fp8", "fp8_e4m3"), "batch_spec_name": ("large_decode", "large_prefill")},
        # vLLM's backend for the CPU packs what is in its cache, so that the cache of the tests is none for it.
        stock=False,
        operators=("npu_fused_infer_attention_score_v2.out", "npu_scatter_pa_kv_cache"),
        passes=15,
        on_operators=15,
        left_out="fp8 caches; other backends; encoders; two large batches, for time",
    ),
    UpstreamFile(
        path="v1/attention/test_mla_backends.py",
        overlays=("mla",),
        tests=("test_backend_correctness", "test_chunked_context_backend_correctness"),
        at_most={"tensor_parallel_size": 1, "qk_nope_head_dim": 128},
        without={
            "kv_cache_dtype": ("fp8", "fp8_e4m3"),
            # Scales of such caches.
            "q_scale": (2.0,),
            "batch_spec_name": ("large_decode", "large_prefill"),
        },
        operators=(
            "npu_fused_infer_attention_score",
            "npu_scatter_pa_kv_cache",
            "npu_gather_pa_kv_cache",
            "npu_attention_update",
        ),
        passes=11,
        on_operators=11,
        left_out="fp8 caches; other backends; GLM's heads, too large for torch_npu; two large batches, for time",
    ),
    UpstreamFile(
        path="v1/attention/test_sparse_mla_kv_cache_layout.py",
        overlays=("mla",),
        passes=18,
        left_out="what vLLM skips where there is no GPU",
    ),
    UpstreamFile(path="models/test_dspark_mla.py", overlays=("mla",), passes=29),
    UpstreamFile(path="test_attention_backend_registry.py", overlays=("attention", "mla"), passes=15),
    UpstreamFile(
        path="kernels/attention/test_attention_selector.py",
        overlays=("attention", "mla"),
        passes=39,
        left_out="what vLLM skips where there is no GPU",
    ),
    UpstreamFile(path="platforms/test_cpu.py", overlays=("attention", "mla"), passes=15),
)
