"""What a captured graph reads of a batch: it stays where it is, however many requests there are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ascend_overlay.overlays.attention import cache, persistent

MOST, WIDTH, BLOCK_SIZE = 8, 5, 128


def batch(requests: int, seed: int = 0) -> Any:
    """Return a batch of single tokens, in vLLM's memory for twice as many; the last request pads it."""
    generator = torch.Generator().manual_seed(seed)
    slots = torch.randint(0, 4096, (2 * MOST,), generator=generator)
    slots[requests - 1] = -1
    table = torch.randint(0, 99, (2 * MOST, WIDTH), generator=generator, dtype=torch.int32)
    return SimpleNamespace(num_reqs=requests, block_table_tensor=table, slot_mapping=slots)


def test_it_stays_where_it_is() -> None:
    room = persistent.Persistent(MOST)
    found = []
    for requests in (3, 8, 1, 3):
        one = batch(requests, seed=requests)
        table, slots = room.block_table(one), room.slots(one, BLOCK_SIZE)
        assert torch.equal(table, cache.block_table(one.block_table_tensor[:requests]))
        assert torch.equal(slots, cache.slots(one.slot_mapping[:requests], BLOCK_SIZE))
        assert slots[-1] < 0
        assert (table.dtype, slots.dtype) == (torch.int32, torch.int64)
        found.append((table.data_ptr(), slots.data_ptr()))
    assert len(set(found)) == 1


def test_tables_of_another_width_have_a_room_of_their_own() -> None:
    room = persistent.Persistent(MOST)
    one, other = batch(2), batch(2)
    other.block_table_tensor = other.block_table_tensor[:, :3].contiguous()
    first = room.block_table(one).clone()
    assert room.block_table(other).shape == (2, 3)
    assert torch.equal(room.block_table(one), first)


@pytest.mark.parametrize(
    ("ends", "known", "wanted"),
    [
        ([0, 1, 2], [5, 9], [5, 9]),
        ([0, 1, 2, 2, 2], [5, 9, 0, 0], [5, 9, 0, 0]),
        # What requests that are gone have left there.
        ([0, 1, 1], [5, 300], [5, 0]),
    ],
)
def test_requests_that_pad_a_batch_have_no_keys(ends: list[int], known: list[int], wanted: list[int]) -> None:
    assert persistent.lengths(ends, known) == wanted
