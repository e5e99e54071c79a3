"""enable() and disable() on modules that are loaded, with the re-binding of all copies: 100 patches, all overlays."""

from __future__ import annotations

import collections
import importlib
import json
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import ascend_overlay
from ascend_overlay import Overlay
from ascend_overlay.hooks import hookimpl
from benchmarks.measure import Result, clean_environment, summary

NAME = "rebinding"
# With 2,000 modules loaded; vLLM with all its models makes three times as many.
GOALS_S = {"generated": 0.5, "vllm": None, "overlays": 0.3}
PATCHES = 100
MODULES = 2000
COPIES_EACH = 5

overlay = Overlay("benchmark_rebinding", reason="the price of enabling late", default=False)


def passing(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Pass a call on."""
    return wrapped(*args, **kwargs)


@hookimpl
def ascend_overlay_overlays() -> Iterable[Overlay]:
    """Give the overlay of this benchmark."""
    return [overlay]


def run(*, quick: bool) -> Iterator[Result]:
    """Measure in a process with 2,000 small modules, and in one with vLLM and all that it loads."""
    everything = "vLLM and its models"
    for name, what in (("generated", f"{MODULES} generated modules"), ("vllm", everything), ("overlays", everything)):
        command = [sys.executable, "-m", "benchmarks.rebinding", name, "5" if quick else "15"]
        found = json.loads(subprocess.check_output(command, env=clean_environment(), text=True).splitlines()[-1])
        values = summary([sum(pair) for pair in zip(found["enable"], found["disable"], strict=True)])
        details = {
            "enable, s": summary(found["enable"])[0],
            "disable, s": summary(found["disable"])[0],
            "processor time of both, s": summary(found["processor"])[0],
            **{key: found[key] for key in ("modules", "objects", "patches", "copies")},
        }
        patches = "all built-in overlays" if name == "overlays" else f"{found['patches']} wraps"
        text = f"enable() + disable(), {patches}, {found['copies']} copies, {what} loaded"
        text += f" ({found['modules']} modules in all)"
        yield Result(NAME, text, *values, "s", GOALS_S[name], len(found["enable"]), details)


def main(where: str, rounds: int) -> None:
    """Print the seconds of each round, as JSON."""
    import gc

    targets = _generated() if where == "generated" else _of_vllm()
    if where != "overlays":
        for target in targets:
            overlay.wrap(target)(passing)
    options: dict[str, Any] = {} if where == "overlays" else {"load": [__name__], "only": [overlay.name]}
    enable, disable, processor = [], [], []
    copies = 0
    # The first round imports what the engine needs, the others are what a program pays that enables again.
    for number in range(rounds + 1):
        started, of_processor = time.perf_counter(), time.process_time()
        ascend_overlay.enable(**options, propagate=False)
        between, of_processor = time.perf_counter(), time.process_time() - of_processor
        copies = sum(len(entry.copies) for entry in ascend_overlay.ledger() if entry.state == "applied")
        resumed, of_processor = time.perf_counter(), time.process_time() - of_processor
        ascend_overlay.disable()
        if number:
            enable.append(between - started)
            disable.append(time.perf_counter() - resumed)
            processor.append(time.process_time() - of_processor)
    counts = {"modules": len(sys.modules), "objects": len(gc.get_objects()), "patches": len(targets), "copies": copies}
    print(json.dumps({"enable": enable, "disable": disable, "processor": processor, **counts}))


def _generated() -> list[str]:
    """Load 100 modules of one function each, and others that copy five of those functions each."""
    with tempfile.TemporaryDirectory() as folder:
        sys.path.insert(0, folder)
        for number in range(PATCHES):
            source = "\n".join(f"class C{i}:\n    def m(self): return {i}" for i in range(5))
            Path(folder, f"target_{number}.py").write_text(f"def f{number}(x): return x\n{source}\n")
        for number in range(MODULES - PATCHES):
            chosen = [(number * COPIES_EACH + i) % PATCHES for i in range(COPIES_EACH)]
            imports = "\n".join(f"from target_{i} import f{i}" for i in chosen)
            classes = "\n".join(f"class C{i}:\n    a = {i}\n    def m(self, x=1): return x" for i in range(5))
            functions = "\n".join(f"def g{i}(x, y=[]): return x" for i in range(20))
            Path(folder, f"holder_{number}.py").write_text(f"{imports}\n{classes}\n{functions}\n")
        importlib.invalidate_caches()
        for number in range(PATCHES):
            importlib.import_module(f"target_{number}")
        for number in range(MODULES - PATCHES):
            importlib.import_module(f"holder_{number}")
        sys.path.remove(folder)
    return [f"target_{number}:f{number}" for number in range(PATCHES)]


def _of_vllm() -> list[str]:
    """Load vLLM and its dense and expert models, and return the functions of it that most modules copied."""
    from vllm import LLM  # noqa: F401
    from vllm.model_executor.models.registry import ModelRegistry

    for model in ModelRegistry.models.values():
        try:
            importlib.import_module(model.module_name)
        except Exception:
            # Some need packages or devices that are not here.
            continue
    loaded = {name: vars(module) for name, module in list(sys.modules.items()) if isinstance(module, types.ModuleType)}
    holders: collections.Counter[str] = collections.Counter()
    for name, names in loaded.items():
        for key, value in list(names.items()) if name.startswith("vllm.") else ():
            if isinstance(value, types.FunctionType) and loaded.get(value.__module__, {}).get(key) is value:
                holders[f"{value.__module__}:{key}"] += 1
    return [place for place, _ in holders.most_common() if place.startswith("vllm.")][:PATCHES]


if __name__ == "__main__":
    # As the module that the plugin is loaded from, not as a second copy of it.
    importlib.import_module("benchmarks.rebinding").main(sys.argv[1], int(sys.argv[2]))
