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


def test_what_writes_to_given_tensors_gets_room_that_the_graph_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from torch.utils._python_dispatch import TorchDispatchMode

    from ascend_overlay import npu

    npu.load("npu_fused_infer_attention_score_v2.out")
    room, given = torch.zeros(3), {}

    class Recording(TorchDispatchMode):
        """As torch_npu's: what it calls itself, it does not see."""

        def __init__(self) -> None:
            super().__init__()
            self.graph_dispatch_records: list[Any] = []

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func.__name__ == "npu_fused_infer_attention_score_v2.out":
                self.graph_dispatch_records.append(kwargs["workspace"])
            return func(*args, **kwargs or {})

    def workspace(*args: Any, **options: Any) -> Any:
        given.update(options)
        return room

    name = "_npu_fused_infer_attention_score_v2_get_max_workspace"
    monkeypatch.setattr(torch.ops.npu, name, workspace, raising=False)
    one = SimpleNamespace(graph_dispatch_mode=Recording(), layers=[])
    x = torch.ones(2, 1, 16, dtype=torch.bfloat16)
    out = [torch.zeros_like(x), torch.empty(0, dtype=torch.float32)]
    lengths = {"actual_seq_qlen": [1, 2], "actual_seq_kvlen": [1, 2], "input_layout": "TND"}
    captures.begin(one)
    try:
        with captures.recorded(LAYERS[0]):
            torch.ops.npu.npu_fused_infer_attention_score_v2.out(x, x, x, **lengths, out=out)
    finally:
        captures.end(one)
    (recorded,) = one.graph_dispatch_mode.graph_dispatch_records
    assert recorded is room
    # Of the call itself, not of where it writes to.
    assert given.keys() >= {"actual_seq_qlen", "input_layout"} and not given.keys() & {"out", "workspace"}
    assert torch.equal(out[0], x)
