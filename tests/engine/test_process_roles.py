"""Children of this process: spawned, forked, and plain Python processes, all with the overlays of the parent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

PLUGIN = """
    from ascend_overlay import Overlay
    from ascend_overlay.conditions import role
    from ascend_overlay.hooks import hookimpl
    one = Overlay("one", reason="a test")
    one.wrap("lib:run")(lambda wrapped, instance, args, kwargs: f"<{wrapped()}>")
    cores = Overlay("cores", reason="a test", when=role("engine_core"))
    cores.wrap("lib:core")(lambda wrapped, instance, args, kwargs: f"<{wrapped()}>")
    @hookimpl
    def ascend_overlay_overlays(): return [one, cores]
"""
LIB = "def run(): return 'stock'\ndef core(): return 'stock'\n"
# The child imports a module called vllm, which is what the automatic ways in wait for.
CHILD = "import vllm, lib; print(lib.run())"
MAIN = """
    import json, multiprocessing, os, subprocess, sys, time

    def work(queue):
        import vllm, lib
        from ascend_overlay import process
        queue.put((lib.run(), lib.core(), sorted(process.roles())))

    if __name__ == "__main__":
        import ascend_overlay
        ascend_overlay.enable(only=["one", "cores"], load=["plug"], ledger="ledgers")
        import lib
        out = {"here": lib.run()}
        for method in ("spawn", "fork", "forkserver"):
            context = multiprocessing.get_context(method)
            for name in (None, "EngineCore"):
                queue = context.Queue()
                process = context.Process(target=work, args=(queue,), name=name)
                process.start()
                out[f"{method} {name}"] = queue.get(timeout=50)
                process.join(30)
        out["python -c"] = subprocess.check_output([sys.executable, "-c", %r], text=True).strip()
        read, write = os.pipe()
        if os.fork() == 0:
            os.write(write, lib.run().encode())
            os._exit(0)
        out["os.fork"] = os.read(read, 100).decode()
        os.wait()
        ascend_overlay.disable()
        out["after"] = subprocess.check_output([sys.executable, "-c", %r], text=True).strip()
        print(json.dumps(out))
"""


@pytest.fixture
def packages(site: Any) -> None:
    site.vllm("0.26.0")
    site.write({"lib.py": LIB, "plug.py": PLUGIN})


@pytest.fixture(autouse=True)
def _own_engine() -> None:
    """The tests here run in other processes."""


def test_all_kinds_of_children(packages: None, python: Any, site: Any) -> None:
    out = json.loads(python.script(MAIN % (CHILD, CHILD)).stdout)
    assert out.pop("here") == "<stock>"
    assert out.pop("after") == "stock"
    assert out.pop("python -c") == out.pop("os.fork") == "<stock>"
    for kind, (run, core, roles) in out.items():
        assert run == "<stock>", kind
        if kind.endswith("EngineCore"):
            assert (core, roles) == ("<stock>", ["engine_core"]), kind
        else:
            assert (core, roles) == ("stock", ["child"]), kind

    ledgers = [json.loads(path.read_text()) for path in sorted((site.folder / "ledgers").glob("*.json"))]
    roles = sorted(ledger["process"]["role"] for ledger in ledgers)
    assert roles.count("engine_core") == 3 and roles.count("child") == 3
    assert len({ledger["process"]["pid"] for ledger in ledgers}) == len(ledgers)
    for ledger in ledgers:
        states = {each["overlay"]: each["state"] for each in ledger["entries"] if not each["machinery"]}
        if ledger["process"]["role"] == "engine_core":
            assert states == {"one": "applied", "cores": "applied"}
        elif ledger["process"]["role"] == "child":
            assert states == {"one": "applied", "cores": "skipped"}


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_child_writes_its_ledger_at_its_end(packages: None, python: Any, site: Any, method: str) -> None:
    """Counts of operators change without any event that writes the file, so its end must."""
    python.script(
        f"""
        import multiprocessing, sys, types

        def work():
            import vllm, lib
            tracing = types.ModuleType("ascend_overlay.npu.tracing")
            tracing.counts = lambda: {{"npu_rms_norm": 7}}
            sys.modules["ascend_overlay.npu.tracing"] = tracing

        if __name__ == "__main__":
            import ascend_overlay
            ascend_overlay.enable(only=["one"], load=["plug"], ledger="ledgers")
            process = multiprocessing.get_context({method!r}).Process(target=work, name="VllmWorker-0")
            process.start()
            process.join(50)
            assert process.exitcode == 0
        """
    )
    (path,) = (site.folder / "ledgers").glob("worker-*.json")
    assert json.loads(path.read_text())["operators"] == {"npu_rms_norm": 7}


def test_plugin_registered_by_hand_is_missed_with_advice(packages: None, python: Any) -> None:
    done = python.script(
        """
        import multiprocessing

        def work():
            import vllm

        if __name__ == "__main__":
            import ascend_overlay, plug
            ascend_overlay.register(plug)
            ascend_overlay.enable(only=["one"])
            notes = [text for _, text in ascend_overlay.ledger().notes]
            assert "processes started from here do not have it" in notes[0]
            process = multiprocessing.get_context("spawn").Process(target=work)
            process.start()
            process.join(50)
            assert process.exitcode == 1
        """
    )
    assert "there is no overlay 'one'" in done.stderr
    assert "registered by hand is not known in this child process: name its module in enable(load=...)" in done.stderr


def test_child_that_is_killed_leaves_a_readable_ledger(packages: None, python: Any, site: Any) -> None:
    python.script(
        """
        import multiprocessing, os, signal, time

        def work():
            import vllm, lib
            os.kill(os.getpid(), signal.SIGKILL)

        if __name__ == "__main__":
            import ascend_overlay
            ascend_overlay.enable(only=["one"], load=["plug"], ledger="ledgers")
            process = multiprocessing.get_context("spawn").Process(target=work, name="EngineCore")
            process.start()
            process.join(50)
            assert process.exitcode == -signal.SIGKILL
        """
    )
    from ascend_overlay.ledgers import read_folder

    folder = site.folder / "ledgers"
    (folder / "worker-1.tmp").write_text('{"process": {')  # what a process leaves that is killed while it writes
    ledgers = {ledger.process["role"]: ledger for ledger in read_folder(folder)}
    assert [entry.state for entry in ledgers["engine_core"].of("one")] == ["applied"]
    assert Path(folder).exists()
