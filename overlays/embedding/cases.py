"""Comparisons of embeddings that are spread over ranks, for `ascend-overlay verify`."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from ascend_overlay.npu.case import LayerCase

# Of a vocabulary of 100 and 8 added tokens on two ranks: first, end, padding, first added, end of added.
_RANKS = {"rank 0 of 2": (0, 64, 0, 100, 104), "rank 1 of 2": (64, 100, 28, 104, 108)}


def cases() -> Iterator[LayerCase]:
    """Yield the cases of VocabParallelEmbedding's rows; there is no operator of torch_npu in them."""
    for label, rank in _RANKS.items():
        for dtype in ("int32", "int64"):
            yield LayerCase(
                layer="vllm.model_executor.layers.vocab_parallel_embedding:VocabParallelEmbedding",
                label=label,
                dtype=dtype,
                overlay="embedding",
                run=functools.partial(_rows, rank, dtype),
                operators=(),
                rtol=0.0,
                atol=0.0,
            )


def _rows(rank: tuple[int, int, int, int, int], dtype: str) -> Any:
    import torch
    from vllm.model_executor.layers import vocab_parallel_embedding

    tokens = torch.arange(108, dtype=getattr(torch, dtype))
    rows, elsewhere = vocab_parallel_embedding.get_masked_input_and_mask(tokens, *rank)
    # vLLM's are int64 whatever the tokens are; either indexes.
    return rows.long(), elsewhere
