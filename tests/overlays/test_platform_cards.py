"""What ranks ask of the platform, without an NPU: their devices, their collectives, what is said of one that died."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from ascend_overlay.errors import ConfigError, OverlayError
from ascend_overlay.overlays.platform import remote

VISIBLE = "ASCEND_RT_VISIBLE_DEVICES"

# --- devices ----------------------------------------------------------------------------------------------------------

DEVICES: list[tuple[str | None, list[int] | None, int, int | str]] = [
    (None, None, 1, 1),
    # The second of two replicas of one device each.
    (None, [1], 0, 1),
    (None, [2, 3], 1, 3),
    ("4,6", None, 1, 1),
    ("4,6", [6], 0, 1),
    (None, None, 4, "rank 4 .*device 4 is asked for, and the process sees 4"),
    (None, [3], 1, r"rank 1 .*device 1 of \[3\] is asked for"),
    ("4,6", [5], 0, r"rank 0 .*device 0 of \[5\] is asked for"),
    ("4,6", None, 2, "rank 2 .*device 2 is asked for"),
]
"""ASCEND_RT_VISIBLE_DEVICES, what is assigned, a local rank, and its device or what is said."""


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, where the platform is one for NPUs."""
    from vllm.platforms import interface

    from ascend_overlay.overlays.platform import devices

    class Platform(interface.Platform):  # type: ignore[misc, unused-ignore]
        device_name, device_control_env_var = "npu", VISIBLE

    monkeypatch.setattr(devices, "current_platform", Platform)
    monkeypatch.setattr(interface, "_assigned_physical_gpu_ids", None)
    return devices


@pytest.mark.vllm
@pytest.mark.parametrize(("visible", "assigned", "rank", "expected"), DEVICES)
def test_the_device_of_a_rank(
    devices: Any,
    monkeypatch: pytest.MonkeyPatch,
    visible: str | None,
    assigned: list[int] | None,
    rank: int,
    expected: int | str,
) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    if visible:
        monkeypatch.setenv(VISIBLE, visible)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: len(visible.split(",")) if visible else 4)
    parallel = SimpleNamespace(assigned_physical_gpu_ids=assigned)
    if isinstance(expected, int):
        assert devices.of_rank(parallel, rank) == expected
        return
    with pytest.raises(ConfigError, match=rf"^on the NPU platform, {expected}.*; see to {VISIBLE} or --device-ids\.$"):
        devices.of_rank(parallel, rank)


@pytest.mark.vllm
def test_a_variable_that_came_too_late_is_seen(devices: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "2,3")
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 4)
    with pytest.raises(ConfigError, match=rf"rank 0 .*: {VISIBLE}='2,3', and the process sees 4; set it before Python"):
        devices.of_rank(SimpleNamespace(assigned_physical_gpu_ids=[2]), 0)


# --- collectives ------------------------------------------------------------------------------------------------------


def _rank(rank: int, parts: list[Tensor]) -> Any:
    """Return the communicator of a rank whose collectives of equal sizes are computed from all ranks' `parts`."""
    from ascend_overlay.overlays.platform.communicator import NPUCommunicator

    found: Any = NPUCommunicator.__new__(NPUCommunicator)
    found.world_size, found.rank_in_group, found.all2all_manager = len(parts), rank, None
    found.unique_name = "dp:0"

    def all_gather(own: Tensor, dim: int) -> Tensor:
        assert dim == 0
        # What the other ranks would give is of the same size.
        padded = [part.new_zeros(len(own), *part.shape[1:]) for part in parts]
        for into, part in zip(padded, parts, strict=True):
            into[: len(part)] = part
        assert torch.equal(padded[rank], own)
        return torch.cat(padded)

    def reduce_scatter(rows: Tensor, dim: int) -> Tensor:
        assert dim == 0
        assert len(rows) % len(parts) == 0
        return len(parts) * rows.unflatten(0, (len(parts), -1))[rank]

    found.all_gather, found.reduce_scatter = all_gather, reduce_scatter
    return found


@pytest.mark.vllm
@pytest.mark.parametrize("sizes", [[2, 2], [1, 3], [3, 0], [2, 1, 4]])
def test_collectives_of_unequal_sizes(sizes: list[int]) -> None:
    parts = [torch.randn(size, 5) for size in sizes]
    everything = torch.cat(parts)
    for rank, part in enumerate(parts):
        communicator = _rank(rank, parts)
        given = sizes if len(set(sizes)) > 1 else None
        assert torch.equal(communicator.all_gatherv(part, 0, given), everything)
        assert torch.equal(communicator.all_gatherv([part], 0, sizes)[0], everything)
        # Each rank has computed the same rows here.
        assert torch.equal(communicator.reduce_scatterv(everything, 0, sizes), len(sizes) * part)


@pytest.mark.vllm
def test_what_is_not_computed_is_said() -> None:
    communicator = _rank(0, [torch.zeros(1, 2), torch.zeros(2, 2)])
    with pytest.raises(NotImplementedError, match="unequal sizes along dimension 1"):
        communicator.all_gatherv(torch.zeros(1, 2), 1, [1, 2])
    with pytest.raises(RuntimeError, match="the group dp:0 was not made to send tokens to experts"):
        communicator.combine(torch.zeros(1, 2))


# --- a rank that dies -------------------------------------------------------------------------------------------------


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An executor of four ranks, two stages of two, whose processes are pipes; `die(rank, status)` ends one."""
    from vllm.v1.executor.multiproc_executor import MultiprocExecutor

    from ascend_overlay.overlays.platform import executor as module

    found: Any = module.NPUExecutor.__new__(module.NPUExecutor)
    pipes = [os.pipe() for _ in range(4)]
    processes = [
        SimpleNamespace(name=f"VllmWorker-{rank}", pid=100 + rank, sentinel=pipe[0], exitcode=None)
        for rank, pipe in enumerate(pipes)
    ]
    found.workers = [SimpleNamespace(proc=process) for process in processes]
    found.parallel_config = SimpleNamespace(
        local_world_size=4,
        node_rank_within_dp=0,
        tensor_parallel_size=2,
    )

    def die(rank: int, status: int) -> None:
        processes[rank].exitcode = status
        os.close(pipes[rank][1])

    found.die = die
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    monkeypatch.setattr(module.devices, "of_rank", lambda parallel, rank: rank + 4)
    monkeypatch.setattr(MultiprocExecutor, "shutdown", lambda self: None)
    monkeypatch.setattr(MultiprocExecutor, "_ensure_worker_termination", lambda self, processes: None)
    yield found
    found.shutting_down = True


@pytest.mark.vllm
@pytest.mark.parametrize(("status", "how"), [(-9, "killed by SIGKILL"), (1, "which ended with exit code 1")])
def test_an_answer_that_never_comes_is_blamed_on_who_died(
    executor: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, status: int, how: str
) -> None:
    from vllm.v1.executor.multiproc_executor import FutureWrapper, MultiprocExecutor

    def refused(*args: object, **kwargs: object) -> object:
        raise RuntimeError("Worker failed with error 'Connection closed by peer'")

    who = r"VllmWorker-3 \(pid 103\), rank 3 \(pipeline stage 1, tensor parallel rank 1\) on npu:7"
    sentence = rf"worker died: {who}, {how}"
    executor.die(3, status)
    monkeypatch.setattr(MultiprocExecutor, "collective_rpc", refused)
    with pytest.raises(OverlayError, match=sentence):
        executor.collective_rpc("execute_model")
    # The same of an answer that is waited for later.
    later = FutureWrapper(deque(), refused)
    monkeypatch.setattr(MultiprocExecutor, "collective_rpc", lambda *args, **kwargs: later)
    with pytest.raises(OverlayError, match=sentence):
        executor.collective_rpc("execute_model", non_block=True).result()
    # Whoever lives on answers what is asked next, which is worth nothing.
    monkeypatch.setattr(MultiprocExecutor, "collective_rpc", lambda *args, **kwargs: "answer")
    with pytest.raises(OverlayError, match=sentence):
        executor.collective_rpc("sample_tokens")
    # Once, however often it is met.
    assert caplog.text.count("VllmWorker-3") == 1


@pytest.mark.vllm
def test_an_error_of_ranks_that_live_stays_what_it_is(executor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.v1.executor.multiproc_executor import MultiprocExecutor

    def failed(*args: object, **kwargs: object) -> object:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(MultiprocExecutor, "collective_rpc", failed)
    with pytest.raises(RuntimeError, match=r"^out of memory$"):
        executor.collective_rpc("execute_model")
    assert executor.failure is None


@pytest.mark.vllm
def test_the_replica_is_named_and_the_first_who_died(executor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "current_process", lambda: SimpleNamespace(name="EngineCore_DP1"))
    executor.die(0, -15)
    executor.is_failed = True
    executor.shutdown()
    assert "rank 0 (pipeline stage 0, tensor parallel rank 0, data parallel rank 1) on npu:4" in executor.failure
    executor.die(1, -9)
    executor.shutdown()
    assert "rank 0" in executor.failure


@pytest.mark.vllm
def test_one_that_ends_before_it_is_ready_is_named(executor: Any) -> None:
    executor.die(2, 0)
    executor._ensure_worker_termination([worker.proc for worker in executor.workers])
    assert "VllmWorker-2 (pid 102), rank 2" in executor.failure
    assert "exit code 0" in executor.failure


@pytest.mark.vllm
def test_an_end_that_was_asked_for_is_no_failure(executor: Any) -> None:
    executor.die(1, 0)
    executor.shutdown()
    assert executor.failure is None


# --- Ray --------------------------------------------------------------------------------------------------------------


def test_the_ranks_of_ray_start_with_what_is_read_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("ray.runtime_env")
    module.RuntimeEnv = dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    monkeypatch.setitem(sys.modules, "ray.runtime_env", module)
    given = {"HCCL_BUFFSIZE": "300", "ASCEND_OVERLAY": "platform", "PYTHONPATH": "here"}
    for name, value in (given | {VISIBLE: "0,1", "SOMEBODYS": "1"}).items():
        monkeypatch.setenv(name, value)
    parallel = SimpleNamespace(ray_runtime_env={"working_dir": "w", "env_vars": {"HCCL_BUFFSIZE": "200"}})
    remote.equip(parallel)
    found = parallel.ray_runtime_env
    assert found["working_dir"] == "w"
    # What the user has said for the ranks holds.
    assert found["env_vars"]["HCCL_BUFFSIZE"] == "200"
    assert found["env_vars"]["ASCEND_OVERLAY"] == "platform"
    assert found["env_vars"]["PYTHONPATH"] == "here"
    assert not {VISIBLE, "SOMEBODYS"} & set(found["env_vars"])
