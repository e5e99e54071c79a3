"""How long the host takes to have an NPU do something: `python -m ascend_overlay.commands.selftest.launches FOLDER`.

Leaves `result.json`: microseconds, each the median of REPEATS, least and most beside it. One that fails has its error
and does not stop the others.
"""

from __future__ import annotations

import contextlib
import importlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ascend_overlay.commands.demo.worker import phase
from ascend_overlay.commands.selftest import results

REPEATS = 30
CALLS = 50
"""How many are launched back to back."""

Measured = Callable[[], None]


def main(folder: Path) -> None:
    """Measure everything, and leave it in `folder`."""
    with phase(folder, "import torch_npu"):
        torch: Any = importlib.import_module("torch")
        importlib.import_module("torch_npu")
    found: dict[str, Any] = {"calls": CALLS, "repeats": REPEATS, "measured": {}}
    for name, making in _measurements(torch).items():
        with phase(folder, name):
            try:
                with making() as (run, divisor):
                    found["measured"][name] = timed(run, torch.npu.synchronize, divisor)
            except Exception as error:  # whatever an operator raises on a card that nobody tried
                found["measured"][name] = {"error": f"{type(error).__name__}: {error}".partition("\n")[0]}
        results.write(folder, found)


def timed(run: Measured, wait: Measured, divisor: int) -> dict[str, float]:
    """Return what one of the `divisor` calls in `run` takes, until it is launched and until it is done.

    Args:
        run: what is measured.
        wait: returns when everything that was launched is done.
        divisor: how many calls `run` makes.
    """
    launched, done = [], []
    for repeat in range(REPEATS + 3):
        wait()
        started = time.perf_counter()
        run()
        between = time.perf_counter()
        wait()
        # The first ones compile kernels and fill caches.
        if repeat >= 3:
            launched.append((between - started) * 1e6 / divisor)
            done.append((time.perf_counter() - started) * 1e6 / divisor)
    return {
        "launched": round(statistics.median(launched), 2),
        "done": round(statistics.median(done), 2),
        "least": round(min(done), 2),
        "most": round(max(done), 2),
    }


def _measurements(torch: Any) -> dict[str, Callable[[], contextlib.AbstractContextManager[tuple[Measured, int]]]]:
    """Return what is measured, by name: each a context that yields what runs, and how many calls that makes."""

    def tensors(*sizes: tuple[int, ...]) -> list[Any]:
        return [torch.ones(*size, dtype=torch.bfloat16, device="npu") for size in sizes]

    def operator(call: Callable[..., Any], *sizes: tuple[int, ...]) -> Any:
        @contextlib.contextmanager
        def making() -> Iterator[tuple[Measured, int]]:
            arguments = tensors(*sizes)

            def run() -> None:
                for _ in range(CALLS):
                    call(*arguments)

            yield run, CALLS

        return making

    @contextlib.contextmanager
    def synchronize() -> Iterator[tuple[Measured, int]]:
        yield torch.npu.synchronize, 1

    @contextlib.contextmanager
    def item() -> Iterator[tuple[Measured, int]]:
        (one,) = tensors((1,))
        yield one.item, 1

    @contextlib.contextmanager
    def copy() -> Iterator[tuple[Measured, int]]:
        host = torch.zeros(1024).pin_memory()
        device = torch.zeros(1024, device="npu")
        yield lambda: device.copy_(host, non_blocking=True), 1

    @contextlib.contextmanager
    def graph() -> Iterator[tuple[Measured, int]]:
        (x,) = tensors((1024,))
        captured = torch.npu.NPUGraph()
        with torch.npu.graph(captured):
            for _ in range(CALLS):
                x.add_(1)
        yield captured.replay, 1

    ops = torch.ops.npu
    return {
        "add, 1024": operator(torch.add, (1024,), (1024,)),
        "matmul, 1 x 256 x 256": operator(torch.matmul, (1, 256), (256, 256)),
        "npu_rms_norm, 1 x 4096": operator(ops.npu_rms_norm, (1, 4096), (4096,)),
        "npu_add_rms_norm, 1 x 4096": operator(ops.npu_add_rms_norm, (1, 4096), (1, 4096), (4096,)),
        "npu_swiglu, 1 x 8192": operator(ops.npu_swiglu, (1, 8192)),
        "synchronize": synchronize,
        "item": item,
        "copy of 4 KiB to the device": copy,
        f"replay of a graph of {CALLS} adds": graph,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
