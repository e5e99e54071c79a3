"""Looking at what all threads execute leaves the collector of garbage as it was, however many look at once."""

from __future__ import annotations

import gc
import sys
import threading

import pytest

from ascend_overlay.places import frames


@pytest.mark.parametrize("on", [True, False])
def test_the_collector_is_left_as_it_was(on: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if on else gc.disable)()
        assert threading.get_ident() in frames.tops()
        assert gc.isenabled() == on
    finally:
        (gc.enable if before else gc.disable)()


def test_who_comes_while_another_thread_looks_does_not_leave_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    came, go, looked = threading.Event(), threading.Event(), []
    genuine = sys._current_frames

    def slow() -> dict[int, object]:
        if threading.current_thread() is first:
            came.set()
            assert go.wait(20)
        looked.append(gc.isenabled())
        return genuine()  # type: ignore[return-value]

    monkeypatch.setattr(sys, "_current_frames", slow)
    first = threading.Thread(target=frames.tops)
    first.start()
    assert came.wait(20)
    frames.tops()
    assert not gc.isenabled(), "the first still looks"
    go.set()
    first.join(20)
    assert gc.isenabled() and looked == [False, False]


def test_the_caller_is_not_among_the_frames() -> None:
    names = [frame.f_code.co_name for frame in frames.outside()]
    assert "test_the_caller_is_not_among_the_frames" not in names and names
