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
        operators: operators of torch_npu that must have run under the overlays.
        passes: how many tests pass under the overlays, at least, so that nobody takes an empty run for a good one.
    """

    path: str
    overlays: tuple[str, ...]
    tests: tuple[str, ...] = ()
    at_most: dict[str, int] = field(default_factory=dict)
    without: dict[str, tuple[object, ...]] = field(default_factory=dict)
    unskip: bool = False
    makes_tensors: bool = False
    operators: tuple[str, ...] = ()
    passes: int = 1


FILES = (
    UpstreamFile(
        path="kernels/core/test_layernorm.py",
        overlays=("layernorm",),
        tests=("test_rms_norm", "test_rms_norm_weightless"),
        at_most={"num_tokens": 83, "hidden_size": 769},
        operators=("npu_rms_norm", "npu_add_rms_norm"),
        passes=108,
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
    ),
    UpstreamFile(
        path="kernels/core/test_activation.py",
        overlays=("activation",),
        tests=("test_act_and_mul", "test_silu_and_mul_with_clamp", "test_activation"),
        at_most={"num_tokens": 83, "d": 512},
        operators=("npu_swiglu", "npu_clipped_swiglu", "npu_geglu", "npu_gelu", "npu_fast_gelu"),
        passes=120,
    ),
    UpstreamFile(
        path="kernels/core/test_cpu_activation.py",
        overlays=("activation",),
        operators=("npu_swiglu", "npu_geglu", "npu_gelu", "npu_fast_gelu"),
        passes=50,
    ),
    UpstreamFile(
        path="model_executor/layers/test_activation.py",
        overlays=("activation",),
        operators=("npu_swiglu", "npu_geglu"),
        passes=3,
    ),
    UpstreamFile(
        path="kernels/core/test_pos_encoding.py",
        overlays=("rotary",),
        at_most={"seq_len": 11},
        # vLLM's own CPU kernel writes beyond the head in bfloat16 where its pairs are no multiple of 8.
        without={"head_size": (120,)},
        operators=("npu_mrope", "npu_rotary_mul"),
        passes=145,
    ),
    UpstreamFile(
        path="kernels/moe/test_routing.py",
        overlays=("moe",),
        tests=("test_fused_topk", "test_fused_topk_bias", "test_grouped_topk", "test_custom"),
        at_most={"m": 32},
        makes_tensors=True,
        operators=("npu_moe_gating_top_k", "npu_moe_gating_top_k_softmax"),
        # Stock vLLM's router of the CPU leaves a bias without groups out, and fails those.
        passes=240,
    ),
    UpstreamFile(
        path="kernels/core/test_vocab_parallel_embedding.py",
        overlays=("embedding",),
        tests=("test_embedding_optionally_reduces_output",),
        # The other is a kernel for CUDA.
        without={"use_fused": (True,)},
        unskip=True,
        makes_tensors=True,
        passes=2,
    ),
    UpstreamFile(path="model_executor/test_bailing_mrope.py", overlays=("rotary",), passes=3),
    UpstreamFile(path="model_executor/test_enabled_custom_ops.py", overlays=("layernorm", "activation"), passes=21),
)
