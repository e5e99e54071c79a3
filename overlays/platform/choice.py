"""Whether vLLM is told of the platform, and what is said where it runs on another one beside an NPU."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import ascend_overlay
from ascend_overlay import process, settings, versions
from ascend_overlay.errors import ConfigError
from ascend_overlay.overlays.platform import hindrances

PATH = "ascend_overlay.overlays.platform.npu.NPUPlatform"
_PLUGIN = "ascend_overlay"
"""What vLLM calls the plugin that brings the platform."""
_OTHERS = ("vllm.platforms.interface.UnspecifiedPlatform", "vllm.platforms.cpu.CpuPlatform")
# A child of vLLM's logger, so that it is shown where and how vLLM's own messages are.
_logger = logging.getLogger("vllm.ascend_overlay")
_said: set[str] = set()


def offered() -> dict[str, str]:
    """Return the platform by the name of its overlay, where there is an NPU for it; else nothing, and say why."""
    reason = hindrances.installation() or hindrances.device()
    if reason is None:
        return {"platform": PATH}
    text = f"vLLM is not given the NPU's platform: {reason}"
    ascend_overlay.note("platform", text)
    # Who installs torch_npu wants an NPU.
    if hindrances.other_platform() is None:
        _say(text)
    return {}


def resolve(wrapped: Callable[..., str], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Say so where vLLM chooses another platform beside an NPU.

    Raises:
        ConfigError: somebody else's platform claims this machine, too.
    """
    try:
        chosen = wrapped(*args, **kwargs)
    except RuntimeError as error:
        # vLLM names the plugins between which it does not choose; whatever else it raises is none of ours.
        if f"'{_PLUGIN}'" not in str(error):
            raise
        raise ConfigError(
            f"two platforms claim this machine, of which vLLM {versions.installed('vllm')} takes one: {error}. Leave "
            f"the others out by VLLM_PLUGINS={_PLUGIN}, with the names of the plugins of vLLM that are to stay, or "
            f"this library's by {settings.current().advice('exclude', 'platform')}."
        ) from error
    _complain_about(chosen)
    return chosen


def look_back() -> None:
    """Say so where vLLM has chosen another platform beside an NPU already."""
    chosen = getattr(sys.modules.get("vllm.platforms"), "_current_platform", None)
    if chosen is not None:
        _complain_about(f"{type(chosen).__module__}.{type(chosen).__qualname__}")


def _complain_about(chosen: str) -> None:
    if chosen not in _OTHERS or hindrances.installation() or hindrances.device():
        return
    what = "vLLM runs on the CPU" if chosen == _OTHERS[1] else "vLLM has found no device"
    text = (
        f"there is an NPU here, and {what} ({chosen}): {_why()}. Then start anew; "
        f"`ascend-overlay list` shows what would be enabled"
    )
    ascend_overlay.note("platform", text)
    _say(text[0].upper() + text[1:])


def _say(text: str) -> None:
    """Warn, once; the children of this process would all say it again."""
    if process.role() == "main" and text not in _said:
        _said.add(text)
        _logger.warning("%s.", text)


def _why() -> str:
    """Return why vLLM was not given the platform, and what to do."""
    if os.environ.get("VLLM_TARGET_DEVICE") == "cpu":
        return "VLLM_TARGET_DEVICE=cpu asks for it; unset it"
    allowed = os.environ.get("VLLM_PLUGINS")
    if allowed is not None and _PLUGIN not in allowed.split(","):
        return f"VLLM_PLUGINS={allowed!r} leaves out the plugin {_PLUGIN}, which brings the platform; add it"
    return "the overlay `platform` was not enabled when vLLM chose; enable it before vLLM is imported"
