"""A plugin of vLLM's, in the way that the older guides tell."""


def register_model() -> None:
    from vllm import ModelRegistry

    ModelRegistry.register_model("CustomModelForCausalLM", "older_api:CustomModelForCausalLM")
    ModelRegistry.register_model("CustomDeepseekV2ForCausalLM", "older_api:CustomDeepseekV2ForCausalLM")
