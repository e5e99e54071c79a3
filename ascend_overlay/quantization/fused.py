"""Layers that see the same input, and that vLLM loads into one.

Most of its model classes say which (`packed_modules_mapping`). For those that do not, the parts are the ones that its
fused layers always have.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

ATTENTION = (("q_proj", "k_proj", "v_proj"), ("wq", "wk", "wv"))
"""Parts of QKVParallelLinear."""

MERGED = (("gate_proj", "up_proj"), ("w1", "w3"), ("q_a_proj", "kv_a_proj_with_mqa"))
"""Parts of MergedColumnParallelLinear."""

FUSED = ATTENTION + MERGED


def parts_of(
    name: str,
    packed: Mapping[str, Sequence[str]],
    usual: Sequence[Sequence[str]],
    described: Container[str],
    *,
    one_for_two: bool = False,
) -> list[str]:
    """Return the modules of the checkpoint that the layer `name` consists of: itself, or several if it is fused.

    Args:
        name: name of the layer in vLLM.
        packed: name of a fused module -> names of its parts, as the model class has it.
        usual: the parts that a layer of its kind has where `packed` does not list it; empty if it is not fused.
        described: names of the modules in the checkpoint.
        one_for_two: keys are values, too, where there are none: the part of the keys then comes twice.
    """
    parent, dot, last = name.rpartition(".")
    for names in (packed[last],) if last in packed else usual:
        parts = [f"{parent}{dot}{part}" for part in names]
        if not any(part in described for part in parts):
            continue
        if one_for_two and len(parts) == 3 and parts[1] in described and parts[2] not in described:
            parts[2] = parts[1]
        return parts
    return [name]
