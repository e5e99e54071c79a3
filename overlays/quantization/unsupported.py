"""What a description can ask for beyond the types of the weights, and the method `ascend` does not do."""

from __future__ import annotations

from ascend_overlay.errors import CheckpointError
from ascend_overlay.quantization.description import FLOAT, Description

# Keys of the description, or their last parts -> what they are about.
_ATTENTION = {
    "kv_cache_type": "a quantized KV cache",
    "kv_quant_type": "a quantized KV cache",
    "fa_quant_type": "attention with quantized operands",
    "indexer_quant_type": "a quantized indexer",
    "quant_type": "a quantized indexer",
}


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
