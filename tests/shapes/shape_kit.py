"""What the tests of this folder share: switching overlays on late, and comparing vLLM before and after.

Each test module of a shape is a plugin: it declares its overlays, and has two functions, `stock()` and `effect()`,
which assert how vLLM behaves without and with them. They run twice: here, with vLLM loaded before the overlays are
enabled, and in one process in which the overlays are enabled before vLLM is imported (test_shapes_before_vllm.py).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import ascend_overlay
from ascend_overlay.ledgers import Entry

MODULES = (
    "test_shape_01_argument",
    "test_shape_02_private_method",
    "test_shape_03_post_init",
    "test_shape_04_additional_config",
    "test_shape_05_flag_and_method",
    "test_shape_06_copies",
    "test_shape_07_base_classes",
    "test_shape_08_class_and_static_methods",
    "test_shape_09_outside_vllm",
    "test_shape_10_registries",
    "test_shape_11_instances",
    "test_shape_12_moved",
    "test_shape_13_processes",
)

# All that can be enabled at once.
OVERLAYS = (
    *(f"shape_{number:02}" for number in (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13)),
    "shape_06_moe",
    "shape_08_lora",
    "shape_08_middle",
    "shape_08_outer",
    "shape_08_inner",
    "shape_13_alone",
)

# What Python and pydantic fill in by themselves.
_CACHES = (
    "__abstractmethods__",
    "_abc_impl",
    "__doc__",
    "__annotations__",
    "__warningregistry__",
    "__pydantic_complete__",
    "__slotnames__",
)

# What torch.compile puts into the modules that it has traced.
_FOREIGN = ("__builtins", "__compiled", "__import_", "__resume")

# Tuples, because the engine re-binds what it finds in dicts and lists, and would re-bind the memory of a test as well.
Snapshot = tuple[tuple[str, Any], ...]


@contextlib.contextmanager
def late(module: str, *names: str, ignore: tuple[str, ...] = (), **settings: Any) -> Iterator[list[Entry]]:
    """Enable the overlays `names` of the test module `module`, and see that vLLM is afterwards what it was before.

    Names that begin with one of `ignore` may differ. Yields the ledger entries, as they are after enabling.
    """
    before = snapshot()
    with ascend_overlay.enabled(load=[module], only=names, propagate=False, **settings):
        yield entries(*names)
    changed = [name for name in differences(before, snapshot()) if not name.startswith(ignore or "?")]
    assert changed == []
    assert leftovers(module) == []


def entries(*names: str) -> list[Entry]:
    """Return the newest ledger entries of the overlays `names`."""
    found = [entry for entry in ascend_overlay.ledger() if entry.overlay in names]
    newest = [entry for entry in found if entry.state != "reverted"]
    return newest or found


def entry(name: str, target: str) -> Entry:
    """Return the newest ledger entry of one patch."""
    return next(entry for entry in reversed(entries(name)) if entry.target == target)


def snapshot(*packages: str) -> Snapshot:
    """Return everything that modules and classes of `packages` (default: vllm) hold, by name."""
    found: list[tuple[str, Any]] = []
    prefixes = tuple(f"{package}." for package in packages or ("vllm",))
    for name, module in list(sys.modules.items()):
        if f"{name}.".startswith(prefixes) and isinstance(module, ModuleType):
            for key, value in list(vars(module).items()):
                if key.startswith(_FOREIGN):
                    continue
                found.append((f"{name}.{key}", value))
                found.extend(_inside(f"{name}.{key}", value, name))
    return tuple(found)


def _inside(where: str, value: Any, module: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, type) and value.__module__ == module:
        yield f"{where}(bases)", value.__bases__
        for key, member in list(vars(value).items()):
            yield f"{where}.{key}", member
            nested = isinstance(member, type) and member.__qualname__ == f"{value.__qualname__}.{key}"
            if nested or isinstance(member, (FunctionType, dict, list, set)):
                yield from _inside(f"{where}.{key}", member, module)
    elif isinstance(value, FunctionType):
        yield f"{where}(defaults)", value.__defaults__
    elif isinstance(value, dict):
        for key, member in list(value.items()):
            yield f"{where}[{key!r}]", member
    elif isinstance(value, (list, set)):
        yield f"{where}(length)", len(value)


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    """Return the names that lead to another object now, and those that are new in modules that were there before."""
    old, new = dict(before), dict(after)
    modules = {name for name, value in before if name.endswith(".__spec__")}
    changed = [name for name, value in old.items() if not _same(value, new.get(name, new)) and not _grows(name)]
    known = {module.removesuffix(".__spec__") for module in modules}
    added = [name for name in new if name not in old and _module_of(name, known) and not _grows(name)]
    return sorted([*changed, *(f"{name} (new)" for name in added if not isinstance(new[name], ModuleType))])


def _same(one: Any, other: Any) -> bool:
    return one is other or (isinstance(one, (tuple, int, str)) and type(one) is type(other) and one == other)


def _grows(name: str) -> bool:
    return name.rpartition(".")[2].partition("[")[0] in _CACHES or "(length)" in name


def _module_of(name: str, known: set[str]) -> bool:
    # A name inside a class or container of a module, or of the module itself; not a submodule that came later.
    plain = name.partition("[")[0].partition("(")[0]
    while plain:
        plain = plain.rpartition(".")[0]
        if plain in known:
            return True
        if f"{plain}" in sys.modules:
            return False
    return False


def leftovers(*origins: str) -> list[str]:
    """Return the names in vLLM that lead to a wrapper, or to something that the modules `origins` defined."""
    from ascend_overlay.patches.wrappers import made_by_us

    return [name for name, value in snapshot() if made_by_us(value) or _origin(value) in origins]


def _origin(value: Any) -> str | None:
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    if isinstance(value, property):
        value = value.fget
    # Of anything else no attribute is asked: vLLM has objects that import something when they are touched.
    if isinstance(value, FunctionType):
        return str(value.__globals__.get("__name__"))
    return value.__module__ if isinstance(value, type) else None


@contextlib.contextmanager
def one_rank(folder: Path) -> Iterator[None]:
    """Have vLLM's process groups, with this process as their only member."""
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.distributed import parallel_state

    with set_current_vllm_config(VllmConfig()):
        parallel_state.init_distributed_environment(1, 0, f"file://{folder / 'rendezvous'}", 0, "gloo")
        parallel_state.ensure_model_parallel_initialized(1, 1)
    try:
        yield
    finally:
        parallel_state.destroy_model_parallel()
        parallel_state.destroy_distributed_environment()
