"""How random weights become a model in which mistakes show and roundings do not; see the docstring of the package."""

from __future__ import annotations

from typing import Any

from ascend_overlay.commands.demo.tiny.checkpoint import Arrays
from ascend_overlay.commands.demo.tiny.tokenizer import BYTES, SPECIAL

_STRONG = 4.0
"""What a token has in the coordinates of its experts, where other coordinates have a standard deviation of 1."""


def successors(arrays: Arrays, random: Any, config: dict[str, Any]) -> None:
    """Add embedding, final norm and an output layer of which row t leans towards the embeddings of what t follows."""
    import numpy

    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    embedding = random.standard_normal((vocabulary, hidden), dtype=numpy.float32)
    head = random.standard_normal((vocabulary, hidden), dtype=numpy.float32)
    # Only tokens that the tokenizer learned follow others, so texts can be read, and do not end before they are as long
    # as was asked for.
    learned = numpy.arange(len(SPECIAL) + BYTES, vocabulary)
    bytes_before = numpy.arange(len(SPECIAL), len(SPECIAL) + len(learned))
    for before in (learned, bytes_before):
        head[learned] += 3.0 * embedding[random.permutation(before)]
    arrays["model.embed_tokens.weight"] = embedding
    arrays["model.norm.weight"] = 1.0 + 0.1 * random.standard_normal(hidden, dtype=numpy.float32)
    arrays["lm_head.weight"] = head * (0.5 * hidden**-0.5)


def pairs(arrays: Arrays, random: Any, config: dict[str, Any]) -> None:
    """Add an embedding that is the output layer, too, and a final norm, such that tokens follow each other in pairs.

    The weight of the final norm is negative in half of the coordinates. A token's partner has about its embedding in
    the first half and the opposite in the second one, so with the norm between them each leans towards the other, and
    neither towards itself. For Gemma, whose norms multiply by 1 + weight and whose embedding is multiplied by
    sqrt(hidden).
    """
    import numpy

    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    half = hidden // 2
    embedding = random.standard_normal((vocabulary, hidden), dtype=numpy.float32)
    learned = random.permutation(numpy.arange(len(SPECIAL) + BYTES, vocabulary))
    ones, others = learned[: len(learned) // 2], learned[len(learned) // 2 : len(learned) // 2 * 2]
    sign = numpy.ones(hidden, dtype=numpy.float32)
    sign[half:] = -1.0
    embedding[others] = 0.8 * sign * embedding[ones] + 0.6 * embedding[others]
    # Bytes and special tokens follow nothing.
    embedding[: len(SPECIAL) + BYTES] *= 0.3
    arrays["model.embed_tokens.weight"] = embedding * hidden**-0.5
    scale = 2.0 * (1.0 + 0.1 * random.standard_normal(hidden, dtype=numpy.float32))
    arrays["model.norm.weight"] = scale * sign - 1.0


def experts(arrays: Arrays, random: Any, config: dict[str, Any]) -> None:
    """Like `successors`, and let the first coordinates of the hidden state say which experts a token goes to."""
    successors(arrays, random, config)
    count = _experts_of(config)
    _set_aside(arrays, count, weight=0.7)
    for row in arrays["model.embed_tokens.weight"]:
        row[random.permutation(count)[: config["num_experts_per_tok"]]] = _STRONG


def groups_of_experts(arrays: Arrays, random: Any, config: dict[str, Any]) -> None:
    """Like `experts`, for a choice of groups first, with a bias: each part of the choice decides.

    A token likes three experts in each of as many groups as are to be chosen, and one in another group, all the same;
    with each of them its score is near 1, with the others 0.5. So the groups are clear, and among the experts liked in
    them the bias decides, whose values are at least 0.024 apart and together less than what the scores are apart.
    The one in the other group would often be chosen if groups did not count.
    """
    import numpy

    successors(arrays, random, config)
    count, groups = _experts_of(config), config["n_group"]
    each = count // groups
    _set_aside(arrays, count, weight=1.5)
    for name, array in arrays.items():
        if name.endswith("post_attention_layernorm.weight"):
            array[:count] = 1.0
        elif name.endswith("e_score_correction_bias"):
            array[:] = 0.024 * random.permutation(count).astype(numpy.float32)
    for row in arrays["model.embed_tokens.weight"]:
        chosen = random.permutation(groups)
        for place, group in enumerate(chosen[: config["topk_group"] + 1]):
            liked = 3 if place < config["topk_group"] else 1
            row[group * each + random.permutation(each)[:liked]] = _STRONG


def _experts_of(config: dict[str, Any]) -> int:
    return int(config.get("n_routed_experts") or config["num_experts"])


def _set_aside(arrays: Arrays, count: int, *, weight: float) -> None:
    """Keep everything but the gates out of the first `count` coordinates, and let gate i see mostly coordinate i."""
    import numpy

    for name, array in arrays.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            array[:count] = 0.0
        elif name.endswith("mlp.gate.weight"):
            array *= 0.05
            array[:, :count] = weight * numpy.eye(count, dtype=numpy.float32)
    arrays["lm_head.weight"][:, :count] = 0.0
    arrays["model.embed_tokens.weight"][:, :count] = 0.0
