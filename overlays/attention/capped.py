"""Attention whose scores are capped, cap * tanh(score / cap), as Gemma 2 has it: no operator of torch_npu has a cap.

It is computed by PyTorch's operators, one request after the other, which is right and slow, and said where it happens.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

import ascend_overlay
from ascend_overlay.errors import OverlayError
from ascend_overlay.overlays.attention.metadata import AscendMetadata

_TEXT = (
    "the model caps the scores of attention (a soft cap), which no operator of torch_npu does: they are computed by "
    "PyTorch's operators, one request after the other, which is slow"
)
_logger = logging.getLogger("vllm.ascend_overlay")
_said: list[str] = []


def announce() -> None:
    """Say, once in this process, that a model is computed so."""
    if not _said:
        _said.append(_TEXT)
        ascend_overlay.note("attention", _TEXT)
        _logger.warning("%s.", _TEXT[0].upper() + _TEXT[1:])


def attend(
    query: Tensor, keys: Tensor, values: Tensor, batch: AscendMetadata, *, scale: float, cap: float, window: int | None
) -> Tensor:
    """Return what the tokens of a batch attend to.

    Args:
        query: (tokens, heads, head size).
        keys: the cache, (blocks, block size, KV heads, head size), the new tokens included.
        values: as keys.
        batch: the batch.
        scale: factor of the scores before the cap.
        cap: bound of the scores.
        window: how many tokens a token sees, itself included; None: all before it.

    Returns:
        As `query`; computed in float32 and rounded once.

    Raises:
        OverlayError: it is to be captured in a graph, which would keep the lengths of this batch.
    """
    if _captured():
        raise OverlayError(
            "attention with a soft cap cannot be captured in a graph, since it goes by the lengths of the requests; "
            "choose --enforce-eager, or a cudagraph_mode that leaves attention out, PIECEWISE."
        )
    result = torch.empty_like(query)
    first = 0
    for number, (last, length) in enumerate(zip(batch.query_ends, batch.lengths, strict=True)):
        blocks = batch.block_table[number, : -(-length // keys.shape[1])]
        seen = _seen(last - first, length, window, batch.causal, query.device)
        result[first:last] = _request(
            query[first:last], _of(keys, blocks, length), _of(values, blocks, length), seen, scale, cap
        )
        first = last
    return result


def _request(query: Tensor, keys: Tensor, values: Tensor, seen: Tensor, scale: float, cap: float) -> Tensor:
    tokens, heads, size = query.shape
    grouped = query.view(tokens, keys.shape[1], -1, size).float()
    scores = torch.einsum("tkgd,nkd->kgtn", grouped, keys.float()) * scale
    scores = cap * torch.tanh(scores / cap)
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    result = torch.einsum("kgtn,nkd->tkgd", weights, values.float())
    return result.reshape(tokens, heads, size).to(query.dtype)


def _of(cache: Tensor, blocks: Tensor, length: int) -> Tensor:
    """Return what a request has in the cache: (length, KV heads, head size)."""
    return cache[blocks].flatten(0, 1)[:length]


def _seen(tokens: int, length: int, window: int | None, causal: bool, device: torch.device) -> Tensor:
    """Return which of the tokens of a request each of the new ones sees: (tokens, length) of bool."""
    ahead = torch.arange(length, device=device) - torch.arange(length - tokens, length, device=device)[:, None]
    seen = ahead <= 0 if causal else torch.ones_like(ahead, dtype=torch.bool)
    if window is None:
        return seen
    return seen & (ahead > -window) & (ahead < window)


def _captured() -> bool:
    npu: Any = getattr(torch, "npu", None)
    return npu is not None and bool(npu.is_current_stream_capturing())
