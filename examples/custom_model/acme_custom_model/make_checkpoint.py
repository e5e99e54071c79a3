"""Write a tiny checkpoint of the architecture: python -m acme_custom_model.make_checkpoint FOLDER

The weights are random but real: config.json, model.safetensors and a tokenizer of single bytes, in the layout of a
Hugging Face checkpoint.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from acme_custom_model.config import CustomConfig

SPECIAL_TOKENS = ("<s>", "</s>")
EMBEDDING_DEVIATION = 0.05
"""Small beside what the layers add: with tied weights the model would otherwise repeat its last token for ever."""


def tiny_config(*, tied: bool = True) -> CustomConfig:
    """Return a configuration small enough for a laptop and a test."""
    return CustomConfig(
        vocab_size=256 + len(SPECIAL_TOKENS),
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        architectures=["CustomModelForCausalLM"],
        bos_token_id=256,
        eos_token_id=257,
        dtype="float32",
    )


def random_weights(config: CustomConfig, seed: int) -> dict[str, torch.Tensor]:
    """Return float32 tensors under the names that a checkpoint has."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, mean: float = 0.0, deviation: float | None = None) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * (deviation or shape[-1] ** -0.5) + mean

    width, heads, kv_heads, head = (
        config.hidden_size,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.head_dim,
    )
    weights = {
        "model.embed_tokens.weight": normal(config.vocab_size, width, deviation=EMBEDDING_DEVIATION),
        "model.norm.weight": normal(width, mean=3.0, deviation=0.3),
    }
    if not config.tie_word_embeddings:
        weights["lm_head.weight"] = normal(config.vocab_size, width, deviation=EMBEDDING_DEVIATION)
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}"
        weights |= {
            f"{prefix}.norm.weight": normal(width, mean=1.0, deviation=0.1),
            f"{prefix}.self_attn.q_proj.weight": normal(heads * head, width),
            f"{prefix}.self_attn.k_proj.weight": normal(kv_heads * head, width),
            f"{prefix}.self_attn.v_proj.weight": normal(kv_heads * head, width),
            f"{prefix}.self_attn.o_proj.weight": normal(width, heads * head),
            f"{prefix}.self_attn.q_norm.weight": normal(head, mean=1.5, deviation=0.2),
            f"{prefix}.self_attn.k_norm.weight": normal(head, mean=1.5, deviation=0.2),
            f"{prefix}.self_attn.head_gate.weight": normal(heads, width),
            f"{prefix}.self_attn.head_gate.bias": normal(heads, deviation=0.5),
            f"{prefix}.mlp.gate_proj.weight": normal(config.intermediate_size, width),
            f"{prefix}.mlp.up_proj.weight": normal(config.intermediate_size, width),
            f"{prefix}.mlp.down_proj.weight": normal(width, config.intermediate_size),
        }
    return weights


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer whose tokens are the 256 bytes and the special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate([*letters, *SPECIAL_TOKENS])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=SPECIAL_TOKENS[0], eos_token=SPECIAL_TOKENS[1], model_max_length=512
    )


def make_checkpoint(folder: Path, *, tied: bool = True, seed: int = 0) -> None:
    """Write the checkpoint to `folder`, which is made where it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    config = tiny_config(tied=tied)
    config.save_pretrained(folder)
    save_file(random_weights(config, seed), folder / "model.safetensors", metadata={"format": "pt"})
    byte_tokenizer().save_pretrained(folder)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m acme_custom_model.make_checkpoint", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--untied", action="store_true", help="give the output projection weights of its own")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    make_checkpoint(arguments.folder, tied=not arguments.untied, seed=arguments.seed)
    print(f"wrote {arguments.folder}")


if __name__ == "__main__":
    main()
