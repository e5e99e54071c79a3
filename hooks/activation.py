"""The ways in. All of them end in `start`, which is enable() with the settings of the environment.

Runs in every Python process of an activated environment, so nothing is imported here until vLLM is.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_TRIGGER = "vllm"


class _Trigger:
    """A finder that finds nothing: the first import of vLLM starts the overlays."""

    def find_spec(
        self, fullname: "str", path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if fullname != _TRIGGER:
            return None
        from ascend_overlay.finders import ask_others

        disarm()
        try:
            # Programs ask for a vLLM that is not there, and take no for an answer.
            if ask_others(self, fullname, path, target) is None:
                arm()
                return None
            start()
        except BaseException:
            # Whoever catches this and imports vLLM again must not get it without overlays.
            arm()
            raise
        # Not None: the import system is in the middle of a list of finders that has just changed.
        return ask_others(self, fullname, path, target)


_trigger = _Trigger()


def arm() -> None:
    """Start the overlays when vLLM is first imported, or now where it is already."""
    if _TRIGGER in sys.modules:
        start()
    elif _trigger not in sys.meta_path:
        sys.meta_path.insert(0, _trigger)


def disarm() -> None:
    """Take the finder out again."""
    if _trigger in sys.meta_path:
        sys.meta_path.remove(_trigger)


def start() -> None:
    """Enable what the environment asks for; nothing where it asks for nothing."""
    from ascend_overlay.settings import requested

    if requested():
        from ascend_overlay.api import enable_from_environment

        enable_from_environment()


def vllm_plugin() -> None:
    """vLLM's general plugin: the safety net for a process that no other way reached. Inert unless asked for."""
    start()


def arm_asked_for() -> None:
    """Arm what the environment asks for: the overlays, a software NPU, or both."""
    arm_software_npu()
    if _asks("ASCEND_OVERLAY"):
        arm()


def _asks(variable: "str") -> bool:
    return os.environ.get(variable, "").lower() not in ("", "0", "false", "no", "off")


def arm_software_npu() -> None:
    """Have a software NPU in this process where the environment asks for one (ASCEND_OVERLAY_NPU=software)."""
    if _asks("ASCEND_OVERLAY_NPU"):
        from ascend_overlay.npu.software import arrival

        arrival.arm()


def torch_backend() -> None:
    """Torch's backend: the safety net for a process that no other way reached. Inert unless asked for."""
    arm_software_npu()
