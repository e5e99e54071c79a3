"""Captured graphs of an NPU, as vLLM's wrappers for graphs of CUDA ask for them; streams.py gives them the names."""

from __future__ import annotations

import collections
import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import torch
from vllm.config import CUDAGraphMode
from vllm.distributed.parallel_state import GraphCaptureContext
from vllm.forward_context import get_forward_context, is_forward_context_available

import ascend_overlay
from ascend_overlay import settings
from ascend_overlay.errors import OverlayError
from ascend_overlay.npu import captures
from ascend_overlay.overlays.platform.current import Current

_npu: Any = torch.npu  # type: ignore[attr-defined, unused-ignore]

_logger = logging.getLogger("vllm.ascend_overlay")

CAPTURED, REPLAYED, UPDATED = "captured", "replayed", "updated"
counts: collections.Counter[str] = collections.Counter()
"""How many graphs this process captured, how often one was replayed, how many calls of attention got new lengths."""


class Graph(_npu.NPUGraph):  # type: ignore[misc, unused-ignore]
    """A graph that tells its attention the lengths of the batch whenever it is replayed.

    Attributes:
        layers: of which layer each recorded call of attention is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers: list[str] = []
        self._addresses: list[int] = []

    def capture_begin(self, *args: Any, **kwargs: Any) -> None:
        """Begin; layers find the graph by captures.py until it ends."""
        super().capture_begin(*args, **kwargs)
        captures.begin(self)

    def capture_end(self) -> None:
        """End.

        Raises:
            OverlayError: the lengths of a layer of the batch would stay those of the capture.
        """
        captures.end(self)
        super().capture_end()
        if frozen := _full() - set(self.layers):
            raise OverlayError(
                f"a graph was captured in which the lengths of {sorted(frozen)[0]!r} ({len(frozen)} layers) would stay "
                f"those of the capture, since their attention is not recorded. Serve with --enforce-eager, and please "
                f"report the model and its configuration."
            )
        if self.layers:
            self._addresses = _addresses(self._batch())
        counts[CAPTURED] += 1

    def replay(self) -> None:
        """Replay, with the lengths of the batch at hand."""
        if self.layers:
            batch = self._batch()
            if _addresses(batch) != self._addresses:
                raise OverlayError(
                    f"a graph with the attention of {self.layers[0]!r} in it would not read the batch at hand, which "
                    f"lies elsewhere than the one of the capture. Serve with --enforce-eager, and please report it."
                )
            # Lists of the last replay must not be changed before its operators have read them.
            if settings.current().graph_wait:
                _npu.current_stream().synchronize()
            else:
                # An update is a task of its stream, which CANN says it does in its turn.
                self.graph_dispatch_mode.update_stream.wait_stream(_npu.current_stream())
            super().replay()
            self.auto_dispatch_capture = True
            # On the device, the replay waits for it.
            self.update([metadata.graph_lists() for metadata in batch])
            counts[UPDATED] += len(batch)
        else:
            super().replay()
        counts[REPLAYED] += 1

    def _batch(self) -> list[Any]:
        """Return what each recorded call is told of the batch at hand."""
        batch = get_forward_context().attn_metadata
        if not isinstance(batch, dict) or not batch.keys() >= set(self.layers):
            raise OverlayError(
                f"a graph with the attention of {self.layers[0]!r} in it is to be replayed without a batch to attend "
                f"to. Serve with --enforce-eager, and please report the model and its configuration."
            )
        return [batch[layer] for layer in self.layers]


class Capturing(_npu.graph):  # type: ignore[misc, unused-ignore]
    """torch.npu.graph, which leaves its stream the current one where the end of a capture fails."""

    def __enter__(self) -> None:
        self._before = _npu.current_stream()
        super().__enter__()

    def __exit__(self, *error: Any) -> None:
        try:
            super().__exit__(*error)
        finally:
            _npu.set_stream(self._before)


@contextlib.contextmanager
def capture(
    device: torch.device, graph_capture_context: GraphCaptureContext | None = None
) -> Iterator[GraphCaptureContext]:
    """Have `device` on another stream, on which graphs are captured: vllm.distributed.parallel_state.graph_capture.

    vLLM's own prepares the communicators of the groups besides, and knows those of CUDA and XPU. hccl needs nothing.

    Args:
        device: of this process.
        graph_capture_context: has the stream to take. vLLM's runner has one for ROCm alone, before 0.31.

    Raises:
        OverlayError: a graph could not be captured. The stream is the one before all the same.
    """
    stream = _npu.Stream(device=device) if graph_capture_context is None else graph_capture_context.stream
    before = _npu.current_stream()
    stream.wait_stream(before)
    try:
        with Current(stream):
            yield GraphCaptureContext(stream)
    except RuntimeError as error:
        text = str(error).strip().partition("\n")[0]
        raise OverlayError(
            f"on the NPU platform, a graph could not be captured: {text}. Serve without graphs: --enforce-eager."
        ) from error
    finally:
        _npu.set_stream(before)
    before.wait_stream(stream)


def see_some() -> None:
    """Warn where vLLM was to capture graphs and has captured none."""
    if not counts[CAPTURED]:
        text = "no graph was captured, though the configuration asks for them: the model runs eagerly"
        ascend_overlay.note("platform", text)
        _logger.warning("On the NPU platform, %s. Please report the model and its configuration.", text)


def report() -> None:
    """Say how many graphs this process had and how often they were of use, in the log and in the ledger; forget it."""
    if not counts[CAPTURED]:
        return
    used = f"replayed {counts[REPLAYED]} times" if counts[REPLAYED] else "none of which was ever replayed"
    text = f"{counts[CAPTURED]} graphs were captured, {used}; {counts[UPDATED]} calls of attention got new lengths"
    ascend_overlay.note("platform", text)
    _logger.info("In this process, %s.", text)
    counts.clear()


def _addresses(batch: list[Any]) -> list[int]:
    """Return where the graph finds what it reads of a batch, of which layers share the most."""
    different = {id(metadata): metadata for metadata in batch}.values()
    return [tensor.data_ptr() for metadata in different for tensor in metadata.graph_tensors()]


def _full() -> set[str]:
    """Return the layers of the batch whose attention must be in the graph that is captured."""
    if not is_forward_context_available():
        return set()
    context = get_forward_context()
    if context.cudagraph_runtime_mode != CUDAGraphMode.FULL:
        return set()
    return set(context.attn_metadata or ())
