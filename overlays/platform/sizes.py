"""For how many sizes of batches graphs are captured, where the user does not say it.

A captured graph holds a stream of the device, and an NPU has some 2000. A graph in pieces is one for each layer and one
besides, for each size; vLLM's 50 sizes are more than a deep model can have.
"""

from __future__ import annotations

import logging
from typing import Any

import ascend_overlay

STREAMS = 1800
"""For graphs; the rest of the 2048 of a device (Atlas A2, A3) is left to the collectives and to torch_npu."""
_LARGEST = 512
"""Above it vLLM captures nothing by default, either."""
_logger = logging.getLogger("vllm.ascend_overlay")


def settle(config: Any) -> None:
    """Choose the sizes for vLLM's `config`, unless the user has, or its own choice will do."""
    compilation, model = config.compilation_config, config.model_config
    if model is None or model.enforce_eager:
        return
    if compilation.cudagraph_capture_sizes is not None or compilation.max_cudagraph_capture_size is not None:
        return
    if compilation.cudagraph_mode is not None and not compilation.cudagraph_mode.has_piecewise_cudagraphs():
        return
    most = STREAMS // _streams(model, config.parallel_config)
    largest = min(2 * config.scheduler_config.max_num_seqs, config.scheduler_config.max_num_batched_tokens, _LARGEST)
    if _vllms(largest) <= most:
        return
    compilation.cudagraph_capture_sizes = few(most, largest)
    text = (
        f"graphs are captured for {len(compilation.cudagraph_capture_sizes)} sizes of batches up to {largest}, since "
        f"an NPU has no streams for more (cudagraph_capture_sizes of --compilation-config names others)"
    )
    ascend_overlay.note("platform", text)
    _logger.info("On the NPU platform, %s.", text)


def few(most: int, largest: int) -> list[int]:
    """Return at most `most` sizes, the last being `largest`: small ones, and steps of equal width behind them."""
    small = [size for size in (1, 2, 4, 8) if size < largest][: max(most - 1, 0)]
    steps = max(most - len(small), 1)
    wide = {min(-(-largest * step // steps // 8) * 8, largest) for step in range(1, steps + 1)}
    return sorted({*small, *wide})


def _streams(model: Any, parallel: Any) -> int:
    """Return how many streams the graphs for one size hold."""
    breaks = 2 if model.use_mla else 1
    in_pieces: int = breaks * model.get_num_layers(parallel) + 1
    # A graph with collectives in it holds one more for them.
    return (in_pieces + 1) * (2 if parallel.world_size > 1 else 1)


def _vllms(largest: int) -> int:
    """Return about how many sizes vLLM takes of its own: 1, 2, 4, steps of 8, and of 16 from 256 on."""
    return 3 + min(largest, 256) // 8 + max(largest - 256, 0) // 16
