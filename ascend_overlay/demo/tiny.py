"""Tiny models on disk: real safetensors, a real tokenizer, no download. For the demo, the tests and the benchmarks.

Writing them needs numpy and tokenizers, which vLLM brings along, and imports neither vLLM nor torch.

The weights are random but arranged so that two correct implementations agree and a wrong one shows, measured in
bfloat16 against float32 over four seeds:

- The output layer leans towards one successor of nearly every token, since a purely random model has exact ties
  between its likeliest tokens.
- Every token brings its experts along in coordinates of the hidden state that no layer writes to, since a routing that
  is close to a tie turns the last bit of a rounding into another expert.
- What the layers add is of the same size as the embedding. Correct rounding moves log probabilities of likely tokens by
  up to 0.11; leaving out the rotary embedding, or swapping the halves of the gated MLP, moves them by 3.1 or more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VOCABULARY = 512
BOS, EOS, PAD = 0, 1, 2
_BYTES = 256
_SPECIAL = {"<bos>": BOS, "<eos>": EOS, "<pad>": PAD}

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


@dataclass(frozen=True)
class Weight:
    """One random tensor of a checkpoint.

    Attributes:
        name: its name in the checkpoint, as published models of this architecture use it.
        shape: its shape; a matrix is (out, in).
        scale: standard deviation of its elements.
        centre: mean of its elements; 1.0 for the weight of a norm.
    """

    name: str
    shape: tuple[int, ...]
    scale: float
    centre: float = 0.0


def make_deepseek_v2(
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    layers: int = 3,
    dense_layers: int = 1,
    hidden: int = 128,
    heads: int = 4,
    experts: int = 8,
    experts_per_token: int = 2,
    q_lora_rank: int | None = None,
    **config: Any,
) -> Path:
    """Write a DeepSeek-V2 of about two million parameters in bfloat16: MLA, yarn rotary embedding, routed experts.

    Args:
        path: folder to write to; made if needed.
        seed: seed of the weights.
        layers: number of decoder layers.
        dense_layers: how many of them, from the first on, have a dense MLP in place of experts.
        hidden: width of the hidden state.
        heads: attention heads.
        experts: routed experts of a layer; there is one shared expert besides.
        experts_per_token: routed experts that see a token.
        q_lora_rank: rank of the compressed queries; None for none, as in DeepSeek-V2-Lite.
        **config: further entries of config.json, which win over those written here.

    Returns:
        The folder.
    """
    # vLLM's MLA kernels take 512 + 64 as size of the cached latent and no other of this kind.
    latent, rope, nope, value = 512, 64, 32, 32
    settings = {
        "architectures": ["DeepseekV2ForCausalLM"],
        "model_type": "deepseek_v2",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "q_lora_rank": q_lora_rank,
        "kv_lora_rank": latent,
        "qk_rope_head_dim": rope,
        "qk_nope_head_dim": nope,
        "v_head_dim": value,
        "intermediate_size": 2 * hidden,
        "moe_intermediate_size": hidden // 2,
        "first_k_dense_replace": dense_layers,
        "moe_layer_freq": 1,
        "n_routed_experts": experts,
        "num_experts_per_tok": experts_per_token,
        "n_shared_experts": 1,
        "n_group": 1,
        "topk_group": 1,
        "topk_method": "greedy",
        "scoring_func": "softmax",
        "norm_topk_prob": True,
        "routed_scaling_factor": 1.0,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
        "max_position_embeddings": 2048,
        "rope_theta": 10000.0,
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 512,
            "beta_fast": 32,
            "beta_slow": 1,
            "mscale": 0.707,
            "mscale_all_dim": 0.707,
        },
        **_common(),
    } | config
    _write(Path(path), settings, _deepseek_weights(settings), seed)
    return Path(path)


def make_llama(
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    layers: int = 2,
    hidden: int = 128,
    heads: int = 4,
    kv_heads: int = 2,
    **config: Any,
) -> Path:
    """Write a Llama of about half a million parameters in bfloat16, with grouped-query attention.

    Args:
        path: folder to write to; made if needed.
        seed: seed of the weights.
        layers: number of decoder layers.
        hidden: width of the hidden state.
        heads: attention heads.
        kv_heads: heads of keys and values.
        **config: further entries of config.json, which win over those written here: `architectures=["Mine"]`.

    Returns:
        The folder.
    """
    settings = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": hidden // heads,
        "intermediate_size": 2 * hidden,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
        "mlp_bias": False,
        "max_position_embeddings": 2048,
        "rope_theta": 10000.0,
        **_common(),
    } | config
    _write(Path(path), settings, _llama_weights(settings), seed)
    return Path(path)


def _common() -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
        "tie_word_embeddings": False,
        "use_cache": True,
        "torch_dtype": "bfloat16",
    }


def _matrix(name: str, out: int, into: int) -> Weight:
    # Keeps the size of what goes through it.
    return Weight(f"{name}.weight", (out, into), into**-0.5)


def _norm(name: str, width: int) -> Weight:
    return Weight(f"{name}.weight", (width,), 0.1, centre=1.0)


def _mlp(prefix: str, hidden: int, inner: int) -> Iterator[Weight]:
    yield _matrix(f"{prefix}.gate_proj", inner, hidden)
    yield _matrix(f"{prefix}.up_proj", inner, hidden)
    yield _matrix(f"{prefix}.down_proj", hidden, inner)


def _deepseek_weights(config: dict[str, Any]) -> Iterator[Weight]:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    latent, rope = config["kv_lora_rank"], config["qk_rope_head_dim"]
    nope, value, q_rank = config["qk_nope_head_dim"], config["v_head_dim"], config["q_lora_rank"]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        attention = f"{prefix}.self_attn"
        yield _norm(f"{prefix}.input_layernorm", hidden)
        if q_rank is None:
            yield _matrix(f"{attention}.q_proj", heads * (nope + rope), hidden)
        else:
            yield _matrix(f"{attention}.q_a_proj", q_rank, hidden)
            yield _norm(f"{attention}.q_a_layernorm", q_rank)
            yield _matrix(f"{attention}.q_b_proj", heads * (nope + rope), q_rank)
        yield _matrix(f"{attention}.kv_a_proj_with_mqa", latent + rope, hidden)
        yield _norm(f"{attention}.kv_a_layernorm", latent)
        yield _matrix(f"{attention}.kv_b_proj", heads * (nope + value), latent)
        yield _matrix(f"{attention}.o_proj", hidden, heads * value)
        yield _norm(f"{prefix}.post_attention_layernorm", hidden)
        if layer < config["first_k_dense_replace"]:
            yield from _mlp(f"{prefix}.mlp", hidden, config["intermediate_size"])
            continue
        inner = config["moe_intermediate_size"]
        yield _matrix(f"{prefix}.mlp.gate", config["n_routed_experts"], hidden)
        for expert in range(config["n_routed_experts"]):
            yield from _mlp(f"{prefix}.mlp.experts.{expert}", hidden, inner)
        yield from _mlp(f"{prefix}.mlp.shared_experts", hidden, inner * config["n_shared_experts"])


def _llama_weights(config: dict[str, Any]) -> Iterator[Weight]:
    hidden, head = config["hidden_size"], config["head_dim"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        yield _norm(f"{prefix}.input_layernorm", hidden)
        yield _matrix(f"{prefix}.self_attn.q_proj", heads * head, hidden)
        yield _matrix(f"{prefix}.self_attn.k_proj", kv_heads * head, hidden)
        yield _matrix(f"{prefix}.self_attn.v_proj", kv_heads * head, hidden)
        yield _matrix(f"{prefix}.self_attn.o_proj", hidden, heads * head)
        yield _norm(f"{prefix}.post_attention_layernorm", hidden)
        yield from _mlp(f"{prefix}.mlp", hidden, config["intermediate_size"])


def _write(path: Path, config: dict[str, Any], weights: Iterator[Weight], seed: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    _write_json(path / "config.json", config)
    _write_json(path / "generation_config.json", {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD})
    _write_weights(path / "model.safetensors", config, weights, seed)
    _write_tokenizer(path, config)


def _write_weights(path: Path, config: dict[str, Any], weights: Iterator[Weight], seed: int) -> None:
    import numpy

    random = numpy.random.default_rng(seed)
    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    arrays = {
        weight.name: weight.centre + weight.scale * random.standard_normal(weight.shape, dtype=numpy.float32)
        for weight in weights
    }
    embedding = random.standard_normal((vocabulary, hidden), dtype=numpy.float32)
    head = random.standard_normal((vocabulary, hidden), dtype=numpy.float32)
    # Row t of the output layer leans towards the embeddings of the tokens that t follows. Only tokens that the
    # tokenizer learned follow others, so texts can be read, and do not end before they are as long as was asked for.
    learned = numpy.arange(len(_SPECIAL) + _BYTES, vocabulary)
    bytes_before = numpy.arange(len(_SPECIAL), len(_SPECIAL) + len(learned))
    for before in (learned, bytes_before):
        head[learned] += 3.0 * embedding[random.permutation(before)]
    arrays["model.embed_tokens.weight"] = embedding
    arrays["model.norm.weight"] = 1.0 + 0.1 * random.standard_normal(hidden, dtype=numpy.float32)
    arrays["lm_head.weight"] = head * (0.5 * hidden**-0.5)
    if experts := config.get("n_routed_experts"):
        _steer(arrays, random, experts, config["num_experts_per_tok"])
    _save(path, {name: (array.shape, _bfloat16(array)) for name, array in arrays.items()})


def _steer(arrays: dict[str, Any], random: Any, experts: int, per_token: int) -> None:
    """Let the first `experts` coordinates of the hidden state say which experts a token goes to."""
    import numpy

    for name, array in arrays.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            array[:experts] = 0.0
        elif name.endswith("mlp.gate.weight"):
            array *= 0.05
            array[:, :experts] = 0.7 * numpy.eye(experts, dtype=numpy.float32)
    arrays["lm_head.weight"][:, :experts] = 0.0
    embedding = arrays["model.embed_tokens.weight"]
    embedding[:, :experts] = 0.0
    for row in embedding:
        row[random.permutation(experts)[:per_token]] = 4.0


def _save(path: Path, tensors: dict[str, tuple[tuple[int, ...], bytes]]) -> None:
    """Write bfloat16 tensors in the safetensors format: length of the header, header in JSON, data.

    By hand because the safetensors package knows bfloat16 only together with torch.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, (shape, data) in tensors.items():
        offsets = [position, position + len(data)]
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": offsets}
        position += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.writelines(data for _, data in tensors.values())


def _bfloat16(array: Any) -> bytes:
    """Return float32 values as little-endian bfloat16, rounded to nearest, ties to even."""
    import numpy

    bits = numpy.ascontiguousarray(array, dtype="<f4").view("<u4")
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return bytes(rounded.astype("<u2").tobytes())


def _write_tokenizer(path: Path, config: dict[str, Any]) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config["vocab_size"],
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_TEXT], trainer)
    tokenizer.save(str(path / "tokenizer.json"))
    _write_json(
        path / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "pad_token": "<pad>",
            "model_max_length": config["max_position_embeddings"],
            "clean_up_tokenization_spaces": False,
            "chat_template": _CHAT_TEMPLATE,
        },
    )


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
