"""The tiny models in transformers' own implementations, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

TEXT = (
    "Once upon a time there was a river that wanted to see the mountains, so it asked the clouds to carry it upwards. "
    "Each layer adds something to the hidden state: first the heads share what they know, and the numbers are counted."
)
"""Longer than the windows of the tiny models and than what their rotary embeddings are scaled from."""


def load(path: Path, dtype: torch.dtype = torch.float32) -> Any:
    """Return the model in the folder `path`, computing in `dtype`."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers.AutoModelForCausalLM.from_pretrained(
        path, dtype=dtype, attn_implementation="eager", local_files_only=True
    ).eval()


def encode(path: Path, text: str) -> list[int]:
    """Return the tokens of `text`."""
    return list(transformers.AutoTokenizer.from_pretrained(path, local_files_only=True).encode(text))


def logprobs(model: Any, tokens: list[int]) -> torch.Tensor:
    """Return what follows each of `tokens`: log probabilities in float32, (tokens, vocabulary)."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
    return logits.float().log_softmax(-1)


def largest_difference(one: torch.Tensor, other: torch.Tensor, *, likeliest: int = 20) -> float:
    """Return the largest difference in nats among the tokens that `one` finds likeliest, at any position."""
    chosen = one.topk(likeliest, dim=-1).indices
    return float((one.gather(-1, chosen) - other.gather(-1, chosen)).abs().max())
