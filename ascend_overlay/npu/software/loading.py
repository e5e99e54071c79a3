"""The runtime is loaded into a process, under the names of CANN's libraries, before anything asks for those."""

from __future__ import annotations

import ctypes
import os

from ascend_overlay.errors import ActivationError
from ascend_overlay.npu.software import build
from ascend_overlay.npu.software.build import Built
from ascend_overlay.npu.software.options import Options

_loaded: Built | None = None


def load_runtime() -> Built:
    """Load the runtime, built if need be, and return where it is. May be called any number of times.

    Raises:
        ActivationError: the process has CANN's own libraries already.
        ConfigError: the options mean nothing, or the runtime cannot be built.
    """
    global _loaded
    if _loaded is not None:
        return _loaded
    options = Options.from_env() or Options()
    # In the form that the runtime reads.
    os.environ.update(options.to_env())
    found = build.built()
    for library in (found.runtime, *sorted(found.libraries.glob("lib*.so"))):
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    if not _is_ours():
        raise ActivationError(
            "the software NPU was asked for, but this process has CANN's own libraries already. Unset "
            "ASCEND_OVERLAY_NPU to use the card, or start without CANN's set_env.sh."
        )
    _loaded = found
    return found


def _is_ours() -> bool:
    try:
        ctypes.CDLL("libascendcl.so").software_npu_graphs  # noqa: B018
    except AttributeError:
        return False
    return True
