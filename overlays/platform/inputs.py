"""What the device is told of a batch, computed on the host and copied there: three copies in place of a dozen launches.

vLLM computes positions, lengths and slots on the device, since with speculative decoding under async scheduling the
host does not know how many tokens were accepted. That is refused on this platform, so the host knows all of it.

vLLM waits for the copies of a step before it prepares the next one, so what they are made from stays until then.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ascend_overlay.errors import OverlayError

NOBODYS = -1
"""The slot of a token that is none."""

_WRITTEN = "written_to"
"""Attribute of a block table: how many slots may be somebody's; those behind them are nobody's already."""


def slots(table: Any, requests: np.ndarray, positions: np.ndarray) -> None:
    """Give each new token its slot in the cache, and whatever had one before, none.

    Args:
        table: vLLM's BlockTable: `block_table.np` (most requests, most blocks) of int32, `slot_mapping` a buffer of
            int64 on both sides.
        requests: which request each token is of, (tokens,) of int64.
        positions: of each token in its request, (tokens,) of int64.

    Raises:
        OverlayError: the tokens of a request are spread over several processes.
    """
    if table.dcp_world_size != 1:
        raise OverlayError("context parallelism is not served on an NPU; leave its options out.")
    tokens, on_host = len(positions), table.slot_mapping.np
    nth, within = np.divmod(positions, table.block_size)
    on_host[:tokens] = table.block_table.np[requests, nth].astype(np.int64) * table.block_size + within
    before = getattr(table, _WRITTEN, len(on_host))
    on_host[tokens:before] = NOBODYS
    table.slot_mapping.copy_to_gpu(max(tokens, before))
    setattr(table, _WRITTEN, tokens)
