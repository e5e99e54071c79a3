"""The real scene: modules of the installed vLLM, loaded before the histories begin."""

from __future__ import annotations

from .scenes import DECIDES, WRAPS, Place, Probe, Scene

_IMPLEMENTATIONS = """
from vllm.v1.core.sched.request_queue import FCFSRequestQueue
class OurQueue(FCFSRequestQueue):
    def peek_request(self): return "sub_queue(" + super().peek_request() + ")"
"""
_PLUGIN = """
from ascend_overlay import Overlay
from ascend_overlay.hooks import hookimpl

overlays = []
def new(name, **options):
    overlays.append(Overlay(name, reason="a history", default=False, **options))
    return overlays[-1]
def wrap(overlay, target):
    name = overlay.name
    overlay.wrap(target)(lambda wrapped, instance, args, kwargs: f"{name}({wrapped(*args, **kwargs)})")

wrap(new("wrap_gib"), "vllm.utils.mem_utils:format_gib")
@new("put_gib").replace("vllm.utils.mem_utils:format_gib")
def format_gib(b): return "put_gib"
wrap(new("ceiling"), "vllm.utils.math_utils:cdiv")
new("sub_queue").subclass("vllm.v1.core.sched.request_queue:FCFSRequestQueue", "real_implementations:OurQueue")
wrap(new("wrap_peek"), "vllm.v1.core.sched.request_queue:FCFSRequestQueue.peek_request")
wrap(new("counted"), "vllm.utils.counter:AtomicCounter.value")
values = new("values")
values.attribute("vllm.sampling_params:_SAMPLING_EPS", 0.5)
values.add("vllm.utils.counter:AtomicCounter.added", "values")
new("variable").item("vllm.envs:environment_variables", "HISTORY", "variable")

@hookimpl
def ascend_overlay_overlays():
    return overlays
"""
GIB, CEILING = "vllm.utils.mem_utils:format_gib", "vllm.utils.math_utils:cdiv"
QUEUE = "vllm.v1.core.sched.request_queue:FCFSRequestQueue"
PEEK, COUNT = f"{QUEUE}.peek_request", "vllm.utils.counter:AtomicCounter.value"
EPSILON, ADDED = "vllm.sampling_params:_SAMPLING_EPS", "vllm.utils.counter:AtomicCounter.added"
_EPSILON = "params._SAMPLING_EPS"
VARIABLE = "vllm.envs:environment_variables[HISTORY]"

REAL = Scene(
    name="vllm",
    modules={
        "mem": "vllm.utils.mem_utils",
        "math": "vllm.utils.math_utils",
        "counter": "vllm.utils.counter",
        "params": "vllm.sampling_params",
        "envs": "vllm.envs",
        "queue": "vllm.v1.core.sched.request_queue",
        "scheduler": "vllm.v1.core.sched.scheduler",
        "cache": "vllm.v1.core.kv_cache_utils",
        "manager": "vllm.v1.core.single_type_kv_cache_manager",
    },
    files={"real_implementations.py": _IMPLEMENTATIONS, "real_plugin.py": _PLUGIN},
    plugin="real_plugin",
    overlays={
        "wrap_gib": {GIB: WRAPS},
        "put_gib": {GIB: DECIDES},
        "ceiling": {CEILING: WRAPS},
        "sub_queue": {QUEUE: WRAPS},
        "wrap_peek": {PEEK: WRAPS},
        "counted": {COUNT: WRAPS},
        "values": {EPSILON: DECIDES, ADDED: DECIDES},
        "variable": {VARIABLE: DECIDES},
        # Some of the built-in ones.
        "caches": {},
        "layernorm": {},
        "activation": {},
        "registry": {},
    },
    probes=(
        Probe("mem.format_gib", "(2**30)", (GIB,)),
        Probe("math.cdiv", "(3, 2)", (CEILING,)),
        Probe("queue.FCFSRequestQueue", "(['first']).peek_request()", (PEEK, QUEUE)),
        Probe("counter.AtomicCounter", "(5).value", (COUNT,)),
        Probe("params", f" and {{0.5: 'values'}}.get({_EPSILON}, {_EPSILON})", (EPSILON,)),
        Probe("counter", ".AtomicCounter.__dict__.get('added')", (ADDED,)),
        Probe("envs", ".environment_variables.get('HISTORY')", (VARIABLE,)),
        Probe("cache.format_gib", "(2**30)", (GIB,), ("kv_cache_utils.format_gib",)),
        Probe("cache.cdiv", "(3, 2)", (CEILING,), ("kv_cache_utils.cdiv",)),
        Probe("manager.cdiv", "(3, 2)", (CEILING,), ("single_type_kv_cache_manager.cdiv",)),
        Probe(
            "type(queue.create_request_queue(queue.SchedulingPolicy.FCFS))", "(['first']).peek_request()", (PEEK, QUEUE)
        ),
    ),
    places={
        "gib": Place("mem", "format_gib", "function"),
        "ceiling": Place("math", "cdiv", "function"),
        "copy": Place("cache", "cdiv", "function"),
        "peek": Place("queue.FCFSRequestQueue", "peek_request", "method"),
        "count": Place("counter.AtomicCounter", "value", "property"),
        "epsilon": Place("params", "_SAMPLING_EPS", "value"),
        "variable": Place("envs.environment_variables", "HISTORY", "item"),
    },
    copied=("mem.format_gib", "math.cdiv", "queue.FCFSRequestQueue"),
    reloaded=("mem", "math", "counter", "queue"),
)
