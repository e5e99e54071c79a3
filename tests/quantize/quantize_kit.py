"""Models to quantize, made of tensors, and what the quantizer is watched with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ascend_overlay.commands.quantize.run import Silent

CONFIG = {"model_type": "test", "num_hidden_layers": 2, "torch_dtype": "bfloat16"}


def llama(dtype: torch.dtype = torch.bfloat16, *, bias: bool = False) -> dict[str, Tensor]:
    """Return the tensors of a Llama of two tiny layers."""
    random = torch.Generator().manual_seed(0)
    hidden = 16
    shapes = {"self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (8, hidden), "self_attn.v_proj": (8, hidden)}
    shapes |= {"self_attn.o_proj": (hidden, hidden), "mlp.gate_proj": (24, hidden), "mlp.up_proj": (24, hidden)}
    shapes |= {"mlp.down_proj": (hidden, 24)}
    found = {"model.embed_tokens.weight": (32, hidden), "model.norm.weight": (hidden,), "lm_head.weight": (32, hidden)}
    for layer in range(2):
        found[f"model.layers.{layer}.input_layernorm.weight"] = (hidden,)
        for name, shape in shapes.items():
            found[f"model.layers.{layer}.{name}.weight"] = shape
            if bias and name.startswith("self_attn") and name != "self_attn.o_proj":
                found[f"model.layers.{layer}.{name}.bias"] = shape[:1]
    return {name: torch.randn(shape, generator=random).to(dtype) for name, shape in found.items()}


def moe() -> dict[str, Tensor]:
    """Return the tensors of one layer with MLA, a router, three experts and a shared one, and of an MTP layer."""
    found = {"model.embed_tokens.weight": torch.randn(32, 16)}
    for layer in (0, 1):
        attention, mlp = f"model.layers.{layer}.self_attn", f"model.layers.{layer}.mlp"
        for name in ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"):
            found[f"{attention}.{name}.weight"] = torch.randn(16, 16)
        found[f"{mlp}.gate.weight"] = torch.randn(3, 16)
        for expert in ("experts.0", "experts.1", "experts.2", "shared_experts"):
            for name in ("gate_proj", "up_proj", "down_proj"):
                found[f"{mlp}.{expert}.{name}.weight"] = torch.randn(16, 16)
    return {name: tensor.to(torch.bfloat16) for name, tensor in found.items()}


def write(folder: Path, tensors: Mapping[str, Tensor], *, shards: int = 1, **config: Any) -> Path:
    """Write a model: config.json, a tokenizer, and safetensors files, with an index if there are several."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    (folder / "tokenizer.json").write_text("{}")
    if shards == 1:
        save_file(dict(tensors), folder / "model.safetensors")
        return folder
    places = {}
    for shard in range(shards):
        name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {key: tensors[key] for key in list(tensors)[shard::shards]}
        save_file(part, folder / name)
        places |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


def load(folder: Path) -> dict[str, Tensor]:
    """Return all tensors of a model, read by the safetensors library."""
    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, without the state, which knows the times of the model's files."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "ascend_overlay_quantize.json"}


class Interrupted(Silent):
    """Ends a run when a given number of tensors is done and one more is at hand."""

    def __init__(self, after: int) -> None:
        self.left = after

    def tensor(self, name: str, size: int) -> None:
        """Count down."""
        self.left -= bool(name)
        if self.left < 0:
            raise KeyboardInterrupt


class Counting(Silent):
    """Notes which files are written and which were there."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.ready: list[str] = []

    def shard(self, name: str, written: bool) -> None:
        """Note it."""
        (self.written if written else self.ready).append(name)
