"""Run by test_ray.py: `python ray_body.py WHEN [job|actor|folder|off]`: an actor and a task of Ray that import vLLM.

Prints one JSON object: what the target of the probe answers in each, and a variable that the program gave them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import ray


class Actor:
    """Somebody's actor."""

    def ask(self) -> list[str | None]:
        """Return what the target answers here, and MINE."""
        return answer()


def answer() -> list[str | None]:
    """Return what the target answers here, and MINE."""
    import vllm.version

    return [vllm.version._prev_minor_version(), os.environ.get("MINE")]


def main(when: str, more: str = "") -> None:
    """Start Ray and enable, in the order that `when` says, and ask."""

    def enable() -> None:
        import ascend_overlay

        ascend_overlay.enable(load=["ways_in_probe"])

    if when == "before":
        enable()
    job: dict[str, Any] = {"env_vars": {"MINE": "job"}} if more == "job" else {}
    if more == "folder":
        Path("work").mkdir()
        job = {"working_dir": "work"}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=job)
    if when == "after":
        enable()
    actor, task = ray.remote(Actor), ray.remote(answer)
    if more in ("actor", "off"):
        own = {"env_vars": {"MINE": "own"} if more == "actor" else {"ASCEND_OVERLAY": "0"}}
        actor, task = actor.options(runtime_env=own), task.options(runtime_env=own)
    started = actor.remote()
    answers = {"actor": ray.get(started.ask.remote()), "task": ray.get(task.remote()), "again": ray.get(task.remote())}
    print(json.dumps(answers))
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
