"""Tiny models on disk: real safetensors, a real tokenizer, no download. For the demo, the tests and the benchmarks.

Writing them needs numpy and tokenizers, which vLLM brings along, and imports neither vLLM nor torch. Names of weights
and entries of config.json are those of the published models, so vLLM and transformers both load them.

The weights are random but arranged so that two correct implementations agree and a wrong one shows:

- The output layer leans towards one successor of nearly every token, since a purely random model has exact ties
  between its likeliest tokens.
- Every token brings its experts along in coordinates of the hidden state that no layer writes to, since a routing that
  is close to a tie turns the last bit of a rounding into another expert.
- What the layers add is of the same size as the embedding.
- Sizes in tokens are small: sliding windows of 16, rotary embeddings scaled from 64 or 512 positions on.

`tests/zoo/test_tiny_mistakes.py` measures it for every family: what correct rounding to bfloat16 does to the log
probabilities, and what deliberate mistakes do to them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ascend_overlay.commands.demo.tiny.deepseek import make_deepseek_v2, make_deepseek_v3
from ascend_overlay.commands.demo.tiny.gemma import make_gemma2, make_gemma3
from ascend_overlay.commands.demo.tiny.llama import make_llama, make_llama3
from ascend_overlay.commands.demo.tiny.qwen import make_qwen3, make_qwen3_moe
from ascend_overlay.commands.demo.tiny.tokenizer import BOS, EOS, PAD, VOCABULARY

__all__ = [
    "BOS",
    "EOS",
    "FAMILIES",
    "PAD",
    "VOCABULARY",
    "make_deepseek_v2",
    "make_deepseek_v3",
    "make_gemma2",
    "make_gemma3",
    "make_llama",
    "make_llama3",
    "make_qwen3",
    "make_qwen3_moe",
]

FAMILIES: Mapping[str, Callable[..., Path]] = {
    "llama3": make_llama3,
    "qwen3": make_qwen3,
    "qwen3_moe": make_qwen3_moe,
    "gemma2": make_gemma2,
    "gemma3": make_gemma3,
    "deepseek_v2": make_deepseek_v2,
    "deepseek_v3": make_deepseek_v3,
}
"""One maker a family: `FAMILIES[name](path, seed=0)` writes its model."""
