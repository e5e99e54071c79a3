"""`ascend-overlay` in a process whose vLLM looks as one that was built with VLLM_TARGET_DEVICE=empty does."""

from __future__ import annotations

import importlib.metadata

from npu_worker import without_compiled_parts

from ascend_overlay.commands.cli import main

_genuine = importlib.metadata.version


def _version(name: str) -> str:
    return f"{_genuine(name).partition('+')[0]}+empty" if name == "vllm" else _genuine(name)


if __name__ == "__main__":
    importlib.metadata.version = _version
    without_compiled_parts()
    main(prog_name="ascend-overlay")
