"""Run by test_ray.py: `python ray_strangers.py FOLDER`: tasks and actors of Ray in runtime environments of all sorts.

FOLDER holds an environment for each of ENVIRONMENTS. Prints one JSON object: what each case answers, or its error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

ENVIRONMENTS = {
    "absent": "import sys; sys.modules['ascend_overlay'] = None\n",
    "without_the_plugin": "import sys; sys.modules['ways_in_probe'] = None\n",
    "another_release": "",
    "another_vllm": "",
}
"""What a start of Python does in each, in the words of a .pth file."""


_PATIENCE = 200
"""Seconds for one answer: a case that hangs is to be named."""


class Actor:
    """Somebody's actor."""

    def ask(self) -> str:
        """Return what the target answers here."""
        return answer()

    def start(self) -> list[str]:
        """Return what it answers here and in a task that is started from here."""
        return [answer(), ray.get(ray.remote(answer).remote())]


def answer() -> str:
    """Return what the target answers here, and what the hook of the job has left."""
    import vllm.version

    return f"{vllm.version._prev_minor_version()} {os.environ.get('HOOKED')}"


def aside() -> str:
    """Return something for which no vLLM is needed."""
    return "aside"


def hook() -> None:
    """The program's own hook for the start of a process."""
    os.environ["HOOKED"] = "hooked"


def main(folder: Path) -> None:
    """Start Ray, and ask."""
    import ascend_overlay

    ascend_overlay.enable(load=["ways_in_probe"])
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"worker_process_setup_hook": hook},
    )
    found: dict[str, Any] = {}

    def ask(name: str, question: Callable[[], Any]) -> None:
        try:
            found[name] = question()
        except ray.exceptions.RayError as error:
            found[name] = f"{type(error).__name__}: {error}"

    def task(work: Callable[[], Any] = answer, **environment: Any) -> Callable[[], Any]:
        return lambda: ray.get(ray.remote(work).options(runtime_env=environment).remote(), timeout=_PATIENCE)

    def actor(**environment: Any) -> Callable[[], Any]:
        made = ray.remote(Actor).options(runtime_env=environment)
        return lambda: ray.get(made.remote().ask.remote(), timeout=_PATIENCE)

    for name in ENVIRONMENTS:
        python = str(folder / name / "bin" / "python")
        ask(f"{name}: task", task(py_executable=python))
    python = str(folder / "absent" / "bin" / "python")
    ask("absent: actor", actor(py_executable=python))
    ask("absent: aside", task(aside, py_executable=python))
    ask("nested", lambda: ray.get(ray.remote(Actor).remote().start.remote(), timeout=_PATIENCE))
    ask("own variable", task(env_vars={"ASCEND_OVERLAY": "-probe"}))
    ask("switched off", task(env_vars={"ASCEND_OVERLAY": "0"}))
    ask("no variables", actor(env_vars={"PYTHONPATH": str(Path(__file__).parent), "VLLM_PLUGINS": "other"}))
    print(json.dumps(found))
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
