"""vLLM's way to a platform: the entry point of the group ``vllm.platform_plugins``.

vLLM calls it in every process where it first asks for its platform, twice where it takes the answer. It is called
whether anybody enabled overlays or not, so where torch_npu is not installed it looks no further.
"""

from __future__ import annotations

import logging

from ascend_overlay import availability, process, settings

# A child of vLLM's logger, so that it is shown where and how vLLM's own messages are.
_logger = logging.getLogger("vllm.ascend_overlay")
_failed = False


def vllm_platform() -> str | None:
    """Return the path of the platform that an overlay brings for this machine, with the overlays enabled; else None.

    An NPU that vLLM does not see is of no use, so nobody has to ask for it: where the environment says nothing of
    overlays, all that fit are enabled. ASCEND_OVERLAY=0 and settings that leave the platform's overlay out hold.

    Raises:
        OverlayError: the overlays cannot be enabled.
    """
    global _failed
    if not availability.torch_npu_installed():
        return None
    from ascend_overlay.errors import OverlayError

    try:
        return _platform()
    except OverlayError:
        # vLLM takes an error of the first call for a no, at its debug level, and would go on without a word. An answer
        # makes it call again, and then it does not catch.
        if _failed:
            raise
        _failed = True
        return "ascend_overlay"


def _platform() -> str | None:
    from ascend_overlay import api

    if settings.declined():
        api.note("platform", "vLLM is not given the NPU's platform: ASCEND_OVERLAY switches all overlays off")
        return None
    wanted = settings.current()
    api.check_settings(wanted)
    for _, (overlay, path) in api.contributions("ascend_overlay_platforms"):
        if not wanted.selects(overlay):
            text = f"vLLM is not given the NPU's platform: the settings leave the overlay `{overlay}` out"
            api.note(overlay, text)
            # Who names it knows; who names others may not. The children of this process would all say it again.
            if overlay not in wanted.exclude and process.role() == "main":
                _logger.warning("%s. Add it, or leave it out by name: ASCEND_OVERLAY=-%s.", text, overlay)
            continue
        api.enable_from_environment()
        entries = api.ledger().of(overlay)
        if any(entry.state in ("pending", "applied") for entry in entries):
            return str(path)
        reason = entries[0].reason if entries else "overlays were switched off in this process"
        api.note(overlay, f"vLLM is not given the NPU's platform: {reason}")
    return None
