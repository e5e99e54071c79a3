"""Writing a tiny model: its random tensors, in the safetensors format, with config.json and a tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ascend_overlay.commands.demo.tiny.tokenizer import BOS, EOS, PAD, VOCABULARY, write_tokenizer

Arrays = dict[str, Any]
"""Float32 numpy arrays by the name of the tensor."""

Arrange = Callable[[Arrays, Any, dict[str, Any]], None]
"""Called as arrange(arrays, random generator, config): changes the arrays, and adds those of the vocabulary."""


@dataclass(frozen=True)
class Weight:
    """One random tensor of a checkpoint.

    Attributes:
        name: its name in the checkpoint, as published models of this architecture use it.
        shape: its shape; a matrix is (out, in).
        scale: standard deviation of its elements.
        centre: mean of its elements; 1.0 for the weight of a norm.
        exact: whether it is kept in float32, not rounded to bfloat16.
    """

    name: str
    shape: tuple[int, ...]
    scale: float
    centre: float = 0.0
    exact: bool = False


def common() -> dict[str, Any]:
    """Return the entries of config.json that all tiny models have."""
    return {
        "vocab_size": VOCABULARY,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
        "tie_word_embeddings": False,
        "use_cache": True,
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
        "max_position_embeddings": 2048,
        "torch_dtype": "bfloat16",
    }


def matrix(name: str, out: int, into: int) -> Weight:
    """Return the weight of a linear layer that keeps the size of what goes through it."""
    return Weight(f"{name}.weight", (out, into), into**-0.5)


def norm(name: str, width: int, *, centre: float = 1.0) -> Weight:
    """Return the weight of a norm."""
    return Weight(f"{name}.weight", (width,), 0.1, centre=centre)


def mlp(prefix: str, hidden: int, inner: int) -> Iterable[Weight]:
    """Return the three matrices of a gated MLP."""
    yield matrix(f"{prefix}.gate_proj", inner, hidden)
    yield matrix(f"{prefix}.up_proj", inner, hidden)
    yield matrix(f"{prefix}.down_proj", hidden, inner)


def attention(prefix: str, config: dict[str, Any]) -> Iterable[Weight]:
    """Return the matrices of grouped-query attention."""
    hidden, head = config["hidden_size"], config["head_dim"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    yield matrix(f"{prefix}.q_proj", heads * head, hidden)
    yield matrix(f"{prefix}.k_proj", kv_heads * head, hidden)
    yield matrix(f"{prefix}.v_proj", kv_heads * head, hidden)
    yield matrix(f"{prefix}.o_proj", hidden, heads * head)


def write(path: Path, config: dict[str, Any], weights: Iterable[Weight], arrange: Arrange, seed: int) -> Path:
    """Write the model into the folder `path`, which is made if needed, and return it.

    Args:
        path: the folder.
        config: the entries of config.json.
        weights: the tensors of the layers; drawn in this order.
        arrange: makes of them what the package describes.
        seed: seed of all random numbers.
    """
    import numpy

    path.mkdir(parents=True, exist_ok=True)
    _write_json(path / "config.json", config)
    _write_json(path / "generation_config.json", {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD})
    weights = list(weights)
    random = numpy.random.default_rng(seed)
    arrays = {
        weight.name: weight.centre + weight.scale * random.standard_normal(weight.shape, dtype=numpy.float32)
        for weight in weights
    }
    arrange(arrays, random, config)
    exact = {weight.name for weight in weights if weight.exact}
    tensors = {
        name: ("F32", array.shape, numpy.ascontiguousarray(array, dtype="<f4").tobytes())
        if name in exact
        else ("BF16", array.shape, bfloat16(array))
        for name, array in arrays.items()
    }
    save(path / "model.safetensors", tensors)
    write_tokenizer(path, config)
    return path


def save(path: Path, tensors: dict[str, tuple[str, tuple[int, ...], bytes]]) -> None:
    """Write tensors (dtype, shape, data) in the safetensors format: length of the header, header in JSON, data.

    By hand because the safetensors package knows bfloat16 only together with torch.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, (dtype, shape, data) in tensors.items():
        offsets = [position, position + len(data)]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets}
        position += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.writelines(data for _, _, data in tensors.values())


def bfloat16(array: Any) -> bytes:
    """Return float32 values as little-endian bfloat16, rounded to nearest, ties to even."""
    import numpy

    bits = numpy.ascontiguousarray(array, dtype="<f4").view("<u4")
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return bytes(rounded.astype("<u2").tobytes())


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
