"""Putting the reference kernels behind torch.ops.npu."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterable, Mapping
from types import MappingProxyType, ModuleType
from typing import Any

import torch

from ascend_overlay import api, availability, settings, versions
from ascend_overlay.errors import ConflictError, PluginError, TargetError, did_you_mean
from ascend_overlay.npu import reference, tracing
from ascend_overlay.npu.kernel import ReferenceKernel

_OURS = "ascend_overlay"
_Library: Any = torch.library.Library


class _Registry:
    """The reference kernels of this process, and the two torch libraries that hold their registrations.

    Attributes:
        kernels: operator name -> the kernel and who contributed it.
        defined: operators that torch_npu did not bring, so that schema and fake kernel are ours.
        on_cpu: operators whose CPU kernel is ours.
    """

    def __init__(self) -> None:
        self.kernels: dict[str, tuple[ReferenceKernel, str]] = {}
        self.defined: list[str] = []
        self.on_cpu: list[str] = []
        self.lock = threading.RLock()
        self._schemas = _Library("npu", "FRAGMENT")
        self._implementations: Any = None

    def add(self, kernel: ReferenceKernel, contributor: str) -> bool:
        """Take up a kernel; return whether it is new."""
        known = self.kernels.get(kernel.name)
        if known is None:
            self.kernels[kernel.name] = (kernel, contributor)
            return True
        if known[0].schema != kernel.schema:
            raise ConflictError(
                f"the operator npu::{kernel.name} has two schemas: {known[1]} declares {known[0].schema!r}, "
                f"{contributor} declares {kernel.schema!r}. torch_npu has one; leave the plugin out that is wrong."
            )
        if known[0] is not kernel:
            api.note("", f"npu::{kernel.name}: the reference kernel of {known[1]} is used, not that of {contributor}")
        return False

    def place(self, kernel: ReferenceKernel) -> None:
        """Register what torch_npu does not: schema, fake kernel, CPU kernel."""
        name = f"npu::{kernel.name}"
        genuine = _schema_of(kernel.name)
        if genuine is None:
            self._schemas.define(kernel.schema, tags=(torch.Tag.pt2_compliant_tag,))
            torch.library.register_fake(name, kernel.fake, lib=self._schemas)
            self.defined.append(kernel.name)
        elif reason := _agreement().unusable(kernel.schema, str(genuine)):
            version = versions.installed("torch_npu")
            api.note("", f"{name}: the operator of torch_npu {version} {reason}; it runs without a CPU kernel")
            return
        elif not torch._C._dispatch_has_kernel_for_dispatch_key(name, "Meta"):
            # Without one, no graph that calls the operator can be traced.
            torch.library.register_fake(name, kernel.fake, lib=self._schemas)
        if not torch._C._dispatch_has_kernel_for_dispatch_key(name, "CPU"):
            self.on_cpu.append(kernel.name)

    def implement(self, operators: Iterable[str]) -> None:
        """Put CPU kernels in force, and the counting around every kernel of `operators` if that is on."""
        if self._implementations is None:
            self._implementations = _Library("npu", "IMPL")
        library, counted = self._implementations, tracing.active()
        for name in operators:
            ours = name in self.on_cpu
            if ours:
                kernel = self.kernels[name][0]
                library.impl(name, tracing.counting(name, kernel.cpu) if counted else kernel.cpu, "CPU")
            if counted:
                tracing.count_others(library, name, ours=ours)

    def implement_anew(self) -> None:
        """Put all CPU kernels in force again, with or without counting."""
        if self._implementations is not None:
            self._implementations._destroy()
            self._implementations = None
        self.implement(self.kernels)


_registry = _Registry()


def load(*operators: str) -> None:
    """Make ``torch.ops.npu`` callable on this machine, and see that it has the `operators`.

    Where torch_npu is present, its registrations stay as they are, and an operator without a CPU kernel or without a
    meta kernel gets ours. Where it is not, schema, CPU kernel and fake kernel are ours. Plugins are asked for their
    kernels each time. May be called any number of times, from any thread.

    Releases of torch_npu differ. Where the schema of one of the `operators` is not that of our reference kernel, the
    source of the calling module is read, and a call in it that this release would refuse is refused here.

    Args:
        operators: names without the namespace; none for all that there are. Their calls are counted where counting is
            on (tracing.py).

    Raises:
        ConflictError: a plugin declares another schema for an operator that is known.
        PluginError: a plugin raises, or contributes something else than a ReferenceKernel.
        TargetError: an operator exists neither in torch_npu nor as a reference kernel, or torch_npu is there and does
            not have it, or has it without an argument that the calling module passes.
    """
    caller = sys._getframe(1).f_globals
    # Not under the lock: both may import, and whoever imports may be waiting for the lock.
    _import_genuine()
    contributions = _contributions(operators or reference.names())
    with _registry.lock:
        added = [kernel for kernel, contributor in contributions if _registry.add(kernel, contributor)]
        for kernel in added:
            _registry.place(kernel)
        _registry.implement(kernel.name for kernel in added)
        for name in operators:
            _require(name, caller)
        tracing.expect(operators)


def kernels() -> Mapping[str, ReferenceKernel]:
    """Return the reference kernels known so far, by the names of their operators."""
    return MappingProxyType({name: kernel for name, (kernel, _) in _registry.kernels.items()})


def _import_genuine() -> None:
    # Defining its operators first would make a later import of torch_npu fail.
    if "torch_npu" not in sys.modules and availability.torch_npu_installed() and availability.cann_found():
        importlib.import_module("torch_npu")


def _contributions(operators: Iterable[str]) -> list[tuple[ReferenceKernel, str]]:
    """Return our kernels of `operators` and all that plugins have, each with its contributor."""
    found = []
    for contributor, answer in api.contributions("ascend_overlay_kernels"):
        if not isinstance(answer, ReferenceKernel):
            raise PluginError(f"{contributor} contributes {answer!r}, which is not a ReferenceKernel.")
        try:
            torch._C.parse_schema(answer.schema)
        except RuntimeError as error:
            raise PluginError(
                f"{contributor} contributes a reference kernel with the schema {answer.schema!r}, which torch cannot "
                f"read: {str(error).strip()}"
            ) from None
        found.append((answer, contributor))
    # A name that a plugin has, too, is looked at whether it is asked for or not.
    ours = reference.kernels([*operators, *(kernel.name for kernel, _ in found)])
    return [*((kernel, _OURS) for kernel in ours), *found]


def _agreement() -> ModuleType:
    # Imported where there is a torch_npu to agree with: importing vLLM waits for what is imported here.
    return importlib.import_module("ascend_overlay.npu.agreement")


def _schema_of(name: str) -> torch.FunctionSchema | None:
    operator, _, which = name.partition(".")
    overloads = [
        schema for schema in torch._C._jit_get_schemas_for_operator(f"npu::{operator}") if schema.overload_name == which
    ]
    return overloads[0] if overloads else None


def _require(name: str, caller: Mapping[str, Any]) -> None:
    schema = _schema_of(name)
    genuine = sys.modules.get("torch_npu") is not None
    known = _registry.kernels.get(name)
    if schema is None:
        where = f"torch_npu {versions.installed('torch_npu')}" if genuine else "the reference kernels"
        hint = did_you_mean(name, {*_registry.kernels, *reference.names()})
        raise TargetError(
            f"there is no operator npu::{name} in {where}.{hint} Install a torch_npu that has it, or contribute a "
            f"reference kernel with the hook ascend_overlay_kernels."
        )
    if genuine and known is not None:
        _agreement().demand(known[0].schema, None if name in _registry.defined else str(schema), caller)


def _settings_changed() -> None:
    with _registry.lock:
        if tracing.follow_settings() and _registry.kernels:
            _registry.implement_anew()


tracing.follow_settings()
settings.on_change(_settings_changed)
