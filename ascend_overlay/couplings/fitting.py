"""Whether an overlay, or one of its patches, is for a certain vLLM: its ranges, and the conditions that can be told."""

from __future__ import annotations

from ascend_overlay import versions
from ascend_overlay.errors import ConfigError
from ascend_overlay.overlay import Overlay
from ascend_overlay.patches import Patch


def misfit(overlay: Overlay, patch: Patch | None, release: str | None) -> str | None:
    """Return why the release of a vLLM rules out a patch, or (None) an overlay; None where it does not.

    Args:
        overlay: the overlay.
        patch: one of its patches, or None: the overlay as a whole.
        release: that of the vLLM; None: not known, so that no range rules anything out.
    """
    if release is None:
        return None
    whole = overlay.ranges.get("vllm")
    if not versions.in_range(whole, release, whose=overlay.name):
        return f"{overlay.name} is for vllm {whole}"
    if patch is not None and not versions.in_range(patch.vllm, release, whose=overlay.name):
        return f"{overlay.name} patches {patch.target} in vllm {patch.vllm} only"
    return None


def unmet(overlay: Overlay | None, patch: Patch | None) -> str | None:
    """Return which condition rules out a patch, or (None) an overlay, in this environment; None where none does.

    Raises:
        ConfigError: a condition cannot be evaluated.
    """
    whose = f"overlay {overlay.name!r}" if overlay is not None else "a patch"
    for condition in (each.when for each in (overlay, patch) if each is not None):
        # What depends on the process, or on a vLLM that runs, holds somewhere.
        if condition is None or condition.late or condition.by_role:
            continue
        try:
            why = condition.why_not()
        except Exception as error:
            raise ConfigError(
                f"the condition {condition.text!r} of {whose} cannot be evaluated: {type(error).__name__}: {error}"
            ) from error
        if why is not None:
            return f"{overlay.name}: {why}" if overlay is not None else why
    return None


def class_of(target: str) -> str:
    """Return a target without the member of a class: "module:Class" of "module:Class.method"."""
    module, _, path = target.partition(":")
    return f"{module}:{path.partition('.')[0]}"


def rules_out(overlay: Overlay, target: str, release: str | None) -> str | None:
    """Return why nothing that `overlay` has for the class of `target` is for a vLLM of `release`, or None.

    An overlay that has no patch of that class serves it by what it calls, and is looked at as a whole.
    """
    found: list[Patch | None] = [each for each in overlay.patches if class_of(each.target) == class_of(target)]
    reasons = [misfit(overlay, patch, release) for patch in found or [None]]
    return reasons[0] if all(reasons) else None
