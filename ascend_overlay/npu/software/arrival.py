"""A process learns of the software NPU: a finder that waits for torch and torch_npu.

Before either is imported, the runtime must be in the process: torch imports torch_npu at its own end, and torch_npu
needs CANN's libraries. After torch_npu the kernels go behind its operators. Runs at the start of every Python process,
so nothing is imported before it is needed.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


def arm() -> None:
    """Have the software NPU in this process as soon as torch_npu is imported; now, where it is already."""
    if "torch_npu" in sys.modules:
        _install()
    elif _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


class _Finder:
    """Finds nothing; the search for torch and torch_npu tells it that they are about to be imported."""

    def __init__(self) -> None:
        self._searching = False

    def find_spec(
        self, fullname: "str", path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if fullname not in ("torch", "torch_npu") or self._searching:
            return None
        from ascend_overlay.finders import ask_others

        self._searching = True
        try:
            spec = ask_others(self, fullname, path, target)
            if spec is not None:
                _prepare()
                if fullname == "torch_npu":
                    _install_after(spec)
        finally:
            self._searching = False
        return spec


def _prepare() -> None:
    """Build what is to be built, and load the runtime under CANN's names."""
    from ascend_overlay.npu.software import loading

    loading.load_runtime()


def _install_after(spec: "ModuleSpec") -> None:
    """Have the kernels installed once the module of `spec` has executed."""
    loader = spec.loader
    assert loader is not None
    execute = loader.exec_module

    def exec_module(module: "ModuleType") -> None:
        execute(module)
        disarm()
        _install()

    # On this loader, which is this module's alone; its class serves all others.
    loader.exec_module = exec_module  # type: ignore[method-assign]


def disarm() -> None:
    """Take the finder out again."""
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)


def _install() -> None:
    from ascend_overlay.npu.software import install

    install.install()


_finder = _Finder()
