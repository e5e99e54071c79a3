"""The executor: vLLM's own of several processes, which says which rank it was that died."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing import connection
from typing import Any

from vllm.v1.executor.multiproc_executor import FutureWrapper, MultiprocExecutor

import ascend_overlay
from ascend_overlay.errors import OverlayError
from ascend_overlay.overlays.platform import devices

PATH = f"{__name__}.NPUExecutor"
PATIENCE = 3.0
"""Seconds in which a process that is gone is seen to be: what another rank says of it may be there sooner."""
# A child of vLLM's logger, so that it is shown where and how vLLM's own messages are.
_logger = logging.getLogger("vllm.ascend_overlay")


class NPUExecutor(MultiprocExecutor):  # type: ignore[misc, unused-ignore]
    """vLLM's. The base class says "cancelled" of an answer that never comes, or what another rank makes of it.

    Attributes:
        failure: which rank died and how, in a sentence; None while all live.
    """

    failure: str | None = None

    def collective_rpc(self, *args: Any, **kwargs: Any) -> Any:
        """Have all ranks do something.

        Raises:
            OverlayError: a rank has died.
        """
        found = self._blamed(lambda: super(NPUExecutor, self).collective_rpc(*args, **kwargs))
        if isinstance(found, FutureWrapper):
            answer = found.get_response
            found.get_response = lambda: self._blamed(answer)
        return found

    def shutdown(self) -> None:
        """End all ranks; say which had died before. The base class comes here as soon as one has."""
        if getattr(self, "is_failed", False) and not getattr(self, "shutting_down", False):
            self._look(self._processes(), patience=0.0)
        super().shutdown()

    def _ensure_worker_termination(self, worker_procs: list[Any]) -> None:
        """See to the end of processes, also of those that were not all ready; say which had ended before."""
        if not getattr(self, "shutting_down", False):
            self._look(worker_procs)
        super()._ensure_worker_termination(worker_procs)

    def _processes(self) -> list[Any]:
        return [worker.proc for worker in getattr(self, "workers", None) or []]

    def _blamed(self, call: Callable[[], Any]) -> Any:
        try:
            answer = call()
        except (RuntimeError, TimeoutError) as error:
            if self.failure is None and not getattr(self, "shutting_down", False):
                self._look(self._processes())
            if self.failure is None:
                raise
            raise OverlayError(self.failure) from error
        # Who lives on answers later calls, with what makes no sense after the one that failed.
        if self.failure is not None:
            raise OverlayError(self.failure)
        return answer

    def _look(self, processes: Sequence[Any], patience: float = PATIENCE) -> None:
        """Find who died first, and say so, once."""
        if self.failure is not None or not processes:
            return
        gone = set(connection.wait([process.sentinel for process in processes], patience))
        for rank, process in enumerate(processes):
            if process.sentinel in gone:
                self.failure = self._described(rank, process)
                ascend_overlay.note("platform", self.failure)
                _logger.error("%s", self.failure)
                return

    def _described(self, local_rank: int, process: Any) -> str:
        parallel = self.parallel_config
        rank = parallel.local_world_size * parallel.node_rank_within_dp + local_rank
        stage, tensor = divmod(rank, parallel.tensor_parallel_size)
        # Of a dense model, each replica is an engine that knows nothing of the others but by its name.
        replica = multiprocessing.current_process().name.partition("_DP")[2]
        where = f"pipeline stage {stage}, tensor parallel rank {tensor}" + (
            replica and f", data parallel rank {replica}"
        )
        return (
            f"On the NPU platform, the engine ends, since a worker died: {process.name} (pid {process.pid}), "
            f"rank {rank} ({where}) on {self._device(local_rank)}, {_how(_status(process))}. What it said last is in "
            f"the log, in lines with pid={process.pid}."
        )

    def _device(self, local_rank: int) -> str:
        try:
            return f"npu:{devices.of_rank(self.parallel_config, local_rank)}"
        except Exception as error:  # whatever is wrong with the devices, which may be why it died
            return f"no device that this process sees ({error})"


def _status(process: Any) -> int | None:
    """Return the exit code of a process that is gone."""
    deadline = time.monotonic() + PATIENCE
    # Two threads ask, and only one is told by the system; that one leaves it for the other.
    while (status := process.exitcode) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    found: int | None = status
    return found


def _how(status: int | None) -> str:
    if status is None:
        return "which is gone without an exit code"
    if status >= 0:
        return f"which ended with exit code {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
