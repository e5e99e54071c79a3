"""A plugin of pytest under which vLLM's tests run on the CPU: pytest -p on_cpu, with the variables of `settings`.

What it changes about vLLM's tests:

- "cuda", wherever it is a parameter or a constant of the module, is the CPU, and a layer's method for CUDA is the one
  for the CPU. Of rows that say so, it is also the CPU where a test makes a tensor. `opcheck` does nothing: it checks
  vLLM's own C kernels, some of which are not there.
- Under the overlays, what a test takes for the right answer, a layer's `forward_native`, is vLLM's own method and
  computed in float32; else a layer whose method an overlay has replaced would be compared with itself.
- Where a test wants two of vLLM's own kernels to agree in every bit, vLLM's default tolerance for the dtype applies.
- What is for CUDA only in the tests of attention and of experts has a stand-in; see stand_ins.py.
- Configurations of models come from model_configs.py, and what vLLM asks about a model, it asks in this process.

The fixtures that the tests ask for are ours; vLLM's conftest.py needs more than is installed.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pairs
import pytest
import stand_ins

import ascend_overlay
from ascend_overlay.npu import tracing

settings: Any = SimpleNamespace(
    overlaid=os.environ["UPSTREAM_OVERLAID"] == "1",
    results=Path(os.environ["UPSTREAM_RESULTS"]),
    rows=json.loads(os.environ["UPSTREAM_ROWS"]),
    reduced=os.environ["UPSTREAM_REDUCED"] == "1",
)
_asked = False
"""A test is computing what it takes for the right answer."""


def pytest_configure() -> None:
    """Enable the overlays of all rows, and load vLLM."""
    if settings.overlaid:
        names = {name for row in settings.rows.values() for name in row["overlays"]}
        ascend_overlay.enable(only=names, trace=True, propagate=False)
    import torch
    import vllm._custom_ops  # noqa: F401  (defines torch.ops._C)
    from vllm.model_executor import custom_op

    exact = torch.testing.assert_close

    def assert_close(actual: Any, expected: Any, *args: Any, **options: Any) -> None:
        if options.get("atol") == 0.0 and options.get("rtol") == 0.0 and isinstance(actual, torch.Tensor):
            from tests.kernels.allclose_default import get_default_atol, get_default_rtol

            if actual.is_floating_point():
                options |= {"atol": get_default_atol(actual), "rtol": get_default_rtol(actual)}
        exact(actual, expected, *args, **options)

    torch.testing.assert_close = assert_close
    _fit_this_machine(torch)
    settings.layer = custom_op.CustomOp
    settings.ops = torch.ops._C


def _fit_this_machine(torch: Any) -> None:
    from vllm.model_executor.layers.linear import LinearBase
    from vllm.model_executor.models import registry

    for name in ("synchronize", "empty_cache"):
        setattr(torch.accelerator, name, lambda *args: None)
    # vLLM gives linear layers their product for the CPU once their weights are loaded, which tests do not do.
    LinearBase.cpu_linear = staticmethod(torch.nn.functional.linear)
    # A process for each model would import vLLM anew.
    registry._run_in_subprocess = lambda function: function()


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> None:
    """Have something behind the names of C kernels that this vLLM does not have."""
    for name in re.findall(r"torch\.ops\._C\.(\w+)", module_path.read_text(encoding="utf-8")):
        if not hasattr(settings.ops, name):
            setattr(settings.ops, name, name)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: Any) -> Any:
    """Have backends stand in before the tests of a module are made."""
    if isinstance(collector, pytest.Module):
        stand_in = stand_ins.BY_FILE.get(_path(collector))
        if stand_in is not None:
            stand_in(collector.obj, overlaid=settings.overlaid)
    return (yield)


def pytest_pycollect_makeitem(collector: Any, name: str, obj: Any) -> None:
    """Put the CPU in the place of CUDA in the constants of a module, which come before its tests."""
    if name == "CUDA_DEVICES":
        obj[:] = ["cpu"]
    elif name == "opcheck":
        setattr(collector.obj, name, lambda *args, **options: None)
    elif isinstance(obj, str) and obj.startswith("cuda"):
        setattr(collector.obj, name, "cpu")


def _path(item: Any) -> str:
    path: str = item.nodeid.partition("::")[0].removeprefix("tests/")
    return path


def _row(item: Any) -> dict[str, Any]:
    row: dict[str, Any] = settings.rows[_path(item)]
    return row


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Keep what the rows select."""
    kept = [item for item in items if _selected(item)]
    if settings.reduced:
        kept = _reduced(kept)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
    _play_cuda(settings.layer)


def _reduced(items: list[Any]) -> list[Any]:
    """Keep all pairs of parameters of each test, and of what only the overlays bring: the same in both processes."""
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        ours = any(str(value).startswith("ascend") for value in parameters.values())
        groups.setdefault((item.parent.nodeid, item.originalname, ours), {})[item.nodeid] = parameters
    kept = {name for points in groups.values() for name in pairs.covering(points)}
    return [item for item in items if item.nodeid in kept]


def _selected(item: Any) -> bool:
    row = _row(item)
    if not (settings.overlaid or row["stock"]):
        return False
    if row["tests"] and item.originalname not in row["tests"]:
        return False
    if row["unskip"]:
        for node in item.listchain():
            node.own_markers = [marker for marker in node.own_markers if marker.name != "skipif"]
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    for name, value in parameters.items():
        if value in row["without"].get(name, ()):
            return False
        if isinstance(value, int) and value > row["at_most"].get(name, value):
            return False
        if isinstance(value, str) and value.startswith("cuda"):
            parameters[name] = "cpu"
    return True


def _play_cuda(layer: Any) -> None:
    """Let all layers that there are run their method for the CPU where a test expects that for CUDA."""
    layers = [cls for cls in _derived(layer) if "forward_native" in vars(cls)]
    for cls in _derived(layer):
        cls.forward_cuda = cls.forward_cpu
    if settings.overlaid:
        stock = {cls: _as_method(vars(cls)["forward_native"]) for cls in layers if cls.__module__.startswith("vllm.")}
        for cls in layers:
            if cls in stock and isinstance(vars(cls)["forward_native"], staticmethod):
                continue  # Called on the class, it is vLLM's anyway.
            cls.forward_native = _answering_with(stock, cls, _as_method(vars(cls)["forward_native"]))


def _derived(cls: Any) -> set[Any]:
    return {cls}.union(*(_derived(derived) for derived in cls.__subclasses__()))


def _as_method(raw: Any) -> Callable[..., Any]:
    function = getattr(raw, "__func__", raw)
    return (lambda self, *args, **options: function(*args, **options)) if isinstance(raw, staticmethod) else function


def _answering_with(stock: dict[Any, Callable[..., Any]], cls: Any, own: Callable[..., Any]) -> Callable[..., Any]:
    """Return the `forward_native` of `cls`: that of vLLM, in float32, where a test calls it; else `own`."""
    import torch

    def forward_native(self: Any, *args: Any, **options: Any) -> Any:
        if torch.compiler.is_compiling() or not (_asked or _asking()):
            return own(self, *args, **options)
        lineage = type(self).__mro__
        theirs = next(stock[step] for step in lineage[lineage.index(cls) :] if step in stock)
        return theirs(self, *args, **options) if _asked else _exact(functools.partial(theirs, self), args, options)

    return forward_native


def _asking() -> bool:
    """Tell whether it is a test that called the caller."""
    name: str = sys._getframe(2).f_globals["__name__"]
    return name.startswith("tests.")


def _exact(function: Callable[..., Any], args: Any, options: Any) -> Any:
    global _asked
    import torch
    import vllm.ir

    dtypes = {a.dtype for a in (*args, *options.values()) if isinstance(a, torch.Tensor) and a.is_floating_point()}

    def wide(value: Any) -> Any:
        return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    def narrow(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(narrow(part) for part in value)
        return value.to(next(iter(dtypes))) if isinstance(value, torch.Tensor) and len(dtypes) == 1 else value

    _asked = True
    try:
        with contextlib.ExitStack() as stack:
            for name in ("rms_norm", "fused_add_rms_norm"):
                stack.enter_context(getattr(vllm.ir.ops, name).set_priority(["native"]))
            return narrow(function(*map(wide, args), **{name: wide(v) for name, v in options.items()}))
    finally:
        _asked = False


@pytest.fixture
def default_vllm_config() -> Iterator[Any]:
    """vLLM's default configuration, with its kernels in their order."""
    from vllm.config import VllmConfig, set_current_vllm_config

    config = VllmConfig()
    with set_current_vllm_config(config), config.kernel_config.ir_op_priority.set_priority():
        yield config


@pytest.fixture
def dist_init(tmp_path: Path) -> Iterator[None]:
    """A group of one rank."""
    from vllm import distributed
    from vllm.config import VllmConfig, set_current_vllm_config

    with set_current_vllm_config(VllmConfig()):
        distributed.init_distributed_environment(1, 0, f"file://{tmp_path / 'ranks'}", 0, backend="gloo")
        distributed.initialize_model_parallel(1, 1)
        yield


@pytest.fixture
def workspace_init() -> Iterator[None]:
    """vLLM's memory for intermediate results."""
    import torch
    from vllm.v1.worker import workspace

    workspace.init_workspace_manager(torch.device("cpu"))
    yield
    workspace.reset_workspace_manager()


@pytest.fixture
def reset_default_device() -> None:
    """Done for every test."""


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    """Leave nothing of a test behind."""
    import torch
    from vllm import distributed

    yield
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)
    if torch.distributed.is_initialized():
        distributed.destroy_model_parallel()
        distributed.destroy_distributed_environment()


def _tensors_on_cpu() -> Any:
    """Return a context in which tensors for CUDA are made on the CPU."""
    import torch
    from torch.overrides import TorchFunctionMode

    def here(value: Any) -> Any:
        named = isinstance(value, (str, torch.device)) and str(value).startswith("cuda")
        return "cpu" if named else value

    class OnCpu(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.Tensor.cuda:
                return args[0]
            return func(*map(here, args), **{name: here(value) for name, value in (kwargs or {}).items()})

    return OnCpu()


def _here(item: Any) -> Any:
    return _tensors_on_cpu() if _row(item)["makes_tensors"] else contextlib.nullcontext()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: Any) -> Any:
    """Make the tensors of fixtures on the CPU, too."""
    with _here(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: Any) -> Any:
    """Note which operators of torch_npu a test runs."""
    tracing.reset()
    with _here(item):
        result = yield
    item.user_properties.append(("operators", [name for name, count in tracing.counts().items() if count]))
    return result


def pytest_runtest_logreport(report: Any) -> None:
    """Append a line a test: a crash is to be seen in what is missing."""
    if report.when == "call" or report.outcome != "passed":
        line = {"test": report.nodeid, "outcome": report.outcome, "text": report.longreprtext[-1500:]}
        with settings.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line | dict(report.user_properties)) + "\n")
