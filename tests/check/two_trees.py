"""Trees of two releases, and a plugin between them."""

from __future__ import annotations

import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path

OLD = {
    "vllm/__init__.py": "",
    "vllm/version.py": "__version__ = '1.0.0'\n",
    "vllm/engine.py": """\
        LIMIT = 1
        def plan(a, b=1):
            '''Plan.'''
            total = a + b
            return total
        class Engine:
            def __init__(self, size):
                self.size = size
            def step(self, x):
                return x
            def stop(self):
                return None
        class Layer:
            pass
        """,
}
NEW = {
    **OLD,
    "vllm/version.py": "__version__ = '1.1.0'\n",
    "vllm/engine.py": """\
        LIMIT = 1
        def plan(a, b=1):
            '''Plan, in other words.'''
            total = a + b
            return total
        class Engine:
            def __init__(self, size):
                self.size = size
            def step(self, x, more=False):
                return x
            def halt(self):
                return None
        def Layer():
            return 1
        def extra():
            pass
        """,
}
PLUGIN = """\
    from ascend_overlay import Overlay
    from ascend_overlay.conditions import predicate
    from ascend_overlay.hooks import hookimpl

    steps = Overlay("steps", vllm=">=1.0,<2", reason="Steps.", retire="vllm>=1.1")

    @steps.replace("vllm.engine:Engine.step")
    def step(self, x):
        return x

    quiet = Overlay("quiet", vllm=">=1.0,<1.1", reason="Quiet.")

    @quiet.wrap("vllm.engine:plan")
    def plan(wrapped, instance, args, kwargs):
        return wrapped(*args, **kwargs)

    stopping = Overlay("stopping", reason="Stops.", upstream_marker="vllm.engine:extra")

    @stopping.wrap("vllm.engine:Engine.stop")
    def stop(wrapped, instance, args, kwargs):
        return wrapped(*args, **kwargs)

    stopping.edit("vllm.engine:plan", find="total = a + b", put="total = a - b")

    layers = Overlay("layers", reason="Layers.")
    layers.subclass("vllm.engine:Layer", "my_layers:MyLayer")
    adding = Overlay("adding", reason="Adds.")
    adding.add("vllm.engine:extra", 1)
    doubtful = Overlay("doubtful", reason="Doubts.", upstream_marker="vllm.engine:LIMIT.real")

    @doubtful.wrap("vllm.engine:plan")
    def plan_again(wrapped, instance, args, kwargs):
        return wrapped(*args, **kwargs)

    def needs_a_run():
        raise RuntimeError("nothing runs")

    waiting = Overlay("waiting", reason="Waits.", when=predicate(needs_a_run, "something runs"))
    waiting.wrap("not_installed_here.module:function")(plan_again)
    waiting.wrap("vllm.engine:plan")(plan_again)
    elsewhere = Overlay("elsewhere", reason="Is elsewhere.", when=predicate(lambda: False, "it is elsewhere"))
    elsewhere.wrap("not_installed_here.module:function")(plan_again)
    OVERLAYS = [steps, quiet, stopping, layers, adding, doubtful, waiting, elsewhere]

    @hookimpl
    def ascend_overlay_overlays():
        return OVERLAYS
    """
LAYERS = """\
    from vllm.engine import Engine, Layer

    class MyLayer(Layer):
        def f(self, engine: Engine):
            return engine.size
    """

Run = Callable[..., subprocess.CompletedProcess[str]]


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write files below a folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
    return folder
