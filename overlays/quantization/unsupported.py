"""What a description can ask for beyond the types of the weights, and the method `ascend` does not do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import ascend_overlay
from ascend_overlay.errors import CheckpointError, some_of
from ascend_overlay.quantization.description import FLOAT, Description

# Keys of the description, or their last parts -> what they are about.
_ATTENTION = {
    "kv_cache_type": "a quantized KV cache",
    "kv_quant_type": "a quantized KV cache",
    "fa_quant_type": "attention with quantized operands",
    "indexer_quant_type": "a quantized indexer",
    "quant_type": "a quantized indexer",
}


_ROTATION = "global_rotation"
"""Last part of the key that names a file with a rotation of the hidden states."""
_ABOUT_THE_FILE = {"model_quant_type", "version", "group_size", "metadata"}


def note(description: Description) -> None:
    """Say in the ledger what the description has that nothing reads."""
    left = {key: value for key, value in description.settings.items() if key not in _ABOUT_THE_FILE and value}
    left |= description.unread
    if rotations := [value for key, value in _flat(left) if key.rpartition(".")[2] == _ROTATION]:
        ascend_overlay.note(
            "quantization",
            f"{description.source} names a rotation, {rotations[0]}, which is not read: the weights are rotated "
            f"already. A draft model that takes hidden states gets rotated ones",
        )
    keys = sorted(key for key, _ in _flat(left) if key.rpartition(".")[2] not in (_ROTATION, *_ATTENTION))
    if keys:
        ascend_overlay.note("quantization", f"{description.source} has entries that nothing reads: {some_of(keys)}")


def _flat(entries: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield keys and values of mappings within mappings, with dots between the keys."""
    for key, value in entries.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def refuse(description: Description) -> None:
    """See that the description asks for nothing that would be left out silently.

    Raises:
        CheckpointError: it does.
    """
    for key, value in description.settings.items():
        what = _ATTENTION.get(key.rpartition(".")[2])
        if what and value not in (None, False, "", "None", FLOAT):
            raise CheckpointError(
                f"{description.source} says {key} = {value!r}: the checkpoint is made for {what}, which the "
                f"quantization method 'ascend' does not do. Quantize the model without it."
            )
