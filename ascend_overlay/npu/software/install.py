"""The kernels are put behind torch_npu's operators: every operator of aten, npu and c10d by its CPU kernel."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator

import torch

from ascend_overlay.npu.software import collectives, loading, report, variants
from ascend_overlay.npu.software.native_calls import Native
from ascend_overlay.npu.software.options import Options

# Torch_npu's own do their work without a kernel of the device: they make, resize and reshape tensors.
_KEPT = {
    *("empty.memory_format", "empty_strided", "empty_like", "_copy_from_and_resize", "record_stream", "is_set_to"),
    *("set_", "set_.source_Storage", "set_.source_Storage_storage_offset", "set_.source_Tensor", "storage_resize_"),
    *("resize_", "resize_as_", "is_pinned", "_pin_memory", "_reshape_alias", "_unsafe_view"),
}
_KEPT_OF_NPU = {
    *("get_npu_format", "npu_change_data_ptr", "_npu_format_cast.aclnn"),
    *("_npu_fused_infer_attention_score_infer_output", "_npu_fused_infer_attention_score_v2_infer_output"),
}
_COPIES = {"copy_", "_copy_from", "_to_copy"}

_native: Native | None = None
_lock = threading.Lock()


def native() -> Native | None:
    """Return the native parts of this process; None where no software NPU is in force."""
    return _native


def install() -> None:
    """Put the kernels in force, in a process that has imported torch_npu. May be called any number of times."""
    global _native
    with _lock:
        if _native is not None:
            return
        found = Native(loading.load_runtime())
        # What operators make of tensors without content, which recorded calls are asked for.
        importlib.import_module("torch._meta_registrations")
        found.install_copies()
        found.install("aten", _of_aten())
        found.install("npu", _of_npu())
        found.install_parts(_composite())
        variants.install()
        collectives.install(found)
        _native = found
    options = Options.from_env()
    if options is not None and options.report:
        report.start(found, options.report)


def _names(space: str) -> Iterator[str]:
    for name in torch._C._dispatch_get_all_op_names():
        if name.startswith(f"{space}::"):
            yield name.partition("::")[2]


def _has(name: str, key: str) -> bool:
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(name, key))


def _of_aten() -> list[str]:
    """Return what runs by its CPU kernel: what has one, or torch_npu has one for, but for torch_npu's views."""
    return [
        name
        for name in _names("aten")
        if name not in _KEPT | _COPIES
        and (_has(f"aten::{name}", "CPU") or _has(f"aten::{name}", "PrivateUse1"))
        and not (_is_view(name) and _has(f"aten::{name}", "PrivateUse1"))
    ]


def _of_npu() -> list[str]:
    return [name for name in _names("npu") if name not in _KEPT_OF_NPU and _has(f"npu::{name}", "PrivateUse1")]


def _composite() -> list[str]:
    return [
        name
        for name in _names("aten")
        if _has(f"aten::{name}", "AutogradPrivateUse1") and _has(f"aten::{name}", "CompositeImplicitAutograd")
    ]


def _is_view(name: str) -> bool:
    base, _, overload = name.partition(".")
    for schema in torch._C._jit_get_schemas_for_operator(f"aten::{base}"):
        if schema.overload_name == overload:
            return any(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)
    return False
