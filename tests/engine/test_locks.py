"""The lock of the engine: re-entrant, waited for in order, and never left behind, however its holder ended."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from ascend_overlay.engine.locks import Lock
from ascend_overlay.places import frames

LIMIT = 20.0


def in_thread(function: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def is_free(lock: Lock) -> bool:
    """Tell whether another thread gets it."""
    got: list[bool] = []

    def take() -> None:
        try:
            with lock.held(0.1):
                got.append(True)
        except TimeoutError:
            pass

    in_thread(take).join(LIMIT)
    return bool(got)


def test_it_is_reentrant_and_free_after_the_outermost_block() -> None:
    lock = Lock()
    with lock.held():
        with lock.held(), lock.held():
            assert not is_free(lock)
        assert not is_free(lock)
    assert is_free(lock)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ValueError])
def test_it_is_free_after_an_exception(error: type[BaseException]) -> None:
    lock = Lock()
    with pytest.raises(error), lock.held():
        raise error
    assert is_free(lock)


def test_a_holder_that_never_came_to_give_it_back_holds_nothing() -> None:
    """As where Ctrl-C comes between the taking and the block."""
    lock = Lock()

    def interrupted() -> None:
        lock.held().__enter__()
        assert not is_free(lock)

    interrupted()
    assert is_free(lock)
    with lock.held(0.1):
        assert not is_free(lock)


def test_a_thread_that_is_gone_holds_nothing() -> None:
    lock = Lock()
    in_thread(lambda: lock.take(None, None)).join(LIMIT)
    with lock.held(1.0):
        pass


def test_who_waits_gets_it_in_turn() -> None:
    lock = Lock()
    order: list[int] = []
    threads = []

    def wait(number: int) -> None:
        with lock.held(LIMIT):
            order.append(number)
            time.sleep(0.005)

    with lock.held():
        for number in range(6):
            threads.append(in_thread(lambda number=number: wait(number)))  # type: ignore[misc]
            while len(lock._queue) < number + 2:
                time.sleep(0.001)
    for thread in threads:
        thread.join(LIMIT)
    assert order == list(range(6))


def test_only_one_has_it_at_a_time() -> None:
    lock, inside, most = Lock(), [], []

    def work() -> None:
        for _ in range(30):
            with lock.held(LIMIT):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0001)
                inside.pop()

    threads = [in_thread(work) for _ in range(6)]
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert len(most) == 180 and set(most) == {1}


def test_who_waits_too_long_is_told_and_leaves_the_queue() -> None:
    lock = Lock()
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with lock.held():
            held.set()
            go_on.wait(LIMIT)

    thread = in_thread(hold)
    assert held.wait(LIMIT)
    with pytest.raises(ZeroDivisionError), lock.held(0.05, ZeroDivisionError("busy")):
        pytest.fail("not free")
    with pytest.raises(TimeoutError), lock.held(0):
        pytest.fail("not free")
    assert len(lock._queue) == 1
    go_on.set()
    thread.join(LIMIT)
    assert is_free(lock)


def test_a_fork_forgets_the_threads_that_are_not_there() -> None:
    lock = Lock()
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with lock.held():
            held.set()
            go_on.wait(LIMIT)

    in_thread(hold)
    assert held.wait(LIMIT)
    child = os.fork()
    if not child:
        lock.reset()
        status = 1
        try:
            with lock.held(1.0):
                status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    go_on.set()


GARBAGE = """
import gc, sys, threading
from ascend_overlay.engine.locks import Lock
from ascend_overlay.places import frames
class Garbage:
    def __init__(self): self.me = self
    def __del__(self): sys._current_frames()
lock = Lock()
go_on = threading.Event()
def hold():
    with lock.held(): go_on.wait(20)
thread = threading.Thread(target=hold); thread.start()
gc.set_threshold(1)
for _ in range(300):
    Garbage()
    frames.tops()
    frames.outside()
    try:
        with lock.held(0): pass
    except TimeoutError: pass
go_on.set()
thread.join()
"""


def test_garbage_that_looks_at_threads_does_not_stop_the_search() -> None:
    done = subprocess.run([sys.executable, "-c", GARBAGE], timeout=60, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_collector_is_left_as_it_was() -> None:
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            assert threading.get_ident() in frames.tops()
            assert gc.isenabled() is enabled
        finally:
            gc.enable()


def test_reset_forgets_other_threads_alone() -> None:
    lock, go, there = Lock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock.held():
            there.set()
            go.wait(LIMIT)

    other = in_thread(hold)
    assert there.wait(LIMIT) and not is_free(lock) and not lock.is_mine()
    lock.reset()
    assert is_free(lock)
    with lock.held(0):
        lock.reset()
        assert lock.is_mine() and not is_free(lock)
    assert is_free(lock)
    go.set()
    other.join(LIMIT)


def test_who_waits_gets_it_after_a_reset_too() -> None:
    lock, got = Lock(), threading.Event()
    place = lock.take(None, None)
    assert place is not None

    def wait() -> None:
        with lock.held(LIMIT):
            got.set()

    other = in_thread(wait)
    while len(lock._queue) < 2:
        time.sleep(0.001)
    # As a fork in another thread does; this thread has it still.
    lock.reset()
    time.sleep(0.05)
    lock.give_back(place)
    assert got.wait(LIMIT)
    other.join(LIMIT)
    assert is_free(lock)
