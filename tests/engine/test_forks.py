"""A fork while another thread is in enable(): the child has all of it or nothing, and does not wait for ever."""

from __future__ import annotations

import importlib
import os
import threading
import time
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay


@pytest.fixture
def lib(site: Any) -> Any:
    site.write({"lib.py": "def first(): return 'stock'\ndef second(): return 'stock'\n"})
    return importlib.import_module("lib")


def in_child(work: Any) -> int:
    child = os.fork()
    if child == 0:
        code = 70
        try:
            code = int(not work())
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def around(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> str:
    return f"<{wrapped()}>"


def test_the_child_of_a_process_whose_other_thread_enables_has_all_of_it(offer: Any, lib: Any) -> None:
    begun = threading.Event()

    def slowly() -> None:
        begun.set()
        time.sleep(0.5)

    overlay = Overlay("one", reason="a test")
    overlay.wrap("lib:first")(around)
    overlay.call("lib", do=slowly, irreversible=True)
    overlay.wrap("lib:second")(around)
    offer(overlay)
    thread = threading.Thread(target=ascend_overlay.enable)
    thread.start()
    assert begun.wait(10)

    def all_of_it() -> bool:
        states = {entry.state for entry in ascend_overlay.ledger()}
        return lib.first() == lib.second() == "<stock>" and states == {"applied"}

    assert in_child(all_of_it) == 0
    thread.join()


def test_both_go_on_by_themselves(offer: Any, lib: Any) -> None:
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lib:first")(around)
    offer(overlay)

    def enables() -> bool:
        ascend_overlay.enable()
        patched = lib.first() == "<stock>"
        ascend_overlay.disable()
        return patched and lib.first() == "stock"

    assert in_child(enables) == 0
    assert lib.first() == "stock" and enables()


def test_a_fork_inside_of_enable(offer: Any, lib: Any) -> None:
    """The child takes up nothing that it cannot finish, and the parent does not lose its locks."""
    codes: list[int] = []
    overlay = Overlay("one", reason="a test")
    overlay.call("lib", do=lambda: codes.append(in_child(lambda: lib.first() == "stock")), irreversible=True)
    overlay.wrap("lib:second")(around)
    offer(overlay)
    ascend_overlay.enable()
    assert codes == [0] and lib.second() == "<stock>"


FIRST_USES = {
    "ascend_overlay.engine.engine": "ascend_overlay.ledger()",
    "ascend_overlay.patches.attributes": "ascend_overlay.Overlay('one', reason='a test').attribute('json:name', 1)",
}


@pytest.mark.parametrize("slow", FIRST_USES)
def test_a_fork_while_another_thread_imports_the_library(python: Any, slow: str) -> None:
    """The first use of a name of the package, or of a kind of patch, imports what is behind it."""
    done = python.script(
        f"""
        import os, signal, sys, threading, time
        import ascend_overlay

        class Slow:
            def find_spec(self, name, path=None, target=None):
                if name == "{slow}":
                    begun.set()
                    time.sleep(1)

        def use():
            {FIRST_USES[slow]}

        begun = threading.Event()
        sys.meta_path.insert(0, Slow())
        thread = threading.Thread(target=use)
        thread.start()
        assert begun.wait(30)
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            use()
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        thread.join()
        """
    )
    assert done.stdout.strip() == "7", done


def test_after_a_fork_other_threads_of_both_go_on(offer: Any, lib: Any) -> None:
    overlay = Overlay("one", reason="a test")
    overlay.wrap("lib:first")(around)
    offer(overlay)

    def in_a_thread() -> bool:
        thread = threading.Thread(target=ascend_overlay.enable, daemon=True)
        thread.start()
        thread.join(10)
        return not thread.is_alive() and bool(lib.first() == "<stock>")

    assert in_child(in_a_thread) == 0
    assert in_a_thread()
