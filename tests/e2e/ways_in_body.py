"""Run by test_ways_in.py: switch the overlays on in the way named by the first argument, then start children.

Prints one JSON object: what the probe's target answers here and in each kind of child. Where the overlays are in force
it answers "probed" and a number, once, however many ways lead in.
"""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from typing import Any

SPAWNED = {
    "enable_before": ("EngineCore", "engine_core"),
    "enable_after": ("VllmWorker-0", "worker"),
    "run": ("EngineCore", "engine_core"),
    "autoload": ("VllmWorker-0", "worker"),
    "torch_backend": ("EngineCore", "engine_core"),
    "entry_point": ("VllmWorker-0", "worker"),
}
"""By the way in, the name and the role of the child that is spawned, which has to import everything."""
_CHILD = "import vllm.version; print(vllm.version._prev_minor_version())"


def answer() -> str:
    """Return what the target answers in this process."""
    import vllm.version

    return str(vllm.version._prev_minor_version())


def report(connection: Any) -> None:
    """Send the answer of a child process."""
    connection.send(answer())
    connection.close()


def main(way: str) -> None:
    """Switch on, start children, print."""
    if way == "enable_before":
        import ascend_overlay

        ascend_overlay.enable()
    elif way == "enable_after":
        from vllm import LLM  # noqa: F401

        import ascend_overlay

        assert answer()[0].isdigit()
        ascend_overlay.enable()
    elif way == "entry_point":
        from vllm.plugins import load_general_plugins

        assert answer()[0].isdigit()
        load_general_plugins()
    import vllm.plugins

    # In every way of starting, vLLM itself comes to its plugins in the end.
    vllm.plugins.load_general_plugins()
    answers = {"here": answer()}
    children = {
        "spawned child": ("spawn", SPAWNED[way][0]),
        "forked child": ("fork", "somebody"),
    }
    started = []
    for label, (method, name) in children.items():
        context = multiprocessing.get_context(method)
        ours, theirs = context.Pipe()
        child = context.Process(target=report, args=(theirs,), name=name)  # type: ignore[attr-defined]
        child.start()
        started.append((label, ours, child))
    command = subprocess.Popen([sys.executable, "-c", _CHILD], stdout=subprocess.PIPE, text=True)
    for label, ours, child in started:
        assert ours.poll(120), label
        answers[label] = ours.recv()
        child.join(60)
        assert child.exitcode == 0, label
    answers["python -c"] = command.communicate(timeout=120)[0].strip()

    from vllm.model_executor.models.registry import _run_in_subprocess

    answers["inspection"] = _run_in_subprocess(answer)
    print(json.dumps(answers))


if __name__ == "__main__":
    main(sys.argv[1])
