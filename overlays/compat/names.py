"""Names that have moved: found on demand, noted once for each module that asks."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import ascend_overlay
from ascend_overlay import versions
from ascend_overlay.errors import did_you_mean

_UNINTERESTING = ("importlib", "ascend_overlay", "wrapt")

_UTILS = {
    "argparse_utils": ["FlexibleArgumentParser"],
    "async_utils": ["make_async", "merge_async_iterators", "collect_from_async_generator", "in_loop"],
    "cache": ["LRUCache"],
    "collection_utils": ["chunk_list", "flatten_2d_lists", "full_groupby", "is_list_of", "swap_dict_values"],
    "counter": ["AtomicCounter", "Counter"],
    "func_utils": ["get_allowed_kwarg_only_overrides", "identity", "run_once", "supports_kw"],
    "hashing": ["sha256", "sha256_cbor", "get_hash_fn_by_name"],
    "import_utils": [
        "LazyLoader",
        "PlaceholderModule",
        "get_vllm_optional_dependencies",
        "import_from_path",
        "import_pynvml",
        "resolve_obj_by_qualname",
    ],
    "math_utils": ["cdiv", "next_power_of_2", "round_down", "round_up"],
    "mem_constants": ["GB_bytes", "GiB_bytes", "MB_bytes", "MiB_bytes"],
    "mem_utils": [
        "DeviceMemoryProfiler",
        "MemoryProfilingResult",
        "MemorySnapshot",
        "get_max_shared_memory_bytes",
    ],
    "network_utils": [
        "close_sockets",
        "find_process_using_port",
        "get_distributed_init_method",
        "get_ip",
        "get_loopback_ip",
        "get_open_port",
        "get_open_zmq_inproc_path",
        "get_open_zmq_ipc_path",
        "get_tcp_uri",
        "is_valid_ipv6_address",
        "make_zmq_path",
        "make_zmq_socket",
        "split_zmq_path",
        "zmq_socket_ctx",
    ],
    "platform_utils": ["cuda_get_device_properties", "cuda_is_initialized", "is_pin_memory_available"],
    "system_utils": [
        "decorate_logs",
        "find_loaded_library",
        "get_mp_context",
        "kill_process_tree",
        "set_process_title",
        "set_ulimit",
        "unique_filepath",
        "update_environment_variables",
    ],
    "tensor_schema": ["TensorSchema", "TensorShape"],
    "torch_utils": [
        "STR_DTYPE_TO_TORCH_DTYPE",
        "TORCH_DTYPE_TO_NUMPY_DTYPE",
        "common_broadcastable_dtype",
        "create_kv_caches_with_random",
        "create_kv_caches_with_random_flash",
        "current_stream",
        "direct_register_custom_op",
        "get_dtype_size",
        "get_kv_cache_torch_dtype",
        "is_lossless_cast",
        "is_torch_equal_or_newer",
        "kv_cache_dtype_str_to_dtype",
        "make_ndarray_with_pad",
        "make_tensor_with_pad",
        "set_default_torch_num_threads",
        "supports_xpu_graph",
        "weak_ref_tensor",
        "weak_ref_tensors",
    ],
}


def forwarder(alias: str, table: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a module `__getattr__` that finds the names of `table` where they are today.

    Args:
        alias: the module that the names are asked of.
        table: name -> "module:name", or "module" for a module.
    """

    def find(name: str) -> Any:
        if name not in table:
            known = [known for known in table if not known.startswith("_")]
            raise AttributeError(f"module {alias!r} has no attribute {name!r}.{did_you_mean(name, known)}")
        module, _, attribute = table[name].partition(":")
        try:
            found = importlib.import_module(module)
            value = getattr(found, attribute) if attribute else found
        except (ImportError, AttributeError) as error:
            raise AttributeError(
                f"{alias}.{name} was {module}:{attribute} once, but vLLM {versions.installed('vllm')} does not have "
                f"that: {error}"
            ) from error
        if attribute:
            note_use(f"{alias}.{name}", f"from {_public(module, attribute)} import {attribute}")
        return value

    return find


def note_use(what: str, instead: str) -> None:
    """Note in the ledger that the calling module uses `what`, and what to write instead."""
    ascend_overlay.note("compat", f"{_user()} uses {what}; write instead: {instead}")


def _public(module: str, attribute: str) -> str:
    """Return where a user imports a name from: an adapter of ours stands for vLLM's own."""
    return _ADAPTED.get((module, attribute), module)


_ADAPTERS = "ascend_overlay.overlays.compat.attention"
_ADAPTED = {
    (_ADAPTERS, "Attention"): "vllm.model_executor.layers.attention",
    ("vllm.model_executor.layers.attention.attention", "Attention"): "vllm.model_executor.layers.attention",
}


def _user() -> str:
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        module = str(frame.f_globals.get("__name__", "?"))
        if not any(module == name or module.startswith(f"{name}.") for name in _UNINTERESTING):
            return module
    return "?"


@functools.cache
def _utils_table() -> dict[str, str]:
    return {name: f"vllm.utils.{module}:{name}" for module, names in _UTILS.items() for name in names}


def of_utils(name: str) -> Any:
    """Module `__getattr__` of vllm.utils, whose functions live in its submodules now."""
    return forwarder("vllm.utils", _utils_table())(name)


def of_model_executor(name: str) -> Any:
    """Module `__getattr__` of vllm.model_executor."""
    table = {"SamplingMetadata": "vllm.v1.sample.metadata:SamplingMetadata"}
    return forwarder("vllm.model_executor", table)(name)
