"""The tokenizer of the tiny models: byte-level BPE, trained on a few sentences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

VOCABULARY = 512
BOS, EOS, PAD = 0, 1, 2
BYTES = 256
SPECIAL = {"<bos>": BOS, "<eos>": EOS, "<pad>": PAD}

# What the tokenizer learns its merges from; only has to hold enough different words to fill the vocabulary.
_TEXT = """
The quick brown fox jumps over the lazy dog while seven wizards quietly brew jam from figs and mixed vegetables.
A language model reads a prompt, looks at every token with attention, and writes the next token, then the next one.
Each layer adds something to the hidden state: first the heads share what they know, then the experts are chosen.
Memory is slow and arithmetic is fast, so kernels are fused, weights are packed, and caches keep what was computed.
In the morning the harbour was full of small white boats, and the market sold bread, olives, oranges and honey.
Once upon a time there was a river that wanted to see the mountains, so it asked the clouds to carry it upwards.
How many numbers are there between zero and one hundred? Count them: one, two, three, four, five, six, seven, eight.
""".strip()

_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def write_tokenizer(path: Path, config: dict[str, Any]) -> None:
    """Train the tokenizer and write it into the folder `path`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config["vocab_size"],
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_TEXT], trainer)
    tokenizer.save(str(path / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "model_max_length": config["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
        "chat_template": _CHAT_TEMPLATE,
    }
    (path / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
