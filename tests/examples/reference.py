"""The architecture of examples/custom_model in plain PyTorch, written from its formulas: no vLLM, no KV cache.

One sequence at a time, one attention matrix, one float32 (or float64) tensor per name of the checkpoint.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor


class Reference:
    """The model of one checkpoint folder."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float64) -> None:
        self.config = json.loads((folder / "config.json").read_text())
        self.weights = {name: weight.to(dtype) for name, weight in load_file(folder / "model.safetensors").items()}
        self.dtype = dtype

    def logprobs(self, tokens: list[int]) -> Tensor:
        """Return log-probabilities of the next token, [len(tokens), vocab_size]."""
        table = self.weights["model.embed_tokens.weight"]
        x = table[torch.tensor(tokens)]
        for layer in range(self.config["num_hidden_layers"]):
            x = self._layer(f"model.layers.{layer}.", x)
        x = self._norm(x, self.weights["model.norm.weight"])
        output = table if self.config["tie_word_embeddings"] else self.weights["lm_head.weight"]
        return torch.log_softmax(x @ output.T, dim=-1)

    def greedy(self, prompt: list[int], count: int) -> tuple[list[int], list[float]]:
        """Return the `count` likeliest next tokens, one after the other, and their log-probabilities."""
        tokens, chosen = list(prompt), []
        for _ in range(count):
            last = self.logprobs(tokens)[-1]
            tokens.append(int(last.argmax()))
            chosen.append(float(last.max()))
        return tokens[len(prompt) :], chosen

    def _layer(self, prefix: str, x: Tensor) -> Tensor:
        n = self._norm(x, self.weights[f"{prefix}norm.weight"])
        return x + self._attention(f"{prefix}self_attn.", n) + self._mlp(f"{prefix}mlp.", n)

    def _attention(self, prefix: str, n: Tensor) -> Tensor:
        heads, kv_heads = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        width, length = self.config["head_dim"], n.shape[0]

        def project(name: str, count: int) -> Tensor:
            return (n @ self.weights[f"{prefix}{name}.weight"].T).view(length, count, width).transpose(0, 1)

        q = self._rotate(self._norm(project("q_proj", heads), self.weights[f"{prefix}q_norm.weight"]))
        k = self._rotate(self._norm(project("k_proj", kv_heads), self.weights[f"{prefix}k_norm.weight"]))
        v = project("v_proj", kv_heads)
        k, v = (part.repeat_interleave(heads // kv_heads, dim=0) for part in (k, v))
        scores = q @ k.transpose(1, 2) / width**0.5
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        mixed = torch.softmax(scores.masked_fill(future, float("-inf")), dim=-1) @ v
        gate = n @ self.weights[f"{prefix}head_gate.weight"].T + self.weights[f"{prefix}head_gate.bias"]
        gated = mixed.transpose(0, 1) * torch.sigmoid(gate)[:, :, None]
        return gated.reshape(length, heads * width) @ self.weights[f"{prefix}o_proj.weight"].T

    def _mlp(self, prefix: str, n: Tensor) -> Tensor:
        gate, up, down = (self.weights[f"{prefix}{name}_proj.weight"] for name in ("gate", "up", "down"))
        a = n @ gate.T
        return (a * torch.sigmoid(a) * (n @ up.T)) @ down.T

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + self.config["rms_norm_eps"]) * weight

    def _rotate(self, x: Tensor) -> Tensor:
        """Rotate the first part of each head by position; x is [heads, length, head_dim]."""
        rope = self.config["rope_parameters"]
        size = int(x.shape[-1] * rope["partial_rotary_factor"])
        frequencies = rope["rope_theta"] ** (-torch.arange(0, size, 2, dtype=self.dtype) / size)
        angles = torch.arange(x.shape[1], dtype=self.dtype)[:, None] * frequencies
        cos, sin = angles.cos(), angles.sin()
        first, second, rest = x.split([size // 2, size // 2, x.shape[-1] - size], dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], dim=-1)
