"""The file that the self-test leaves: to be attached to an issue, so it has nothing in it that is nobody's business."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ascend_overlay import redaction
from ascend_overlay.commands import troubles
from ascend_overlay.commands.demo.checks import Check
from ascend_overlay.commands.demo.watching import Run

VARIABLES = (
    "ASCEND_OVERLAY",
    "ASCEND_RT_VISIBLE_DEVICES",
    "PYTORCH_NPU_ALLOC_CONF",
    "TORCH_DEVICE_BACKEND_AUTOLOAD",
    "VLLM_PLUGINS",
    "VLLM_TARGET_DEVICE",
)
"""The variables of the environment that are told; no other is."""

_LINES = 60
"""So many lines of the log of a step that failed."""


def outcome(run: Run, found: list[Check], findings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the file has of a step; the end of its log where it failed."""
    ok = all(check.ok for check in found)
    return {
        "step": run.name,
        "ok": ok,
        "checks": [asdict(check) for check in found],
        "seconds": round(run.seconds, 1),
        "status": run.status,
        "phases": run.phases,
        "ended_in_phase": run.phase,
        "found": dict(findings),
        **({} if ok else {"log": troubles.tail(run.log, _LINES)}),
    }


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write the file, whole, over one that is there.

    Raises:
        OSError: it cannot be written.
    """
    scratch = path.with_name(f".{path.name}.part")
    scratch.write_text(f"{json.dumps(clean(content, os.environ), indent=1, default=str)}\n", encoding="utf-8")
    scratch.replace(path)


def clean(content: Any, environ: Mapping[str, str]) -> Any:
    """Return `content` without the name of the home folder, and without what variables with secrets in them say."""
    secrets = [value for name, value in environ.items() if redaction.SECRET.search(name) and len(value) > 3]
    home = environ.get("HOME", "")

    def cleaned(value: Any) -> Any:
        if isinstance(value, str):
            for secret in secrets:
                value = value.replace(secret, redaction.HIDDEN)
            value = redaction.IN_ADDRESS.sub(redaction.HIDDEN, value)
            return value.replace(home, "~") if len(home) > 1 else value
        if isinstance(value, Mapping):
            return {cleaned(key): cleaned(item) for key, item in value.items()}
        return [cleaned(item) for item in value] if isinstance(value, (list, tuple)) else value

    return cleaned(content)
