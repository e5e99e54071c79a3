"""Collectives of two ranks, each on a device of its own: ``inside_collectives.py RANK FILE``."""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from inside import case, differs, main

RANK = int(sys.argv[1])


def mine(number: float = 1.0) -> torch.Tensor:
    return torch.full((2,), (RANK + 1) * number, device=f"npu:{RANK}")


@case
def all_reduce() -> str | None:
    x = mine()
    dist.all_reduce(x)
    return differs((x.tolist(), str(x.device)), ([3.0, 3.0], f"npu:{RANK}"))


@case
def all_reduce_that_is_waited_for() -> str | None:
    x = mine()
    work = dist.all_reduce(x, op=dist.ReduceOp.MAX, async_op=True)
    work.wait()
    return differs(x.tolist(), [2.0, 2.0])


@case
def all_gather() -> str | None:
    x = torch.empty(4, device=f"npu:{RANK}")
    dist.all_gather_into_tensor(x, mine())
    parts = [torch.empty(2, device=f"npu:{RANK}") for _ in range(2)]
    dist.all_gather(parts, mine())
    return differs((x.tolist(), [p.tolist() for p in parts]), ([1.0, 1.0, 2.0, 2.0], [[1.0, 1.0], [2.0, 2.0]]))


@case
def reduce_scatter() -> str | None:
    x = torch.empty(1, device=f"npu:{RANK}")
    dist.reduce_scatter_tensor(x, torch.arange(2.0, device=f"npu:{RANK}") + RANK)
    return differs(x.tolist(), [1.0 + 2 * RANK])


@case
def all_to_all() -> str | None:
    x = torch.empty(2, device=f"npu:{RANK}")
    dist.all_to_all_single(x, torch.arange(2.0, device=f"npu:{RANK}") + 10 * RANK)
    return differs(x.tolist(), [0.0 + RANK, 10.0 + RANK])


@case
def broadcast() -> str | None:
    x = mine()
    dist.broadcast(x, src=1)
    return differs(x.tolist(), [2.0, 2.0])


@case
def from_one_to_the_other() -> str | None:
    x = mine()
    if RANK == 0:
        dist.send(x, 1)
    else:
        dist.recv(x, 0)
    return differs(x.tolist(), [1.0, 1.0])


@case
def a_group_of_its_own() -> str | None:
    group = dist.new_group([0, 1], backend="hccl")
    x = mine()
    dist.all_reduce(x, group=group)
    dist.barrier()
    return differs((x.tolist(), dist.get_backend(group)), ([3.0, 3.0], "hccl"))


@case
def in_a_graph() -> str | None:
    x = mine()
    graph = torch.npu.NPUGraph()
    with torch.npu.graph(graph):
        y = x * 2
        dist.all_reduce(y)
        y = y + 1
    found = []
    for number in (1.0, 5.0):
        x.copy_(mine(number))
        graph.replay()
        found.append(y.tolist())
    return differs(found, [[7.0, 7.0], [31.0, 31.0]])


torch.npu.set_device(RANK)
dist.init_process_group("hccl", init_method=f"file://{sys.argv[2]}", rank=RANK, world_size=2)
main()
dist.destroy_process_group()
