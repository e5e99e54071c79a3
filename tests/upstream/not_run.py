"""Which of vLLM's own test files about layers that an overlay serves are not run, and why."""

from __future__ import annotations

from collections.abc import Iterator

BY_REASON: dict[str, tuple[str, ...]] = {
    "tests kernels for CUDA, ROCm or XPU, or in Triton, none of which is there on a CPU": (
        "kernels/attention/test_attention.py",
        "kernels/attention/test_rocm_aiter_fa.py",
        "kernels/core/test_fused_allreduce_gemma_rms_norm.py",
        "kernels/core/test_fused_qk_norm_rope.py",
        "kernels/core/test_fused_quant_layernorm.py",
        "kernels/core/test_rotary_embedding.py",
        "kernels/core/test_rotary_embedding_mla_cache_fused.py",
        "kernels/helion/test_fused_qk_norm_rope.py",
        "kernels/mhc/test_mhc_kernels.py",
        "kernels/moe/test_block_fp8.py",
        "kernels/moe/test_block_int8.py",
        "kernels/moe/test_cutedsl_moe.py",
        "kernels/moe/test_deepep_moe.py",
        "kernels/moe/test_flashinfer.py",
        "kernels/moe/test_flashinfer_cutedsl_nvfp4_moe.py",
        "kernels/moe/test_fused_topk.py",
        "kernels/moe/test_moe.py",
        "kernels/moe/test_rocm_aiter_moe.py",
        "kernels/moe/test_topk_softplus_sqrt.py",
        "kernels/moe/test_triton_moe_ptpc_fp8.py",
        "kernels/moe/test_trtllm_nvfp4_moe.py",
        "kernels/quantization/test_int8_kernel.py",
        "kernels/quantization/test_silu_mul_nvfp4_quant.py",
        "kernels/test_fused_qk_norm_rope_gate.py",
        "kernels/test_fused_quant_activation.py",
        "model_executor/test_qwen_vl_triton_warmup.py",
        "models/kimi_k3/test_amd_latent_moe_runner.py",
        "models/qwen4_exp/test_qsa_amd.py",
        "models/qwen4_exp/test_qsa_prepare.py",
        "models/qwen4_exp/test_qsa_prepare_amd.py",
        "models/qwen4_exp/test_qsa_reference.py",
        "rocm/test_moe_padding.py",
        "v1/determinism/test_xpu_batch_invariant_ut.py",
    ),
    "tests vLLM's own kernels for the CPU, which no overlay calls": (
        "kernels/attention/test_amx_mla.py",
        "kernels/attention/test_cpu_attn.py",
        "kernels/attention/test_mla_decode_cpu.py",
        "kernels/moe/test_cpu_fused_moe.py",
        "kernels/moe/test_cpu_int4_moe.py",
        "kernels/moe/test_cpu_quant_fused_moe.py",
        "model_executor/test_cpu_unquantized_gemm_dispatch.py",
        "v1/attention/test_cpu_mla_backend.py",
    ),
    "looks for vLLM's own operators in a graph, in whose place those of torch_npu stand": (
        "compile/passes/distributed/test_fusion_all_reduce.py",
        "compile/passes/test_functionalization.py",
        "compile/passes/test_fuse_act_padding.py",
        "compile/passes/test_fuse_mla_dual_rms_norm.py",
        "compile/passes/test_fusion.py",
        "compile/passes/test_fusion_attn.py",
        "compile/passes/test_mla_attn_quant_fusion.py",
        "compile/passes/test_mla_rope_kvcache_cat_fusion.py",
        "compile/passes/test_qk_norm_rope_fusion.py",
        "compile/passes/test_rocm_aiter_qk_norm_rope_kvcache_fusion.py",
        "compile/passes/test_rope_kvcache_fusion.py",
        "compile/passes/test_scatter_split_replace.py",
        "compile/passes/test_silu_mul_quant_fusion.py",
        "compile/passes/test_silu_mul_quant_manual_fusion.py",
    ),
    "is about another backend of attention": (
        "kernels/test_flex_attention.py",
        "v1/attention/test_mm_prefix.py",
    ),
    "is about a layer that is left to vLLM (docs/coverage.md)": (
        "kernels/attention/test_mha_attn.py",
        "v1/sample/test_head_dtype.py",
    ),
    "is about another quantization, beside which layers that an overlay serves are only named": (
        "quantization/test_auto_awq.py",
        "quantization/test_auto_gptq.py",
        "quantization/test_auto_round.py",
        "quantization/test_compressed_tensors.py",
        "quantization/test_fp8.py",
        "quantization/test_modelopt.py",
        "quantization/test_online.py",
        "quantization/test_online_mxfp4.py",
        "quantization/test_online_shared_expert_fusion.py",
        "quantization/test_quark.py",
        "quantization/test_torchao.py",
        "quantization/test_turboquant.py",
    ),
    "runs a model whose weights have to be downloaded": (
        "models/multimodal/pooling/test_colqwen3_5.py",
        "models/quantization/test_gptq_marlin.py",
        "models/transformers/test_backend.py",
        "quantization/test_lm_head.py",
        "quantization/test_register_quantization_config.py",
    ),
    "wants several GPUs": (
        "distributed/test_eplb_fused_moe_layer.py",
        "distributed/test_eplb_fused_moe_layer_dep_nvfp4.py",
    ),
    "makes vLLM's class past its constructor, or one of its own, in the place of which no overlay's comes": (
        "kernels/moe/test_moe_weight_loading_padded.py",
        "model_executor/model_loader/test_registry.py",
        "model_executor/model_loader/test_reload.py",
        "v1/spec_decode/test_lilicorr.py",
    ),
    "makes attention layers without a model, or a runner for GPUs, which fails in stock vLLM on a CPU, too": (
        "v1/worker/test_gpu_model_runner.py",
        "v1/worker/test_gpu_model_runner_prefill_tail_classification.py",
        "v1/worker/test_utils.py",
    ),
    "asks which of vLLM's own methods calls which": ("kernels/core/test_apply_rotary_emb.py",),
    "wants queries and keys rotated in place, as on CUDA; vLLM's method for the CPU does not do that, either": (
        "kernels/core/test_mrope.py",
    ),
    "is skipped by vLLM with PyTorch 2.10 and later, and reads what the layer no longer has": (
        "kernels/moe/test_shared_fused_moe_routed_transform.py",
    ),
    "is about a router that calls a kernel for CUDA": ("kernels/moe/test_zero_expert_moe.py",),
    "installs a platform that vLLM has for its tests": ("plugins_tests/test_platform_plugins.py",),
}


def _by_path() -> Iterator[tuple[str, str]]:
    for reason, paths in BY_REASON.items():
        for path in paths:
            yield path, reason


NOT_RUN: dict[str, str] = dict(_by_path())
"""Path below vLLM's folder tests -> why the file is not run."""
