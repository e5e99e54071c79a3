"""The functions of the native parts that Python calls."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ascend_overlay.errors import OverlayError
from ascend_overlay.npu.software.build import Built

WAITS = (
    *("synchronize stream", "synchronize device", "synchronize event"),
    *("copy to the host", "copy to the device", "item", "content"),
)
"""What the host waits for, in the order of waits.h; content: of arguments, on which sizes of results depend."""

GRAPHS = ("captured", "replayed", "tasks updated")
"""What is counted of graphs, in the order of runtime.h."""

_Listener = ctypes.CFUNCTYPE(None, ctypes.c_int)


@dataclass(frozen=True)
class Graph:
    """A captured graph that there is.

    Attributes:
        identifier: a number of its own.
        tasks: how many tasks it has.
        replays: how often it was executed.
        updates: how many tasks were put in place of others.
    """

    identifier: int
    tasks: int
    replays: int
    updates: int


class Native:
    """The runtime and the kernels of this process."""

    def __init__(self, built: Built) -> None:
        # With Python's lock held: torch registers and unregisters kernels under it.
        self._kernels = ctypes.PyDLL(str(built.kernels))
        self._runtime = ctypes.CDLL(str(built.runtime))
        for name in ("install", "install_parts", "install_copies", "counts"):
            getattr(self._kernels, f"software_npu_{name}").restype = ctypes.c_char_p

    def install(self, space: str, names: Iterable[str]) -> None:
        """Put the CPU kernel behind each operator of a namespace for NPU tensors."""
        self._demand(self._kernels.software_npu_install(space.encode(), _lines(names)))

    def install_parts(self, names: Iterable[str]) -> None:
        """Let composite operators of aten be what PyTorch makes them of."""
        self._demand(self._kernels.software_npu_install_parts(_lines(names)))

    def install_copies(self) -> None:
        """Put copies between host and device, and on the device, in place."""
        self._demand(self._kernels.software_npu_install_copies())

    def count(self) -> None:
        """Count the calls from now on."""
        self._kernels.software_npu_count(1)

    def counts(self) -> list[tuple[str, str, int]]:
        """Return operator, dtypes and number of calls; of copies, the way and whether the host waits."""
        text = self._kernels.software_npu_counts().decode()
        rows = (line.split("\t") for line in text.splitlines())
        return [(name, detail, int(number)) for name, detail, number in rows]

    def waits(self) -> dict[str, int]:
        """Return how often the host waited for what; copies, items and contents only since `count`."""
        numbers = (ctypes.c_long * len(WAITS)).in_dll(self._runtime, "software_npu_waits")
        return dict(zip(WAITS, numbers, strict=True))

    def graph_counts(self) -> dict[str, int]:
        """Return how many graphs were captured, how often one was replayed, how many of their tasks were updated."""
        numbers = (ctypes.c_long * len(GRAPHS)).in_dll(self._runtime, "software_npu_graph_counts")
        return dict(zip(GRAPHS, numbers, strict=True))

    def listen(self, told: Callable[[str], None] | None) -> None:
        """Call `told` with what the host waits for, in the thread that does, before each time; None: no more."""
        heard = _Listener() if told is None else _Listener(lambda kind: told(WAITS[kind]))
        self._runtime.software_npu_listen(heard)
        self._heard = heard  # kept, since the runtime has its address only

    def graphs(self) -> list[Graph]:
        """Return the graphs that there are, the newest first."""
        room = self._runtime.software_npu_graphs(None, 0)
        rows = ((ctypes.c_long * 4) * room)()
        self._runtime.software_npu_graphs(rows, room)
        return [Graph(*row) for row in rows]

    @staticmethod
    def _demand(problem: bytes | None) -> None:
        if problem is not None:
            raise OverlayError(f"the kernels of the software NPU cannot be registered: {problem.decode()}")


def _lines(names: Iterable[str]) -> bytes:
    return "".join(f"{name}\n" for name in names).encode()
