"""vLLM's rotary embeddings on npu_mrope and npu_rotary_mul: a module a class.

vLLM picks one of three methods when a layer is built: `forward_native` where custom operators are off, as under
Inductor, `forward_cpu` on the CPU platform, `forward_oot` on an NPU's. All return new tensors; vLLM's own CPU kernel
rotates in place, but no caller can rely on that, since `forward_native` does not.

Each module imports the one module of vLLM that it is loaded for: they are loaded while vLLM imports its classes one
after the other.
"""
