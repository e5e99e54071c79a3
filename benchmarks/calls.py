"""What one call costs through each kind of patch, over the same change written by hand.

The kinds of which nothing remains in a call have no figure of their own: a model, a quantization method and an item are
entries of vLLM's registries, and a module alias is an entry of sys.modules.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.hooks import hookimpl
from benchmarks.measure import Result, clean_environment, in_turns, ratios, summary

NAME = "calls"
GOAL = 1.00

# Two equal modules: one for the overlay, one for the hand-written change.
SOURCE = """
class Layer:
    flag = 1

    def forward(self, x):
        return x

    @staticmethod
    def static(x):
        return x

    @classmethod
    def of_class(cls, x):
        return x

class Model(Layer):
    pass

def function(x):
    return x

def read():
    return Layer.flag
"""

overlay = Overlay("benchmark_calls", reason="the price of a call", default=False)


def other(x: Any) -> Any:
    """Take the place of function(x)."""
    return x


def packed(*args: Any, **kwargs: Any) -> Any:
    """Take the place of function(x), as what calls a wrapper does: with arguments of any kind."""
    return args[0]


def forward(self: Any, x: Any) -> Any:
    """Take the place of Layer.forward(x)."""
    return x


def passing(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Pass a call on, as the least that a wrapper does."""
    return wrapped(*args, **kwargs)


@hookimpl
def ascend_overlay_overlays() -> Iterable[Overlay]:
    """Give the overlay of this benchmark or that of its kernel part: the one that this process has given patches."""
    from benchmarks import kernel_call

    return [each for each in (overlay, kernel_call.overlay) if each.patches]


def run(*, quick: bool) -> Iterator[Result]:
    """Compare patched modules of a few lines, in this process, and a vllm.ir operator, in one that loads vLLM."""
    with tempfile.TemporaryDirectory() as folder:
        modules = _modules(Path(folder))
        overlay.replace("benchmark_ours:function")(other)
        overlay.replace("benchmark_ours_methods:Layer.forward")(forward)
        overlay.subclass("benchmark_ours_class:Layer", _subclass(modules["ours_class"]))
        overlay.attribute("benchmark_ours_attribute:Layer.flag", 2)
        overlay.add("benchmark_ours_attribute:Layer.added", forward)
        overlay.wrap("benchmark_ours_wrap:function")(passing)
        overlay.wrap("benchmark_ours_wrap:Layer.forward")(passing)
        overlay.wrap("benchmark_ours_wrap:Layer.static")(passing)
        overlay.wrap("benchmark_ours_wrap:Layer.of_class")(passing)
        _by_hand(modules)
        with ascend_overlay.enabled(load=[__name__], only=[overlay.name], propagate=False):
            yield from _compare(modules, rounds=9 if quick else 41, number=20_000 if quick else 50_000)
    yield _kernel(quick)


def _modules(folder: Path) -> dict[str, ModuleType]:
    sys.path.insert(0, str(folder))
    try:
        found = {}
        for name in ("", "_methods", "_class", "_attribute", "_wrap"):
            for who in ("ours", "hand"):
                (folder / f"benchmark_{who}{name}.py").write_text(SOURCE)
                importlib.invalidate_caches()
                found[f"{who}{name}"] = importlib.import_module(f"benchmark_{who}{name}")
        return found
    finally:
        sys.path.remove(str(folder))


def _subclass(module: ModuleType) -> type:
    base: Any = module.Layer

    class AscendLayer(base):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return x

    return AscendLayer


def _in_place(target: Callable[..., Any]) -> tuple[Any, Any]:
    """Return a function whose calls are sent on to `target` in the function itself, and one that is wrapped by hand."""
    from ascend_overlay.places.functions import Redirection

    def function(x: Any) -> Any:
        return x

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return target(*args, **kwargs)

    redirection = Redirection(function)
    redirection.lead_to(target)
    return function, wrapper


def _by_hand(modules: dict[str, Any]) -> None:
    import wrapt

    modules["hand"].function = other
    modules["hand_methods"].Layer.forward = forward
    module = modules["hand_class"]
    module.Layer = _subclass(module)
    module.Model.__bases__ = (module.Layer,)
    modules["hand_attribute"].Layer.flag = 2
    modules["hand_attribute"].Layer.added = forward
    for name in ("function", "Layer.forward", "Layer.static", "Layer.of_class"):
        wrapt.wrap_function_wrapper(modules["hand_wrap"], name, passing)


def _compare(modules: dict[str, Any], *, rounds: int, number: int) -> Iterator[Result]:
    cases = {
        "replace, function": ("", "module.function(1)"),
        "replace, method": ("_methods", "layer.forward(1)"),
        "subclass, method": ("_class", "layer.forward(1)"),
        "subclass, method of a derived class": ("_class", "model.forward(1)"),
        "attribute": ("_attribute", "module.read()"),
        "add, method": ("_attribute", "layer.added(1)"),
        "in the function itself": ("", "in_place(1)"),
        "in the function itself, to what takes any arguments": ("", "in_place_packed(1)"),
        "wrap, function": ("_wrap", "module.function(1)"),
        "wrap, method": ("_wrap", "layer.forward(1)"),
        "wrap, staticmethod": ("_wrap", "module.Layer.static(1)"),
        "wrap, classmethod": ("_wrap", "module.Layer.of_class(1)"),
    }
    in_place = dict(zip(("ours", "hand"), zip(_in_place(other), _in_place(packed), strict=True), strict=True))
    for name, (suffix, statement) in cases.items():
        names: dict[str, Any] = {}
        for who in ("ours", "hand"):
            module = modules[who + suffix]
            names[who] = {"module": module, "layer": module.Layer(), "model": module.Model()}
            names[who] |= dict(zip(("in_place", "in_place_packed"), in_place[who], strict=True))

        def measure(who: str, statement: str = statement, names: dict[str, Any] = names) -> float:
            # A loop that is compiled anew each time: where it happens to lie in memory makes a difference of 5 %.
            return timeit.Timer(statement, globals=names[who]).timeit(number)

        samples = in_turns({who: lambda who=who: measure(who) for who in names}, rounds)  # type: ignore[misc]
        values = summary(ratios(samples["ours"], samples["hand"]))
        against = "wrapt by hand" if name.startswith("wrap") else "assignment by hand"
        if name.startswith("in "):
            against = "a wrapper by hand"
        nanoseconds = 1e9 * summary(samples["ours"])[0] / number
        yield Result(NAME, f"{name}, over {against}", *values, "ratio", GOAL, rounds, {"call, ns": nanoseconds})


def _kernel(quick: bool) -> Result:
    command = [sys.executable, "-m", "benchmarks.kernel_call", *(["--quick"] if quick else [])]
    output = subprocess.check_output(command, env=clean_environment(), text=True)
    found = json.loads(output.splitlines()[-1])
    values = summary(ratios(found["ours"], found["hand"]))
    details = {"call, us": 1e6 * summary(found["ours"])[0]}
    what = "kernel, vllm.ir operator rms_norm, over a provider registered by hand"
    return Result(NAME, what, *values, "ratio", GOAL, len(found["ours"]), details)
