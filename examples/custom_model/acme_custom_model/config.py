"""The configuration of the architecture, as it is in config.json."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig


class CustomConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """Configuration of CustomModelForCausalLM.

    Args:
        vocab_size: number of tokens.
        hidden_size: width of the residual stream.
        intermediate_size: width inside the MLP.
        num_hidden_layers: number of decoder layers.
        num_attention_heads: number of query heads.
        num_key_value_heads: number of key and value heads; divides the number of query heads.
        head_dim: width of a head; None: hidden_size // num_attention_heads.
        max_position_embeddings: longest sequence, in tokens.
        rms_norm_eps: epsilon of every RMSNorm.
        rope_parameters: rotary embedding as transformers 5 writes it; None: base 10000 on half of each head.
        tie_word_embeddings: the output projection is the embedding table.
    """

    model_type = "acme_custom"

    def __init__(
        self,
        vocab_size: int = 32000,
        hidden_size: int = 2048,
        intermediate_size: int = 5632,
        num_hidden_layers: int = 24,
        num_attention_heads: int = 16,
        num_key_value_heads: int = 4,
        head_dim: int | None = None,
        max_position_embeddings: int = 4096,
        rms_norm_eps: float = 1e-6,
        rope_parameters: dict[str, Any] | None = None,
        tie_word_embeddings: bool = True,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads
        self.head_dim = head_dim or hidden_size // num_attention_heads
        self.max_position_embeddings = max_position_embeddings
        self.rms_norm_eps = rms_norm_eps
        self.rope_parameters = rope_parameters or {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
        }
        self.tie_word_embeddings = tie_word_embeddings
        super().__init__(**kwargs)
