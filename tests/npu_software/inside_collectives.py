"""Collectives of two ranks, each on a device of its own: ``inside_collectives.py RANK FILE``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist
import torch_npu
from inside import case, differs, main, raised

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
def a_cpu_tensor_is_refused() -> str | None:
    """In each collective, by c10d: a group of the backend hccl has none for CPU tensors."""
    x, two = torch.ones(2), torch.ones(4)
    calls: dict[str, Callable[[], object]] = {
        "all_reduce": lambda: dist.all_reduce(x),
        "broadcast": lambda: dist.broadcast(x, src=0),
        "reduce": lambda: dist.reduce(x, dst=0),
        "all_gather": lambda: dist.all_gather([x, x.clone()], x),
        "all_gather_into_tensor": lambda: dist.all_gather_into_tensor(two, x),
        "reduce_scatter_tensor": lambda: dist.reduce_scatter_tensor(x, two),
        "all_to_all_single": lambda: dist.all_to_all_single(x, x.clone()),
        "send": lambda: dist.send(x, 1 - RANK),
        "recv": lambda: dist.recv(x, 1 - RANK),
        "all_reduce in a group of its own": lambda: dist.all_reduce(x, group=dist.new_group([0, 1], backend="hccl")),
    }
    wrong = {name: raised(call, "No backend type associated with device type cpu") for name, call in calls.items()}
    return str(found) if (found := {name: what for name, what in wrong.items() if what}) else None


@case
def an_npu_tensor_is_refused_by_gloo() -> str | None:
    group = dist.new_group([0, 1], backend="gloo")
    found = raised(lambda: dist.all_reduce(mine(), group=group), "No backend type associated with device type npu")
    x = torch.full((2,), RANK + 1.0)
    dist.all_reduce(x, group=group)
    return found or differs(x.tolist(), [3.0, 3.0])


@case
def a_group_for_both() -> str | None:
    """Of each kind of device by the backend that is named for it."""
    group = dist.new_group([0, 1], backend="cpu:gloo,npu:hccl")
    x, y = mine(), torch.full((2,), RANK + 1.0)
    dist.all_reduce(x, group=group)
    dist.all_reduce(y, group=group)
    return differs((x.tolist(), y.tolist()), ([3.0, 3.0], [3.0, 3.0]))


@case
def objects() -> str | None:
    """By tensors of the NPU, which the backend makes them of."""
    found: list[object] = [None, None]
    dist.all_gather_object(found, {"rank": RANK})
    told = [RANK]
    dist.broadcast_object_list(told, src=1)
    return differs((found, told), ([{"rank": 0}, {"rank": 1}], [1]))


@case
def options_of_hccl() -> str | None:
    """Are taken, and the time that a collective may last is the group's."""
    options = torch_npu._C._distributed_c10d.ProcessGroupHCCL.Options()
    options.hccl_config = {"hccl_buffer_size": 300}
    group = dist.new_group([0, 1], backend="hccl", pg_options=options, timeout=timedelta(seconds=77))
    x = mine()
    dist.all_reduce(x, group=group)
    backend = group._get_backend(torch.device("npu"))
    return differs(
        (x.tolist(), options.hccl_config, backend.options._timeout.seconds), ([3.0, 3.0], {"hccl_buffer_size": 300}, 77)
    )


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
