"""vLLM's routers on npu_moe_gating_top_k and npu_moe_gating_top_k_softmax_v2: a module for each class of vLLM.

Each is loaded right after its target, in the middle of vLLM's own imports, so none may import the target of another.
"""
