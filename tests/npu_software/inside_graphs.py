"""Captured graphs: recorded and not executed, numbers as they were, replays on the same memory, what is refused."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
import torch_npu  # noqa: F401
from inside import case, differs, main, raised

from ascend_overlay import npu
from ascend_overlay.npu.software import install

Function = Callable[[torch.Tensor], torch.Tensor]
PAGE = 1 << 22
"""Bytes of a tensor of 2**20 floats."""


def captured(function: Callable[[], Any], **options: Any) -> tuple[Any, Any]:
    graph = torch.npu.NPUGraph()
    with torch.npu.graph(graph, **options):
        result = function()
    return graph, result


def graphs() -> list[Any]:
    native = install.native()
    assert native is not None
    return native.graphs()


def replays(function: Function, *shape: int) -> str | None:
    """Return what is wrong if replays do not give what the function gives for the numbers of the moment."""
    x = torch.randn(*shape, device="npu")
    graph, result = captured(lambda: function(x))
    for number in range(3):
        x.copy_(torch.randn(*shape))
        expected = function(x.clone())
        graph.replay()
        if not torch.equal(result.cpu(), expected.cpu()):
            return f"replay {number}: {result.cpu()} instead of {expected.cpu()}"
    if not graphs()[0].tasks or graphs()[0].replays != 3:
        return f"the graph is {graphs()[0]}"
    return None


def refused(function: Callable[[], object], *words: str) -> str | None:
    """Return what is wrong if the capture does not fail, or work does not go on afterwards."""
    wrong = raised(lambda: captured(function), *words)
    # torch.npu.graph leaves its own stream the current one when the end of the capture fails.
    torch.npu.set_stream(torch.npu.default_stream())
    torch.npu.synchronize()
    return wrong or replays(lambda x: x * 2, 3)


def numbers() -> torch.Tensor:
    return torch.arange(6.0, device="npu").view(2, 3)


# --- what is captured gives what it gives without a graph


@case
def layers() -> str | None:
    modules = (
        torch.nn.Linear(8, 32),
        torch.nn.SiLU(),
        torch.nn.LayerNorm(32),
        torch.nn.Linear(32, 8),
        torch.nn.Softmax(-1),
    )
    model = torch.nn.Sequential(*modules).to("npu")
    with torch.no_grad():
        return replays(model, 4, 8)


@case
def inference_mode() -> str | None:
    with torch.inference_mode():
        weight = torch.randn(32, 8, device="npu")
        return replays(lambda x: F.gelu(F.linear(x, weight)) * 2 + 1, 4, 8)


@case
def attention() -> str | None:
    weights = [torch.randn(16, 16, device="npu") for _ in range(4)]

    def function(x: torch.Tensor) -> torch.Tensor:
        q, k, v = ((x @ w).view(2, 6, 4, 4).transpose(1, 2) for w in weights[:3])
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return mixed.transpose(1, 2).reshape(2, 6, 16) @ weights[3] + x

    return replays(function, 2, 6, 16)


@case
def in_place() -> str | None:
    def function(x: torch.Tensor) -> torch.Tensor:
        x.add_(1)
        x[1:3].mul_(2)
        x.t()[0].fill_(5)
        x.view(2, 16)[0].neg_()
        return x * 1

    return replays(function, 4, 8)


@case
def results_that_are_given_and_empty() -> str | None:
    def function(x: torch.Tensor) -> torch.Tensor:
        left, right, q, r = (torch.empty(0, device="npu") for _ in range(4))
        torch.split_with_sizes_copy(x, [3, 5], 1, out=[left, right])
        torch.linalg.qr(x, out=(q, r))
        seen = (x * 1).as_strided_((2, 2), (1, 2))
        return torch.cat([right, left * 2], 1) + q.max() * 2 + r.max() + seen.max()

    return replays(function, 4, 8)


@case
def views_of_results() -> str | None:
    def function(x: torch.Tensor) -> torch.Tensor:
        left, right = (x * 2).chunk(2, -1)
        return torch.cat([right, left.flip(0)], -1).t()

    return replays(function, 4, 8)


@case
def indices() -> str | None:
    table = torch.randn(10, 4, device="npu")

    def function(x: torch.Tensor) -> torch.Tensor:
        best = x.argmax(-1) + 1
        y = torch.zeros(4, 10, device="npu")
        y[torch.arange(4, device="npu"), best] = 3
        return F.embedding(best, table).sum(-1, keepdim=True) + torch.where(y > 0, y, -y)[best % 4].cumsum(-1)

    return replays(function, 4, 8)


@case
def lists_of_tensors() -> str | None:
    def function(x: torch.Tensor) -> torch.Tensor:
        parts = torch._foreach_add([p.contiguous() for p in torch.split(x, [3, 5], -1)], 1)
        torch._foreach_mul_(parts, 2)
        values, places = parts[1].topk(2)
        return torch.cat([*parts, values, places.float()], -1)

    return replays(function, 4, 8)


@case
def results_that_are_given() -> str | None:
    grows, fits, w = torch.empty(0, device="npu"), torch.empty(4, 4, device="npu"), torch.randn(8, 4, device="npu")

    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.mm(x, w, out=fits) + torch.mm(x, w, out=grows)

    return replays(function, 4, 8)


@case
def two_streams() -> str | None:
    side = torch.npu.Stream()

    def function(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        side.wait_stream(torch.npu.current_stream())
        with torch.npu.stream(side):
            z = y + 1
        w = y * 3
        torch.npu.current_stream().wait_stream(side)
        return z + w

    return replays(function, 8)


@case
def gradients() -> str | None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4)).to("npu")
    y = torch.randn(3, 4, device="npu")

    def found(function: Any) -> list[torch.Tensor]:
        x = y.clone().requires_grad_()
        model.zero_grad()
        function(x).square().sum().backward()
        return [t.grad.clone() for t in (x, *model.parameters())]

    expected = found(model)
    graphed = torch.npu.make_graphed_callables(model, (torch.randn(3, 4, device="npu", requires_grad=True),))
    pairs = zip(found(graphed), expected, strict=True)
    return differs(all(torch.allclose(a, b, atol=1e-6) for a, b in pairs), True)


# --- recorded, not executed; on the same memory


@case
def nothing_is_executed() -> str | None:
    y = torch.zeros(3, device="npu")
    graph, _ = captured(lambda: y.add_(torch.ones(3, device="npu") * 2))
    before = y.tolist()
    graph.replay()
    graph.replay()
    return differs((before, y.tolist()), ([0.0] * 3, [4.0] * 3))


@case
def numbers_are_baked_in() -> str | None:
    number, y = [3.0], torch.zeros(2, device="npu")
    graph, _ = captured(lambda: y.fill_(number[0]).add_(torch.tensor(4.0)))
    number[0] = 9.0
    graph.replay()
    return differs(y.tolist(), [7.0, 7.0])


@case
def random_numbers() -> str | None:
    ones, own = torch.ones(100, device="npu"), torch.Generator("npu").manual_seed(5)

    def drawn() -> list[torch.Tensor]:
        exponential = torch.empty(100, device="npu").exponential_(generator=own)
        return [torch.rand(100, device="npu"), exponential, F.dropout(ones, 0.5), torch.randperm(100, device="npu")]

    graph, results = captured(drawn)
    torch.manual_seed(7), own.manual_seed(5)
    expected = [[t.cpu() for t in drawn()] for _ in range(2)]
    torch.manual_seed(7), own.manual_seed(5)
    for row in expected:
        graph.replay()
        if not all(torch.equal(got.cpu(), one) for got, one in zip(results, row, strict=True)):
            return "a replay draws other numbers than the same seed without a graph"
    return differs(torch.equal(expected[0][0], expected[1][0]), False)


@case
def two_graphs_in_one_pool() -> str | None:
    pool, x = torch.npu.graph_pool_handle(), torch.randn(64, 64, device="npu")
    first, a = captured(lambda: (x @ x) + 1, pool=pool)
    second, b = captured(lambda: (a * 2).relu() @ x, pool=pool)
    for _ in range(2):
        x.copy_(torch.randn(64, 64))
        first.replay()
        second.replay()
        if not torch.equal(b, ((x @ x + 1) * 2).relu() @ x):
            return "differs"
    return differs(first.pool(), second.pool())


@case
def memory_of_a_graph() -> str | None:
    # Those of earlier cases may go at any moment.
    gc.collect()
    torch.npu.synchronize()
    torch.npu.empty_cache()
    before, known = torch.npu.memory_reserved(), len(graphs())
    given = [torch.randn(1 << 20, device="npu")]
    graph, a = captured(lambda: (given[0] + 1) * 2)
    address = a.data_ptr()
    del a
    others = [torch.randn(1 << 20, device="npu") for _ in range(8)]
    if any(abs(other.data_ptr() - address) < PAGE for other in others):
        return "the memory of the graph was given away"
    graph.reset()
    del others
    given.clear()
    torch.npu.empty_cache()
    return differs((len(graphs()), torch.npu.memory_reserved() <= before), (known, True))


@case
def memory_is_used_again_in_a_capture() -> str | None:
    x = torch.randn(1 << 20, device="npu")
    torch.npu.empty_cache()
    before = torch.npu.memory_reserved()

    def function() -> torch.Tensor:
        y = x
        for _ in range(20):
            y = y + 1
        return y

    graph, y = captured(function)
    more = torch.npu.memory_reserved() - before
    graph.replay()
    return differs((torch.allclose(y, x + 20), more <= 5 * PAGE), (True, True))


@case
def pinned_copies() -> str | None:
    given, taken = torch.zeros(4).pin_memory(), torch.zeros(4).pin_memory()
    there = torch.zeros(4, device="npu")

    def function() -> None:
        there.copy_(given, non_blocking=True)
        there.mul_(2)
        taken.copy_(there, non_blocking=True)

    graph, _ = captured(function)
    found = []
    for number in (1, 2):
        given.fill_(number)
        graph.replay()
        torch.npu.synchronize()
        found.append(taken.tolist())
    return differs(found, [[2.0] * 4, [4.0] * 4])


@case
def work_beside_a_capture() -> str | None:
    side, x, seen = torch.npu.Stream(), torch.ones(8, device="npu"), []

    def function() -> torch.Tensor:
        y = x + 1
        with torch.npu.stream(side):
            seen.append((x + 2).cpu().tolist())
        return y

    captured(function)
    return differs(seen, [[3.0] * 8])


# --- refused


@case
def refused_item() -> str | None:
    return refused(lambda: numbers().sum().item(), "_local_scalar_dense")


@case
def refused_copy_to_the_host() -> str | None:
    return refused(lambda: (numbers() + 1).cpu(), "a copy between host and device is waited for")


@case
def refused_device_synchronize() -> str | None:
    return refused(torch.npu.synchronize, "107030")


@case
def refused_stream_synchronize() -> str | None:
    return refused(lambda: torch.npu.current_stream().synchronize(), "107030")


@case
def refused_event_synchronize() -> str | None:
    def function() -> None:
        event = torch.npu.Event()
        event.record()
        event.synchronize()

    return refused(function, "107028")


@case
def refused_nonzero() -> str | None:
    return refused(lambda: (numbers() > 1).nonzero(), "aten::nonzero")


@case
def refused_mask() -> str | None:
    x = numbers()
    return refused(lambda: x[x > 1], "aten::index.Tensor")


@case
def refused_if() -> str | None:
    return refused(lambda: 1 if (numbers() > 1).any() else 2, "_local_scalar_dense")


@case
def refused_tensor_from_numbers() -> str | None:
    return refused(lambda: torch.tensor([1, 2], device="npu"), "not pinned")


@case
def refused_graph_in_a_capture() -> str | None:
    x = numbers()
    inner, _ = captured(lambda: x + 1)
    return refused(inner.replay, "107030")


@case
def refused_stream_that_nobody_waits_for() -> str | None:
    side, x = torch.npu.Stream(), torch.randn(8, device="npu")

    def function() -> None:
        side.wait_stream(torch.npu.current_stream())
        with torch.npu.stream(side):
            x + 1

    return refused(function, "107025")


@case
def refused_default_stream() -> str | None:
    return raised(torch.npu.NPUGraph().capture_begin, "non-default stream")


# --- groups of tasks, and their update


def paged_attention() -> tuple[torch.Tensor, Callable[[list[int]], torch.Tensor]]:
    query = torch.randn(3, 4, 64, device="npu", dtype=torch.bfloat16)
    keys = torch.randn(8, 128, 2 * 64, device="npu", dtype=torch.bfloat16)
    table = torch.arange(6, device="npu", dtype=torch.int32).view(3, 2)
    heads = {"num_query_heads": 4, "num_key_value_heads": 2}
    options = {"softmax_scale": 0.125, "input_layout": "TND", "block_size": 128}

    def attend(lengths: list[int]) -> torch.Tensor:
        operator = torch.ops.npu.npu_fused_infer_attention_score_v2
        given = {"actual_seq_qlen": [1, 2, 3], "actual_seq_kvlen": lengths, "block_table": table}
        result: torch.Tensor = operator(query * 1, keys, keys, **given, **heads, **options)[0]
        return result

    return query, attend


@case
def lengths_of_attention_are_updated() -> str | None:
    query, attend = paged_attention()
    graph, result = captured(lambda: attend([1, 1, 1]) + 1, auto_dispatch_capture=True)
    for lengths in ([5, 9, 200], [256, 1, 0], [7, 7, 7]):
        query.copy_(torch.randn(query.shape))
        graph.replay()
        graph.update([{"actual_seq_kvlen": lengths}])
        if not torch.equal(result * 1, attend(lengths) + 1):
            return f"differs for {lengths}"
    return None


@case
def lengths_of_attention_are_baked_in() -> str | None:
    _, attend = paged_attention()
    lengths = [5, 9, 20]
    graph, result = captured(lambda: attend(lengths))
    lengths[:] = [7, 7, 7]
    graph.replay()
    return differs(torch.equal(result, attend([5, 9, 20])), True)


@case
def attention_in_an_operator_of_python() -> str | None:
    """Torch_npu's recording does not see into such an operator; entered inside, it does."""
    query, attend = paged_attention()
    modes: list[Any] = []
    attends = [attend]

    @torch.library.custom_op("software_npu_test::attention", mutates_args=())
    def operator(x: torch.Tensor) -> torch.Tensor:
        with modes[0] if modes else contextlib.nullcontext():
            return attends[0]([1, 1, 1])

    blind, _ = captured(lambda: operator(query), auto_dispatch_capture=True)
    if blind.graph_dispatch_mode.graph_dispatch_records:
        return "it was seen"
    graph = torch.npu.NPUGraph()
    modes.append(graph.graph_dispatch_mode)
    with torch.npu.graph(graph):
        result = operator(query)
    graph.auto_dispatch_capture = True
    graph.replay()
    graph.update([{"actual_seq_kvlen": [5, 9, 20]}])
    found = differs(torch.equal(result * 1, attend([5, 9, 20])), True)
    # The operator is there for good, with what its function refers to.
    blind.reset()
    graph.reset()
    del attend, blind, graph, result
    modes.clear()
    attends.clear()
    return found


class Grouped:
    """A graph that computes ``y = (d + alpha * d) * 10``, with the addition in a group; on `event`, if there is one."""

    def __init__(self, event: Any = None) -> None:
        self.d, self.y = torch.ones(3, device="npu"), torch.zeros(3, device="npu")
        self.side, self.event, self.handle = torch.npu.Stream(), event, None
        self.graph, _ = captured(self._record)

    def _record(self) -> None:
        stream = torch.npu.current_stream()
        if self.event is not None:
            self.event.wait(stream)
            self.event.reset(stream)
        torch.npu.graph_task_group_begin(stream)
        torch.add(self.d, self.d, alpha=1, out=self.y)
        self.handle = torch.npu.graph_task_group_end(stream)
        self.y.mul_(10)

    def update(self, alpha: int, operator: Callable[..., Any] = torch.add) -> None:
        with torch.npu.stream(self.side):
            torch.npu.graph_task_update_begin(self.side, self.handle)
            operator(self.d, self.d, alpha=alpha, out=self.y)
            torch.npu.graph_task_update_end(self.side)
            if self.event is not None:
                self.event.record(self.side)


@case
def a_group_is_updated() -> str | None:
    grouped = Grouped()
    grouped.graph.replay()
    first = grouped.y.tolist()
    grouped.update(5)
    unchanged = grouped.y.tolist()
    grouped.graph.replay()
    return differs((first, unchanged, grouped.y.tolist()), ([20.0] * 3, [20.0] * 3, [60.0] * 3))


@case
def an_update_by_another_operator() -> str | None:
    grouped = Grouped()
    return raised(lambda: grouped.update(5, operator=torch.sub), "aten::sub.out where the group has aten::add.out")


@case
def updated_then_replayed() -> str | None:
    grouped = Grouped(torch.npu.ExternalEvent())
    found = []
    for alpha in (3, 4):
        grouped.update(alpha)
        grouped.graph.replay()
        found.append((grouped.y + 1).tolist())
    return differs(found, [[41.0] * 3, [51.0] * 3])


@case
def replayed_then_updated() -> str | None:
    grouped = Grouped(torch.npu.ExternalEvent())
    found = []
    for alpha in (3, 4):
        grouped.graph.replay()
        after = grouped.y + 1
        grouped.update(alpha)
        found.append(after.tolist())
    return differs(found, [[41.0] * 3, [51.0] * 3])


@case
def an_update_comes_in_the_turn_of_its_stream() -> str | None:
    """One that waits for a replay on the device does not overtake it, though the host has given both long before."""
    grouped, gate, stream = Grouped(torch.npu.ExternalEvent()), torch.npu.ExternalEvent(), torch.npu.current_stream()
    grouped.update(3)
    gate.wait(stream)
    found = []
    for alpha in (4, 5, None):
        grouped.side.wait_stream(stream)
        grouped.graph.replay()
        found.append(grouped.y + 1)
        if alpha is not None:
            grouped.side.wait_stream(stream)
            grouped.update(alpha)
    gate.record(torch.npu.Stream())
    torch.npu.synchronize()
    return differs([each.tolist() for each in found], [[41.0] * 3, [51.0] * 3, [61.0] * 3])


@case
def a_graph_that_is_gone_is_updated_in_its_turn() -> str | None:
    grouped, gate = Grouped(torch.npu.ExternalEvent()), torch.npu.ExternalEvent()
    gate.wait(grouped.side)
    grouped.update(3)
    d = grouped.d
    del grouped
    gc.collect()
    gate.record(torch.npu.Stream())
    torch.npu.synchronize()
    return differs((d + 1).tolist(), [2.0] * 3)


@case
def replayed_and_never_updated() -> str | None:
    grouped = Grouped(torch.npu.ExternalEvent())
    grouped.graph.replay()
    wrong = raised(torch.npu.synchronize, "507046", "value wait")
    grouped.update(3)
    torch.npu.synchronize()
    return wrong or differs(grouped.y.tolist(), [40.0] * 3)


@case
def torch_npus_queue_does_nothing_that_needs_python() -> str | None:
    """Its thread may be waited for by whoever holds Python's lock, as is done for the handle of a stream."""
    npu.load("npu_swiglu")
    x, stream, side, done = torch.randn(4, 64), torch.npu.Stream(), torch.npu.Stream(), torch.npu.Event()
    there = x.to("npu")
    for _ in range(20):
        gate = torch.npu.ExternalEvent()
        with torch.npu.stream(stream):
            gate.wait(stream)
            y = torch.ops.npu.npu_swiglu(there)
        # Both go to the queue: whoever does the second finds the stream free to go on.
        gate.record(side)
        done.record(stream)
        assert stream.npu_stream
        torch.npu.synchronize()
        wrong = differs(y.tolist(), torch.ops.npu.npu_swiglu(x).tolist())
        if wrong:
            return wrong
    return None


@case
def of_a_refused_capture_torch_npu_keeps_the_pool() -> str | None:
    """Its capture_end raises before its allocator forgets the pool: 2 MiB stay, which nothing gives back any more."""

    def keeps(function: Callable[[], object]) -> int:
        gc.collect()
        torch.npu.empty_cache()
        before = torch.npu.memory_reserved()
        raised(lambda: captured(function))
        gc.collect()
        torch.npu.empty_cache()
        return int(torch.npu.memory_reserved() - before)

    def refused() -> None:
        torch.ones(3, device="npu")
        torch.npu.synchronize()

    def fails() -> None:
        torch.ones(3, device="npu")
        raise RuntimeError

    return differs((keeps(refused), keeps(fails), keeps(lambda: torch.ones(3, device="npu"))), (2 << 20, 0, 0))


@case
def no_tensor_of_all_that_is_left() -> str | None:
    """What the sanitizer cannot tell from torch_npu's pools."""
    gc.collect()
    torch.npu.synchronize()
    return differs(torch.npu.memory_allocated(), _before)


_before = torch.npu.memory_allocated()
main()
