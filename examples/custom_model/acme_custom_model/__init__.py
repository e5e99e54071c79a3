"""CustomModelForCausalLM: a new architecture for vLLM, brought by a plugin of ascend_overlay.

This file imports nothing, because every process of vLLM imports it to reach `plugin`.
"""
