"""What layers do with a graph that is being captured: record their attention in it, or fail."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ascend_overlay.errors import OverlayError
from ascend_overlay.npu import captures


class Mode:
    """Torch_npu's recording mode, which sees `sees` calls."""

    def __init__(self, sees: int) -> None:
        self.graph_dispatch_records: list[object] = []
        self._sees = sees

    def __enter__(self) -> None:
        self.graph_dispatch_records += [object()] * self._sees

    def __exit__(self, *error: object) -> None:
        pass


def graph(sees: int = 1) -> Any:
    return SimpleNamespace(graph_dispatch_mode=Mode(sees), layers=[])


LAYERS = [SimpleNamespace(layer_name=f"layers.{number}") for number in range(2)]


@pytest.fixture
def captured() -> Iterator[Any]:
    one = graph()
    captures.begin(one)
    yield one
    captures.end(one)


def test_without_a_graph_nothing_is_recorded_and_nothing_refused() -> None:
    with captures.recorded(None):
        pass
    captures.see_a_step(None, LAYERS[0])
    # One of which the capture failed before it began.
    captures.end(graph())


def test_each_layer_is_recorded_in_the_graph(captured: Any) -> None:
    for layer in LAYERS:
        with captures.recorded(layer):
            pass
        captures.see_a_step(object(), layer)
    assert captured.layers == ["layers.0", "layers.1"]
    captures.end(captured)
    with captures.recorded(LAYERS[0]):
        pass
    assert captured.layers == ["layers.0", "layers.1"]


@pytest.mark.parametrize("sees", [0, 2])
def test_what_is_not_recorded_once_is_an_error(sees: int) -> None:
    one = graph(sees)
    captures.begin(one)
    try:
        sentence = f"recorded {sees} calls .* the layer 'layers.0' made one"
        with pytest.raises(OverlayError, match=sentence), captures.recorded(LAYERS[0]):
            pass
        assert one.layers == []
    finally:
        captures.end(one)


def test_an_error_in_the_layer_stays_that_error(captured: Any) -> None:
    with pytest.raises(ZeroDivisionError), captures.recorded(LAYERS[0]):
        raise ZeroDivisionError
    assert captured.layers == []


def test_attention_without_a_step_must_not_be_captured(captured: Any) -> None:
    with pytest.raises(OverlayError, match=r"'layers\.1' is being captured .* without a batch .*--enforce-eager"):
        captures.see_a_step(None, LAYERS[1])
