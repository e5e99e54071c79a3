"""Which graph is being captured, for operators that take numbers from the host.

A captured graph has such numbers as they were. torch_npu changes those of attention in a graph, by NPUGraph.update(),
where its recording mode saw the call; entered around the capture, the mode does not see into operators of Python, as
vLLM's attention is one. So a layer enters it itself, and has to: what is captured without it is frozen, and no replay
says so.

What writes to tensors that are given (NAME.out) needs room to work in that the graph keeps, which torch_npu makes for
the plain call only; here it is made for the other.

Nothing here imports torch_npu: without a card there is no graph, and nothing to be recorded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ascend_overlay.errors import OverlayError

_NOTHING = contextlib.nullcontext()


class Captured(Protocol):
    """A graph that is captured.

    Attributes:
        graph_dispatch_mode: torch_npu's recording mode of the graph.
        layers: of which layer each recorded call is, in their order.
    """

    graph_dispatch_mode: Any
    layers: list[str]


_Mode: Any = TorchDispatchMode


class _WithWorkspace(_Mode):  # type: ignore[misc, unused-ignore]
    """Gives a call that writes to given tensors its room."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        if func._overloadname == "out" and func.namespace == "npu" and options.get("workspace") is None:
            operator = func._schema.name.removeprefix("npu::")
            arguments = {name: value for name, value in options.items() if name not in ("out", "workspace")}
            room = getattr(torch.ops.npu, f"_{operator}_get_max_workspace")(*args, **arguments)
            options = {**options, "workspace": room}
        return func(*args, **options)


_captured: list[Captured] = []


def begin(graph: Captured) -> None:
    """Tell that `graph` is captured from now on."""
    _captured.append(graph)


def end(graph: Captured) -> None:
    """Tell that it is not any more."""
    if graph in _captured:
        _captured.remove(graph)


def current() -> Captured | None:
    """Return the graph that is captured, if one is: what is made in it belongs to it."""
    return _captured[-1] if _captured else None


def recorded(layer: Any) -> contextlib.AbstractContextManager[Any]:
    """Return a context for the one call of attention of vLLM's `layer`, in which a graph that is captured records it.

    Raises:
        OverlayError: torch_npu did not record the call.
    """
    return _recording(_captured[-1], layer.layer_name) if _captured else _NOTHING


def see_a_step(metadata: Any, layer: Any) -> None:
    """See that what vLLM's `layer` does is not captured without a step that says what to do.

    Raises:
        OverlayError: it is. A replay would do nothing in its place.
    """
    if metadata is None and _captured:
        raise OverlayError(
            f"the attention of the layer {layer.layer_name!r} is being captured in a graph without a batch to attend "
            f"to, and replays would leave it out: vLLM neither splits the graph there nor marks the operator. Serve "
            f"with --enforce-eager, and please report the model and its configuration."
        )


@contextlib.contextmanager
def _recording(graph: Captured, layer: str) -> Iterator[None]:
    mode = graph.graph_dispatch_mode
    before = len(mode.graph_dispatch_records)
    with mode, _WithWorkspace():
        yield
    made = len(mode.graph_dispatch_records) - before
    if made != 1:
        raise OverlayError(
            f"torch_npu recorded {made} calls of attention where the layer {layer!r} made one, in a graph that is "
            f"being captured: its lengths would stay those of the capture. Serve with --enforce-eager, and please "
            f"report the release of torch_npu."
        )
    graph.layers.append(layer)
