"""Processes that do not inherit the environment, or do not read it, have what their parent has, or are refused."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ascend_overlay.hooks.carried import Carried

STUB = {
    "vllm/plugins.py": "def load_general_plugins(): pass\n",
    "vllm/v1/engine/core.py": """
        import msgspec
        class EngineCore:
            def __init__(self): pass
        class EngineCoreProc:
            @staticmethod
            def startup_handshake(handshake_socket, local_client):
                handshake_socket.send(msgspec.msgpack.encode({"status": "HELLO"}))
                return msgspec.msgpack.decode(handshake_socket.recv())
        """,
    "vllm/v1/engine/utils.py": """
        import msgspec
        def wait_for_engine_startup(handshake_socket, engines):
            rank, data = handshake_socket.recv_multipart()
            handshake_socket.send_multipart((rank, msgspec.msgpack.encode({"addresses": 1})), copy=False)
            return msgspec.msgpack.decode(data)
        """,
    "vllm/v1/worker/worker_base.py": "class WorkerWrapperBase:\n    def __init__(self): pass\n",
    "vllm/v1/executor/multiproc_executor.py": """
        class WorkerProc:
            @staticmethod
            def wait_for_ready(processes):
                for process in processes:
                    process.join()
                    if process.exitcode:
                        raise Exception("See stack trace for root cause.")
        """,
    "vllm/v1/executor/abstract.py": """
        class Executor:
            def __init__(self, run):
                self.run = run
            def collective_rpc(self, method):
                return [self.run(method)]
        """,
    "vllm/model_executor/models/registry.py": """
        import os, pickle, subprocess, sys
        import cloudpickle
        FLAGS = []
        ENVIRONMENT = {}
        def _run_in_subprocess(fn):
            code = f"import sys; sys.path[:] = {sys.path!r}; import pickle, vllm; "
            code += "print(pickle.loads(sys.stdin.buffer.read())())"
            command = [sys.executable, *FLAGS, "-c", code]
            done = subprocess.run(command, input=cloudpickle.dumps(fn), capture_output=True, env=ENVIRONMENT)
            return done.stdout.decode() or done.stderr.decode()
        """,
}
PLUGIN = """
    from ascend_overlay import Overlay
    from ascend_overlay.hooks import hookimpl
    one = Overlay("one", reason="a test")
    one.wrap("lib:run")(lambda wrapped, instance, args, kwargs: f"<{wrapped()}>")
    one.add("vllm:added", 1)
    @hookimpl
    def ascend_overlay_overlays(): return [one]
"""
BEGIN = """
import multiprocessing, os, sys
sys.path[:0] = %r
if sys.flags.no_site and __name__ == "__main__":
    import site
    site.main()
def child(connection):
    import vllm, lib
    connection.send(f"{lib.run()} {getattr(vllm, 'added', None)}")
def start(method, name="EngineCore"):
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(theirs,), name=name)
    process.start()
    theirs.close()
    try:
        print(ours.recv())
    except EOFError:
        print("died")
    process.join()
def enable(*names, load=("plug",), **more):
    import ascend_overlay
    from ascend_overlay.overlays import OVERLAYS
    ascend_overlay.enable(*names, load=load, exclude=[name for name in OVERLAYS if name != "roles"], **more)
"""
MAIN = "if __name__ == '__main__':\n    "
LEFT_OUT = "-caches,-registry,-layer_registry,-vllm_cpu,-platform"
NOT_READ = {
    "plain": "pass",
    "emptied": "os.environ.clear()",
    "PYTHONPATH replaced": "os.environ['PYTHONPATH'] = '/nowhere'",
    "other plugins": "os.environ |= {'VLLM_PLUGINS': 'lora', 'TORCH_DEVICE_BACKEND_AUTOLOAD': '0', 'PYTHONPATH': ''}",
}


@pytest.fixture(autouse=True)
def _own_engine() -> None:
    """The tests here run in other processes."""


@pytest.fixture(autouse=True)
def _packages(site: Any) -> None:
    site.vllm("0.32.0", STUB)
    site.write({"lib.py": "def run(): return 'stock'\n", "plug.py": PLUGIN})


def _run(
    python: Any, body: str, *flags: str, before: str = "", check: bool = True, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a script whose main part is `body`, lines parted by semicolons; packages are found without PYTHONPATH."""
    path = python.folder / "script.py"
    path.write_text(BEGIN % [path for path in sys.path if path] + before + MAIN + body.replace("\n", "\n    ") + "\n")
    done: subprocess.CompletedProcess[str] = python(*flags, str(path), env=env, check=check)
    return done


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("change", NOT_READ)
def test_children_that_read_no_environment(python: Any, method: str, change: str) -> None:
    if method == "forkserver" and change not in ("plain", "emptied"):
        pytest.skip("what is not read is not read by either")
    done = _run(python, f"enable('one'); {NOT_READ[change]}; start({method!r})")
    assert done.stdout == "<stock> 1\n", done.stderr


@pytest.mark.parametrize("flag", ["-I", "-E", "-S"])
def test_children_of_isolated_interpreters(python: Any, flag: str) -> None:
    done = _run(python, "enable('one'); os.environ.clear(); start('spawn')", flag)
    # Without site there are no finders of editable installs.
    assert done.stdout == "<stock> 1\n" or (flag == "-S" and _is_refused(done)), done.stderr


def _is_refused(done: subprocess.CompletedProcess[str]) -> bool:
    return done.stdout == "died\n" and "has no ascend_overlay: vLLM would run without them" in done.stderr


def test_forkserver_that_was_there_before(python: Any) -> None:
    done = _run(python, "start('forkserver'); enable('one'); start('forkserver')")
    assert done.stdout == "stock None\n<stock> 1\n"


def test_forkserver_that_has_imported_vllm(python: Any) -> None:
    preload = "multiprocessing.set_forkserver_preload(['vllm', 'lib'])"
    assert (
        _run(python, f"{preload}; start('forkserver'); enable('one'); start('forkserver')").stdout
        == "stock None\n<stock> 1\n"
    )


def test_interpreter_of_another_environment(python: Any, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "other"], check=True)
    other = str(tmp_path / "other" / "bin" / "python")
    done = _run(python, f"enable('one'); multiprocessing.set_executable({other!r}); start('spawn')", check=False)
    # It has the search path of its parent; what a finder of the parent's environment finds it has not.
    assert done.stdout == "<stock> 1\n" or _is_refused(done), done.stderr


@pytest.mark.parametrize("value", ["0", "off"])
def test_children_that_are_to_have_none(python: Any, value: str) -> None:
    done = _run(python, f"enable('one'); os.environ['ASCEND_OVERLAY'] = {value!r}; start('spawn')")
    assert done.stdout == "stock None\n"
    assert _run(python, "enable('one', propagate=False); start('spawn')").stdout == "stock None\n"
    assert _run(python, "enable('one'); import ascend_overlay; ascend_overlay.disable(); start('spawn')").stdout == (
        "stock None\n"
    )


@pytest.mark.parametrize("strict", ["1", "0"])
@pytest.mark.parametrize("value", ["0", "off"])
def test_a_child_whose_own_environment_switches_them_off(python: Any, value: str, strict: str) -> None:
    """As of one rank alone: it is stock vLLM, so the process that started it does not go on with it."""
    body = f"enable('one'); multiprocessing.set_executable({_switched_off(python, value)!r}); start('spawn')"
    done = _run(python, body, ASCEND_OVERLAY_STRICT=strict)
    if strict == "0":
        assert done.stdout == "stock None\n" and "RuntimeWarning: the engine_core process" in done.stderr
    else:
        assert done.stdout == "died\n" and "errors.ProcessError: the engine_core process " in done.stderr
    assert f"one (ASCEND_OVERLAY={value} switches all off there)" in done.stderr
    assert f"ASCEND_OVERLAY {value!r}" in done.stderr


def _switched_off(python: Any, value: str) -> str:
    """Return an interpreter that has a switch of its own in its environment."""
    shell: Path = python.folder / "stock_python"
    shell.write_text(f'#!/bin/sh\nexport ASCEND_OVERLAY={value}\nexec {sys.executable} "$@"\n')
    shell.chmod(0o755)
    return str(shell)


def test_who_waits_for_a_child_that_is_switched_off_says_so(python: Any) -> None:
    body = f"enable(); multiprocessing.set_executable({_switched_off(python, '0')!r}); wait('VllmWorker-0')"
    done = _run(python, body, before=WAIT % ("pass", "spawn"), check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"{PROCESS_ERROR} VllmWorker-0: the worker process "), done.stderr
    assert "one (ASCEND_OVERLAY=0 switches all off there)" in last


def test_a_program_that_enables_them_in_spite_of_the_switch_gives_them_on(python: Any) -> None:
    """A forkserver that was there before has the environment of the program's start."""
    done = _run(python, "start('forkserver'); enable('one'); start('forkserver'); start('spawn')", ASCEND_OVERLAY="0")
    assert done.stdout == "stock None\n<stock> 1\n<stock> 1\n"


def test_children_with_fewer_overlays(python: Any) -> None:
    """The program has changed what its children load."""
    body = "enable(); os.environ['ASCEND_OVERLAY_LOAD'] = ''; start('spawn')"
    done = _run(python, body)
    last = done.stderr.strip().splitlines()[-1]
    assert done.stdout == "died\n" and last.startswith("ascend_overlay.errors.ProcessError: the engine_core process ")
    assert "lacks what the process which started it, main " in last
    assert "has: one (no plugin contributes it there). It has interpreter" in last
    done = _run(python, body, ASCEND_OVERLAY_STRICT="0")
    assert done.stdout == "stock None\n" and "RuntimeWarning: the engine_core process" in done.stderr
    done = _run(python, body.replace("enable()", "enable(strict=False, require=['one'])"))
    assert done.stdout == "died\n" and "there is no overlay 'one'" in done.stderr


def test_children_in_which_a_release_rules_out(python: Any, site: Any) -> None:
    site.write({"plug.py": PLUGIN.replace('"a test"', '"a test", vllm=">=0.32"')})
    body = "enable()\nfrom pathlib import Path; import vllm\nfile = Path(vllm.__file__).with_name('_version.py')\n"
    body += "file.write_text(\"__version__ = version = '0.31.0'\\n\")\nstart('spawn')"
    done = _run(python, body)
    assert "one (vllm 0.31.0 is installed; the overlay is for vllm >=0.32)" in done.stderr and done.stdout == "died\n"


def test_what_only_the_parent_can_have_is_said(python: Any) -> None:
    body = "import plug; enable(plug.one, load=()); start('spawn'); start('spawn'); start('spawn', 'somebody')"
    done = _run(python, body)
    assert done.stdout == "stock None\n" * 3
    assert done.stderr.count("EngineCore, which is started here, does not have the overlay 'one'") == 1
    assert "somebody" not in done.stderr


@pytest.mark.parametrize(
    ("modules", "answer"), [("", "1"), ("sys.modules['ascend_overlay'] = None; ", "has no ascend_overlay")]
)
@pytest.mark.parametrize("loaded", ["", "import vllm; "])
def test_interpreter_without_the_package(python: Any, modules: str, answer: str, loaded: str) -> None:
    owed = {"variables": {"ASCEND_OVERLAY": f"one,{LEFT_OUT}", "ASCEND_OVERLAY_LOAD": "plug"}, "overlays": {}}
    sent = pickle.dumps(Carried(owed, "sent", search=[path for path in sys.path if path]))
    code = f"import pickle, sys; {loaded}{modules}print(pickle.loads({sent!r})); import vllm; print(vllm.added)"
    done = python("-c", code, check=False)
    assert answer in (done.stdout if answer == "1" else done.stderr), done.stderr
    assert (done.returncode == 0) is (answer == "1")
    if answer != "1":
        done = python("-c", code.replace(".added", ".__name__"), env={"ASCEND_OVERLAY_STRICT": "0"})
        assert done.stdout == "sent\nvllm\n" and done.stderr.startswith("WARNING: ASCEND_OVERLAY asks for overlays")


INSPECT = """
import vllm.model_executor.models.registry as registry, lib
def work():
    import vllm, lib
    return f"{lib.run()} {getattr(vllm, 'added', None)}"
registry.FLAGS = %r
"""


@pytest.mark.parametrize("flags", [[], ["-I"]], ids=str)
def test_inspection_of_a_model_class(python: Any, flags: list[str]) -> None:
    body = f"{INSPECT % flags}\nprint(registry._run_in_subprocess(work))\nenable('one')\n"
    done = _run(python, body + "print(registry._run_in_subprocess(work))")
    assert done.stdout.split("\n\n") == ["stock None", "<stock> 1", ""], done.stderr
    gone = body + "registry.ENVIRONMENT = {'ASCEND_OVERLAY_LOAD': ''}\nimport ascend_overlay.settings\n"
    assert _run(python, gone + "print(registry._run_in_subprocess(work))").stdout.split("\n\n")[1] == "<stock> 1"


WORKER = """
import cloudpickle, subprocess
from vllm.v1.executor.abstract import Executor
def stock(method):
    code = f"import sys; sys.path[:] = {sys.path!r}; import pickle; import vllm; "
    code += "print(pickle.loads(sys.stdin.buffer.read())(1))"
    code = code.replace("import pickle", %r)
    return eval(subprocess.run(
        [sys.executable, "-c", code], input=cloudpickle.dumps(method), capture_output=True, env={}
    ).stdout)
enable('one', strict=%r)
Executor(stock)
print("goes on")
"""


@pytest.mark.parametrize("imports", ["import pickle", "import pickle; sys.modules['ascend_overlay'] = None"])
@pytest.mark.parametrize("strict", [True, False])
def test_workers_are_asked_what_they_have(python: Any, imports: str, strict: bool) -> None:
    done = _run(python, WORKER % (imports, strict), check=False)
    assert done.stdout == ("" if strict else "goes on\n"), done.stderr
    said = done.stderr.strip().splitlines()[-1 if strict else 0]
    assert ("ascend_overlay.errors.ProcessError: " if strict else "RuntimeWarning: ") + "the worker process " in said
    assert "has: roles of ascend_overlay " in said and "; one. It has no overlay at all. It has interpreter" in said


def test_workers_that_have_all_go_on(python: Any) -> None:
    body = (
        "enable('one'); from vllm.v1.executor.abstract import Executor; Executor(lambda ask: ask(1)); print('goes on')"
    )
    assert _run(python, body).stdout == "goes on\n"
    follower = "import vllm.v1.executor.abstract as a; a.Executor.rpc_broadcast_mq = None; enable('one'); a.Executor(1)"
    assert _run(python, follower + "; print('goes on')").stdout == "goes on\n"


HANDSHAKE = """
import msgspec, threading, zmq
from vllm.v1.engine.core import EngineCoreProc
from vllm.v1.engine.utils import wait_for_engine_startup
enable('one')
context = zmq.Context()
theirs, ours = context.socket(zmq.%s), context.socket(zmq.%s)
theirs.setsockopt(zmq.IDENTITY, b"\\1\\0")
ours.setsockopt(zmq.IDENTITY, b"\\1\\0")
ours.bind("tcp://127.0.0.1:0")
theirs.connect(ours.getsockopt_string(zmq.LAST_ENDPOINT))
def stock(said):
    theirs.recv_multipart() if %r else None
    theirs.send_multipart([*%r, msgspec.msgpack.encode(said)])
"""
FRONT = ("DEALER", "ROUTER", False, [])
ENGINE = ("ROUTER", "DEALER", True, [b"\1\0"])


def _shows(change: str) -> str:
    """Return code for a message from a process that has what this one has, but for `change`."""
    return (
        f"import ascend_overlay.api as api, copy; has = copy.deepcopy(api.shown()); {change}; around = {{'ROOM': 'x'}}"
    )


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("message = {'status': 'HELLO'}", "has: roles of ascend_overlay "),
        ("del has['overlays']['one']", "has: one (no plugin contributes it there). It has ROOM 'x'."),
        ("has['settings']['weight_nz'] = 'all'", "has: the setting weight_nz='quantized' (there it is 'all')."),
        ("has['vllm'] = '0.31.0'", "has: vLLM 0.32.0 (there it is 0.31.0)."),
        ("pass", None),
    ],
)
def test_engine_cores_that_join_a_front_end(
    python: Any, site: Any, change: str, said: str | None, strict: bool
) -> None:
    message = "message = locals().get('message') or {'status': 'HELLO', 'ascend_overlay': [has, around]}"
    body = HANDSHAKE % FRONT + f"{_shows(change)}\n{message}\n"
    if not strict:
        body = body.replace("enable('one')", "enable('one', strict=False)")
    done = _run(python, body + "stock(message); print(wait_for_engine_startup(ours, [])['status'])", check=False)
    if said is None:
        assert (done.stdout, done.stderr) == ("HELLO\n", "")
        return
    assert done.stdout == ("" if strict else "HELLO\n"), done.stderr
    assert said in done.stderr, done.stderr
    assert "the engine core of data parallel rank 1" in done.stderr
    assert "lacks what the front end that it joins, this process, " in done.stderr
    assert ("It has no overlay at all." in done.stderr) is change.startswith("message")


@pytest.mark.parametrize(("change", "said"), [("message = {'addresses': 1}", "no overlay at all"), ("pass", None)])
def test_a_front_end_that_an_engine_core_joins(python: Any, change: str, said: str | None) -> None:
    message = "message = locals().get('message') or {'addresses': 1, 'ascend_overlay': [has, around]}"
    body = (
        HANDSHAKE % ENGINE + f"{_shows(change)}\n{message}\nthreading.Thread(target=stock, args=(message,)).start()\n"
    )
    done = _run(python, body + "print(EngineCoreProc.startup_handshake(ours, True)['addresses'])", check=False)
    assert done.stdout == ("1\n" if said is None else ""), done.stderr
    if said is not None:
        assert said in done.stderr and "ProcessError: the front end at tcp://127.0.0.1:" in done.stderr


WAIT = """
def work(*more):
    import vllm
    %s
def wait(name, *more):
    process = multiprocessing.get_context(%r).Process(target=work, args=more, name=name)
    process.start()
    from vllm.v1.executor.multiproc_executor import WorkerProc
    WorkerProc.wait_for_ready([process])
"""
PROCESS_ERROR = "ascend_overlay.errors.ProcessError: vLLM's process"
START = "enable(); os.environ['ASCEND_OVERLAY_LOAD'] = ''; wait('VllmWorker-0')"


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_who_waits_for_a_process_that_is_refused_says_why(python: Any, method: str) -> None:
    done = _run(python, START, before=WAIT % ("pass", method), check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ascend_overlay.errors.ProcessError: vLLM's process VllmWorker-0: the worker process "), last
    assert "has: one (no plugin contributes it there)." in last


def test_who_waits_for_it_further_up_says_so_too(python: Any) -> None:
    """The engine core says it of its worker, and the program of its engine core."""
    work = "os.environ['ASCEND_OVERLAY_LOAD'] = ''; more and wait(*more)"
    done = _run(python, "enable(); wait('EngineCore', 'VllmWorker-0')", before=WAIT % (work, "spawn"), check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ascend_overlay.errors.ProcessError: vLLM's process VllmWorker-0: the worker process "), last


def test_who_waits_for_a_process_that_fails_otherwise_says_what_it_said(python: Any) -> None:
    done = _run(python, "enable(); wait('VllmWorker-0')", before=WAIT % ("raise ValueError", "spawn"), check=False)
    assert done.stderr.strip().splitlines()[-1] == "Exception: See stack trace for root cause."


def test_who_waits_for_an_interpreter_without_the_package_says_so(python: Any, tmp_path: Path) -> None:
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "ascend_overlay.py").write_text("raise ImportError(name='ascend_overlay')")
    body = f"enable(); sys.path.insert(0, {str(tmp_path / 'blocked')!r}); os.environ.clear(); wait('VllmWorker-0')"
    done = _run(python, body, before=WAIT % ("pass", "spawn"), check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ascend_overlay.errors.ProcessError: vLLM's process VllmWorker-0: ASCEND_OVERLAY asks "), (
        last
    )
