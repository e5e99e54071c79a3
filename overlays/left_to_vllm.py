"""Layers that no overlay serves, and why: the reasons in docs/coverage.md."""

from __future__ import annotations

_ATEN = "made of PyTorch's own operators, which torch_npu implements"
_OTHER_DEVICE = "kernels of another device; not used on an NPU"
_NO_OPERATOR = "torch_npu has no operator for it; vLLM's PyTorch implementation runs"
_RECURRENT = "a recurrent state with kernels of its own: torch_npu 2.13 has operators for parts of it, no overlay yet"

_HOLDS_EXPERTS = "holds and loads the weights of experts; the overlay moe serves the method that computes with them"
_RUNS_EXPERTS = "runs router, experts and shared experts after each other; the overlay moe serves the first two"
_ENCODERS = "attention of encoders of images and sound: vLLM's PyTorch implementation runs; no overlay yet"

REASONS = {
    "vllm.model_executor.layers.linear:*": f"{_ATEN}; the overlay linear casts its weight's layout",
    "vllm.model_executor.layers.logits_processor:LogitsProcessor": _ATEN,
    "vllm.model_executor.layers.vocab_parallel_embedding:ParallelLMHead": _ATEN,
    "vllm.model_executor.layers.fused_moe.router.gate_linear:GateLinear": _ATEN,
    "vllm.model_executor.layers.fused_moe.router.grouped_topk_router:GroupedTopk": (
        "no model uses it; the overlay moe serves the routers"
    ),
    "vllm.model_executor.layers.fused_moe.fused_moe_modular_method:FusedMoEModularMethod": (
        "stands around the method of experts with LoRA, which the overlay moe leaves to vLLM"
    ),
    "vllm.model_executor.layers.fused_moe.routed_experts:RoutedExperts": _HOLDS_EXPERTS,
    "vllm.model_executor.models.dbrx:DbrxExperts": _HOLDS_EXPERTS,
    "vllm.model_executor.models.*:*RoutedExperts": _HOLDS_EXPERTS,
    "vllm.model_executor.layers.fused_moe.runner.*": _RUNS_EXPERTS,
    "vllm.model_executor.models.*:*MoERunner": _RUNS_EXPERTS,
    "vllm.model_executor.layers.attention.mm_encoder_attention:MMEncoderAttention": _ENCODERS,
    "vllm.model_executor.models.whisper:WhisperEncoderAttention": _ENCODERS,
    "vllm.model_executor.layers.attention.static_sink_attention:StaticSinkAttention": (
        "keys before the prompt that no request owns: the blocks of the overlay attention hold those of requests"
    ),
    "vllm.model_executor.layers.conv:*": _ATEN,
    "vllm.model_executor.layers.fusion.mm_input_norm:FusedMMInputNorm": _ATEN,
    "vllm.model_executor.layers.activation:FatreluAndMul": _ATEN,
    "vllm.model_executor.layers.activation:GeluAndMulSparse": _NO_OPERATOR,
    "vllm.ir.ops:gelu_and_mul_sparse": _NO_OPERATOR,
    "vllm.model_executor.layers.activation:MulAndSilu": (
        "npu_swiglu activates the first half, this the second: a copy to exchange them costs more than it saves"
    ),
    "vllm.model_executor.layers.activation:ReLUSquaredActivation": _ATEN,
    "vllm.model_executor.layers.activation:SituAndMul": _NO_OPERATOR,
    "vllm.model_executor.layers.activation:SwigluStepAndMul": (
        "npu_clipped_swiglu clips before the activation, this after it; vLLM's PyTorch implementation runs"
    ),
    "vllm.model_executor.layers.activation:XIELU": _NO_OPERATOR,
    "vllm.model_executor.layers.layernorm:LayerNorm": _ATEN,
    "vllm.model_executor.layers.rotary_embedding.base:RotaryEmbeddingBase": "has no forward method",
    "vllm.model_executor.layers.rotary_embedding.deepseek_scaling_rope:DeepseekV4ScalingRotaryEmbedding": (
        "turns the last elements by angles in float32, either way round; for sparse attention, with no overlay yet"
    ),
    "vllm.model_executor.layers.rotary_embedding.dual_chunk_rope:DualChunkRotaryEmbedding": (
        "makes its tables on a CUDA device, so it cannot be built on any other"
    ),
    "vllm.model_executor.layers.rotary_embedding.fope:FourierRotaryEmbedding": (
        "angles of each head, learned; vLLM's PyTorch implementation runs"
    ),
    "vllm.model_executor.layers.minimax_rms_norm.*": f"{_NO_OPERATOR}: its mean runs over all ranks",
    "vllm.model_executor.layers.mhc:*": f"{_NO_OPERATOR} (hyper-connections)",
    "vllm.model_executor.layers.quantization.input_quant_fp8:QuantFP8": "fp8: not one of the overlays' schemes",
    "vllm.model_executor.layers.attention.mla_attention:_DecodeConcatQuantFP8": "fp8: not one of the overlays' schemes",
    "vllm.model_executor.layers.hpc.*": _OTHER_DEVICE,
    "vllm.model_executor.layers.rocm_*": _OTHER_DEVICE,
    "vllm.model_executor.layers.sparse_attn_indexer:SparseAttnIndexer": (
        "sparse attention: needs npu_lightning_indexer and npu_sparse_flash_attention, no overlay yet"
    ),
    "vllm.model_executor.layers.mamba.*": _RECURRENT,
    "vllm.model_executor.models.bailing_moe_v3:BailingMoeV3KimiDeltaAttention": _RECURRENT,
    "vllm.models.*:*LinearAttention": _RECURRENT,
    "vllm.model_executor.models.deepencoder*": "the encoder of one model; vLLM's own runs",
    "vllm.model_executor.models.nemotron:NemotronLayerNorm1P": _ATEN,
    "vllm.models.*.amd.*": _OTHER_DEVICE,
    "vllm.models.*.nvidia.*": _OTHER_DEVICE,
    "vllm.third_party.*": _NO_OPERATOR,
}
