"""Forks while another thread enables or disables: the child has all of it or nothing, and never hangs."""

from __future__ import annotations

from typing import Any

import pytest

PACKAGE = {
    "lib.py": "\n".join(f"def f{index}(): return 'stock'" for index in range(20)) + "\nKEYS = {f0: 1}\n",
    "impl.py": "def f1(): return 'ours'\n",
    "fork_plugin.py": """
        from ascend_overlay import Overlay
        from ascend_overlay.hooks import hookimpl
        one = Overlay("one", reason="a test")
        for index in range(20):
            one.wrap(f"lib:f{index}")(lambda wrapped, instance, args, kwargs: "ours")
        @hookimpl
        def ascend_overlay_overlays(): return [one]
    """,
}
PROGRAM = """
    import multiprocessing, os, sys, threading, time
    import ascend_overlay, lib
    TIMES = {times}
    def seen():
        return [getattr(lib, f"f{{index}}")() for index in range(20)]
    def whole():
        values = seen()
        held = next(iter(lib.KEYS))()
        states = {{entry.state for entry in ascend_overlay.ledger().of("one")}}
        again = seen()
        if len(set(again)) > 1 or held not in set(values): return 1
        if len(set(values)) > 1: return 2
        if (again[0] == "ours") != (states == {{"applied"}}): return 3
        ascend_overlay.enable(load=["fork_plugin"], only=["one"], propagate=False)
        if set(seen()) != {{"ours"}}: return 4
        ascend_overlay.disable()
        if set(seen()) != {{"stock"}} or next(iter(lib.KEYS))() != "stock": return 5
        return 0
    def child():
        status = 9
        try:
            status = whole()
        finally:
            sys.stderr.flush()
            os._exit(status)
    def switch():
        while not done.is_set():
            ascend_overlay.enable(load=["fork_plugin"], only=["one"], propagate=False)
            ascend_overlay.disable()
    def wait_for(pid):
        for _ in range(2000):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found: return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        os.kill(pid, 9)
        return "hangs"
    if __name__ == "__main__":
        done = threading.Event()
        ascend_overlay.enable(load=["fork_plugin"], only=["one"], propagate=False)
        ascend_overlay.disable()
        thread = threading.Thread(target=switch, daemon=True)
        thread.start()
        results = []
        for number in range(TIMES):
            time.sleep(0.001 * (number % 7))
            if {forks!r} == "os":
                pid = os.fork()
                if not pid: child()
                results.append(wait_for(pid))
            else:
                process = multiprocessing.get_context("fork").Process(target=child)
                process.start()
                process.join(20)
                results.append(process.exitcode if process.exitcode is not None else "hangs")
        done.set()
        thread.join(20)
        print("RESULT", sorted(set(map(str, results))), thread.is_alive())
"""


@pytest.mark.parametrize("forks", ["os", "multiprocessing"])
def test_a_child_has_all_or_nothing(python: Any, site: Any, forks: str) -> None:
    site.write(PACKAGE)
    done = python.script(PROGRAM.format(forks=forks, times=50), timeout=300)
    assert "RESULT ['0'] False" in done.stdout, done.stdout + done.stderr[-3000:]
