"""enable(), disable() and imports from several threads. Every wait has a limit: a deadlock fails, it does not hang."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

import ascend_overlay
from ascend_overlay import Overlay, api
from ascend_overlay.engine import engine as engine_module
from ascend_overlay.errors import ActivationError, OverlayError
from ascend_overlay.hooks import activation

LIMIT = 20.0
SLOW = """
    import sys, test_gate
    test_gate.entered.set()
    assert test_gate.go_on.wait(20)
    def run(): return "stock"
"""


def around(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> str:
    return f"<{wrapped()}>"


def overlay_of(name: str, *targets: str) -> Overlay:
    overlay = Overlay(name, reason="a test")
    for target in targets:
        overlay.wrap(target)(around)
    return overlay


class Task:
    """A thread whose exception is not lost."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._function()
        except BaseException as error:
            self.error = error

    def join(self) -> None:
        """Wait for the end, and raise what the thread raised."""
        self._thread.join(LIMIT)
        assert not self._thread.is_alive(), "deadlock"
        if self.error is not None:
            raise self.error


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, site: Any) -> Any:
    """A module whose import waits for the test."""
    module: Any = type(sys)("test_gate")
    module.entered, module.go_on = threading.Event(), threading.Event()
    monkeypatch.setitem(sys.modules, "test_gate", module)
    site.write({"slow.py": SLOW})
    yield module
    module.go_on.set()


def test_many_threads_enable_at_once(offer: Any, site: Any) -> None:
    site.write({"lib.py": "def run(): return 'stock'\n"})
    lib = importlib.import_module("lib")
    offer(overlay_of("one", "lib:run"), overlay_of("two", "lib:run"))
    barrier = threading.Barrier(8)

    def enable() -> None:
        barrier.wait(LIMIT)
        ascend_overlay.enable()

    for task in [Task(enable) for _ in range(8)]:
        task.join()
    assert lib.run() == "<<stock>>"
    assert [entry.state for entry in ascend_overlay.ledger()] == ["applied", "applied"]


def test_threads_that_import_while_others_enable_and_disable(offer: Any, site: Any) -> None:
    names = [f"part{index}" for index in range(12)]
    site.write({f"{name}.py": "def run(): return 'stock'\n" for name in names})
    offer(*(overlay_of(f"on_{name}", f"{name}:run") for name in names))
    barrier = threading.Barrier(5)

    def load(mine: list[str]) -> None:
        barrier.wait(LIMIT)
        for name in mine:
            importlib.import_module(name)

    def switch() -> None:
        barrier.wait(LIMIT)
        for _ in range(5):
            ascend_overlay.enable()
            ascend_overlay.disable()
        ascend_overlay.enable()

    tasks = [Task(lambda mine=names[index::4]: load(mine)) for index in range(4)] + [Task(switch)]
    for task in tasks:
        task.join()
    for name in names:
        assert sys.modules[name].run() == "<stock>", name
    ascend_overlay.disable()
    for name in names:
        assert sys.modules[name].run() == "stock", name


def test_enable_during_the_import_of_the_target_in_another_thread(offer: Any, gate: Any) -> None:
    offer(overlay_of("one", "slow:run"))
    importer = Task(lambda: importlib.import_module("slow"))
    assert gate.entered.wait(LIMIT)
    enabler = Task(ascend_overlay.enable)
    gate.go_on.set()
    importer.join()
    enabler.join()
    assert sys.modules["slow"].run() == "<stock>"
    assert [entry.state for entry in ascend_overlay.ledger()] == ["applied"]


def test_module_that_enables_while_another_thread_waits_for_it(offer: Any, site: Any, gate: Any) -> None:
    """Thread 1 is in enable() and waits for the import that thread 2 is in; that import calls enable(), too."""
    site.write({"calls.py": SLOW.rstrip() + "\n    import ascend_overlay; ascend_overlay.enable()\n"})
    offer(overlay_of("one", "calls:run"))
    importer = Task(lambda: importlib.import_module("calls"))
    assert gate.entered.wait(LIMIT)
    enabler = Task(ascend_overlay.enable)
    gate.go_on.set()
    importer.join()
    enabler.join()
    assert sys.modules["calls"].run() == "<stock>"


def test_enable_inside_the_import_of_the_target_itself(offer: Any, site: Any) -> None:
    site.write(
        {
            "selfish.py": "import ascend_overlay\nascend_overlay.enable()\ndef run(): return 'stock'\n",
            "after.py": "",
        }
    )
    offer(overlay_of("one", "selfish:run"))
    selfish = importlib.import_module("selfish")
    importlib.import_module("after")
    assert selfish.run() == "<stock>"
    assert [entry.state for entry in ascend_overlay.ledger()] == ["applied"]


def test_failure_in_a_module_that_is_waited_for_takes_everything_back(offer: Any, gate: Any) -> None:
    offer(overlay_of("one", "slow:missing"))
    importer = Task(lambda: importlib.import_module("slow"))
    assert gate.entered.wait(LIMIT)
    enabler = Task(ascend_overlay.enable)
    gate.go_on.set()
    errors = []
    for task in (importer, enabler):
        try:
            task.join()
        except OverlayError as error:
            errors.append(str(error))
    assert len(errors) == 1 and "slow:missing" in errors[0]
    assert api._engine._state.units.keys() <= {"one"}
    assert [entry.state for entry in ascend_overlay.ledger()] == ["failed"]


def test_blocked_enable_says_so(offer: Any, engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with engine.locks[0].held():
            held.set()
            release.wait(LIMIT)

    task = Task(hold)
    assert held.wait(LIMIT)
    with pytest.raises(ActivationError, match=r"another thread has been in enable\(\).*call enable\(\) before"):
        engine.enable(engine.settings(), patience=0.05)
    monkeypatch.setattr(engine_module, "_PATIENCE", 0.05)
    monkeypatch.setenv("ASCEND_OVERLAY", "1")
    activation.start()
    release.set()
    task.join()


def test_hidden_import_is_caught_up_with(offer: Any, site: Any) -> None:
    """Another finder that comes before ours and finds the module by itself hides its import."""
    site.write({"lib.py": "def run(): return 'stock'\n"})
    offer(overlay_of("one", "lib:run"))
    ascend_overlay.enable()
    ours = sys.meta_path.pop(0)
    lib = importlib.import_module("lib")
    sys.meta_path.insert(0, ours)
    assert lib.run() == "stock"
    assert [entry.state for entry in ascend_overlay.ledger()] == ["applied"]
    assert lib.run() == "<stock>"
