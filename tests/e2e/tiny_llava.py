"""A tiny LLaVA on disk: the tiny Llama of the other tests behind a random CLIP, with a processor for images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ascend_overlay.commands.demo import tiny

IMAGE_TOKEN = tiny.PAD
SIDE, PATCH = 32, 8
"""Pixels of an image and of a patch of it."""
_HIDDEN, _LAYERS = 64, 3


def make_llava(path: Path, **config: Any) -> Path:
    """Write it into the folder `path`, which is returned."""
    tiny.make_llama3(path)
    text = json.loads((path / "config.json").read_text())
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": _HIDDEN,
        "intermediate_size": 2 * _HIDDEN,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": PATCH,
        "projection_dim": _HIDDEN,
    }
    settings = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "text_config": text,
        "vision_config": vision,
        "image_token_index": IMAGE_TOKEN,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "torch_dtype": "bfloat16",
    }
    (path / "config.json").write_text(json.dumps(settings | config))
    processor = {"processor_class": "LlavaProcessor", "image_token": "<pad>", "patch_size": PATCH}
    (path / "processor_config.json").write_text(
        json.dumps(processor | {"vision_feature_select_strategy": "default", "num_additional_image_tokens": 1})
    )
    images = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": SIDE},
        "crop_size": {"height": SIDE, "width": SIDE},
    }
    (path / "preprocessor_config.json").write_text(json.dumps(images))
    llama = load_file(path / "model.safetensors")
    save_file(
        {f"language_model.{name}": tensor for name, tensor in llama.items()} | _vision(), path / "model.safetensors"
    )
    return path


def _vision() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    hidden, text = _HIDDEN, 128
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.class_embedding": (hidden,),
        "embeddings.patch_embedding.weight": (hidden, 3, PATCH, PATCH),
        "embeddings.position_embedding.weight": ((SIDE // PATCH) ** 2 + 1, hidden),
    }
    norms = ["pre_layrnorm", "post_layernorm"]
    for layer in range(_LAYERS):
        prefix = f"encoder.layers.{layer}"
        norms += [f"{prefix}.layer_norm1", f"{prefix}.layer_norm2"]
        linear = {f"self_attn.{name}_proj": (hidden, hidden) for name in ("q", "k", "v", "out")}
        linear |= {"mlp.fc1": (2 * hidden, hidden), "mlp.fc2": (hidden, 2 * hidden)}
        for name, shape in linear.items():
            shapes |= {f"{prefix}.{name}.weight": shape, f"{prefix}.{name}.bias": shape[:1]}
    shapes = {f"vision_tower.vision_model.{name}": shape for name, shape in shapes.items()}
    for name, into in (("linear_1", hidden), ("linear_2", text)):
        shapes |= {f"multi_modal_projector.{name}.weight": (text, into), f"multi_modal_projector.{name}.bias": (text,)}

    def drawn(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=random) * (shape[-1] if len(shape) == 2 else 50) ** -0.5

    found = {name: drawn(shape) for name, shape in shapes.items()}
    for name in norms:
        found |= {f"vision_tower.vision_model.{name}.weight": torch.ones(hidden)}
        found |= {f"vision_tower.vision_model.{name}.bias": torch.zeros(hidden)}
    return {name: tensor.to(torch.bfloat16) for name, tensor in found.items()}
