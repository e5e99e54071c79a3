"""Multi-head latent attention on torch_npu's operators.

choice.py says which models are served, and patches the CPU platform's choice. backend.py has the backend: a token of
decode goes through npu_fused_infer_attention_score over the paged latent cache (impl.py), a prompt through the same
operator over keys and values that are made of the latents (prompt.py), in pieces that npu_attention_update puts
together where a part of the prompt is cached. cache.py lays the cache out. layer.py and wrapper.py are the layers of
vLLM around it: the absorbed output projection, and norm, rotation and cache write in one operator.
"""
